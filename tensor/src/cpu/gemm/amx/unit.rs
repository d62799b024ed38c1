//! What multiplies tiles, and the work that it is given: a square of 32 x 32 of C at a time.

use super::{Level, Products};

/// A row of a tile: 16 pairs of `bf16`, the first of each in the lower half of its word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(64))]
pub(in crate::cpu) struct Row(pub(super) [u32; 16]);

impl Row {
    pub(in crate::cpu) const ZERO: Row = Row([0; 16]);
}

// SAFETY: all zeros are a row.
unsafe impl bytemuck::Zeroable for Row {}
// SAFETY: sixteen words fill the 64 bytes, and any words are a row.
unsafe impl bytemuck::Pod for Row {}

/// One square of work: `C[..32, ..32] = (add ? C : 0) + A·B` over some blocks of steps.
pub(super) struct TileJob {
    /// A panel of A.
    pub(super) a: *const Row,
    /// A panel of B.
    pub(super) b: *const Row,
    /// Blocks of steps, at least one.
    pub(super) blocks: usize,
    /// The square of C, of `i32` for bytes; its rows are contiguous.
    pub(super) c: *mut f32,
    /// Distance between the rows of C, in values.
    pub(super) c_row: isize,
    /// Whether to add to C. If not, C is only written.
    pub(super) add: bool,
    /// What will be read soon, 768 bytes for each block; any address will do.
    pub(super) ahead: *const Row,
}

/// A kernel for one number of products.
///
/// # Safety
/// The unit exists, [`configure`](Unit::configure) was called on this thread and not yet [`release`](Unit::release), and the pointers of the job
/// are valid for what the job says.
pub(super) type TileFn = unsafe fn(&TileJob);

/// One square of work where B lies in planes of words, each a pair of neighbouring steps: `C = A·B`, 32 x 32.
///
/// A block of 32 steps of B is, in each part, 16 rows of 32 words: a row is a plane from an offset on.
pub(in crate::cpu) struct PlaneJob {
    /// A panel of A.
    pub(in crate::cpu) a: *const Row,
    /// The planes of the first part.
    pub(in crate::cpu) planes: *const u32,
    /// Bytes from a part to the next.
    pub(in crate::cpu) part: usize,
    /// Bytes from a plane to the next.
    pub(in crate::cpu) row: usize,
    /// Where each block starts in the planes, in bytes.
    pub(in crate::cpu) offsets: *const usize,
    /// Blocks of steps, at least one.
    pub(in crate::cpu) blocks: usize,
    /// 32 rows of 32 values, one after the other.
    pub(in crate::cpu) c: *mut f32,
}

/// A kernel on planes for one number of products.
///
/// # Safety
/// As [`TileFn`], for the pointers of this job.
pub(super) type PlaneFn = unsafe fn(&PlaneJob);

/// One square of work where A lies in planes, one for each line, with neighbouring steps side by side: `C = (add ? C : 0) + A·B`.
pub(in crate::cpu) struct LinesJob {
    /// The first step of the first of 32 lines of A in the first part, wherever it is in its plane.
    pub(in crate::cpu) planes: *const u16,
    /// Bytes from a part to the next.
    pub(in crate::cpu) part: usize,
    /// Bytes from a plane to the next.
    pub(in crate::cpu) row: usize,
    /// A panel of B.
    pub(in crate::cpu) b: *const Row,
    /// Blocks of steps, at least one.
    pub(in crate::cpu) blocks: usize,
    /// 32 rows of 32 values, one after the other.
    pub(in crate::cpu) c: *mut f32,
    /// Whether to add to C. If not, C is only written.
    pub(in crate::cpu) add: bool,
}

/// A kernel on lines in planes for one number of products.
///
/// # Safety
/// As [`TileFn`], for the pointers of this job.
pub(super) type LinesFn = unsafe fn(&LinesJob);

/// What multiplies tiles.
pub(in crate::cpu::gemm) struct Unit {
    /// Readies the tiles of this thread.
    pub(super) configure: unsafe fn(),
    /// Gives them back.
    pub(super) release: unsafe fn(),
    /// By [`Products`].
    pub(super) products: [TileFn; 4],
    /// The same for the upper 16 lines of a panel of A and rows of C.
    pub(super) short: [TileFn; 4],
    /// On bytes, by whether those of A have signs, then those of B; sums are `i32`.
    pub(super) bytes: [TileFn; 4],
    /// The same for the upper half.
    pub(super) short_bytes: [TileFn; 4],
    /// By [`Products`].
    pub(super) correlations: [PlaneFn; 4],
    /// By [`Products`].
    pub(super) gradients: [LinesFn; 4],
}

/// The tiles of a thread, as long as this lives.
pub(super) struct Session(&'static Unit);

impl Session {
    pub(super) fn new(unit: &'static Unit) -> Self {
        // SAFETY: a unit is in the tables of levels that the machine has only.
        unsafe { (unit.configure)() };
        Session(unit)
    }

    /// Runs a kernel, on the upper half of A and C if `short`.
    ///
    /// # Safety
    /// The pointers of the job are valid for what the job says.
    pub(super) unsafe fn run(&self, products: Products, short: bool, job: &TileJob) {
        let table = if short { &self.0.short } else { &self.0.products };
        // SAFETY: the tiles are configured as long as the session lives; the rest is the caller's word.
        unsafe { (table[products as usize])(job) }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: as in `new`.
        unsafe { (self.0.release)() }
    }
}

/// The tiles of a thread for correlations, as long as this lives.
pub(in crate::cpu) struct Correlator {
    session: Session,
    products: Products,
}

impl Correlator {
    pub(in crate::cpu) fn new(level: Level) -> Self {
        Correlator { session: Session::new(level.tiles.unit), products: level.products }
    }

    /// Runs a kernel.
    ///
    /// # Safety
    /// The pointers of the job are valid for what the job says, with the parts of these products.
    pub(in crate::cpu) unsafe fn run(&self, job: &PlaneJob) {
        // SAFETY: the tiles are configured as long as the session lives; the rest is the caller's word.
        unsafe { (self.session.0.correlations[self.products as usize])(job) }
    }

    /// Runs a kernel on lines.
    ///
    /// # Safety
    /// As [`run`](Self::run), for this job.
    pub(in crate::cpu) unsafe fn add_lines(&self, job: &LinesJob) {
        // SAFETY: as above.
        unsafe { (self.session.0.gradients[self.products as usize])(job) }
    }
}
