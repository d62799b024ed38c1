//! Matrix products on AMX tiles: of `bf16` operands, and of `f32` ones as sums of `bf16` parts (see
//! [`F32Mode`](crate::F32Mode)).
//!
//! An operand is packed as parts ([`split`]) in panels of 32 lines and blocks of 32 steps ([`panels`]), each panel with the
//! verdict whether tiles may multiply it ([`range`]). The loops ([`driver`]) are those of Goto's algorithm again, over squares of 32 x
//! 32 of C. What multiplies is a [`Unit`]: the processor (`tile`), or in tests its model in plain code (`model`), so that
//! everything but the instructions themselves is tested on every machine.
//!
//! Where the last panel of A has no more than 16 lines, half of its tiles are spared. Products of few lines or steps leave most of a
//! tile empty and go to the vector kernels.

pub(super) mod bytes;
mod driver;
#[cfg(test)]
mod model;
mod panels;
mod range;
mod split;
mod square;
mod strict;
#[cfg(test)]
mod tests;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tile;
mod words;

pub(super) use driver::run;
pub(in crate::cpu) use panels::Packer;
pub(super) use panels::Panels as Packed;
pub(in crate::cpu) use range::{Form, Head, Range, Way, factor, scale};
pub(in crate::cpu) use split::{channels, one_by_one, pairs};

use super::driver::Problem;
use super::kernel::Kernels;
use super::scalar::{GemmElement, Scalar};
use super::source::Operand;
use crate::cpu::isa::{self, Isa};
use half::{bf16, f16};
use std::any::TypeId;

/// Lines of a panel, and steps of a block: two tiles by one.
pub(in crate::cpu) const BLOCK: usize = 32;

/// The fewest columns of a product for which tiles pay.
const LEAST_LINES: usize = 16;

/// The fewest rows of a product for which tiles pay. They are mostly empty then, and what takes time is to read the other operand,
/// which in three parts takes more memory than in `f32`, and half as much in one.
fn least_rows(products: Products) -> usize {
    if products == Products::One { 2 } else { 12 }
}

/// A row of a tile: 16 pairs of `bf16`, the first of each in the lower half of its word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(64))]
pub(in crate::cpu) struct Row([u32; 16]);

impl Row {
    pub(in crate::cpu) const ZERO: Row = Row([0; 16]);
}

// SAFETY: all zeros are a row.
unsafe impl bytemuck::Zeroable for Row {}
// SAFETY: sixteen words fill the 64 bytes, and any words are a row.
unsafe impl bytemuck::Pod for Row {}

/// One square of work: `C[..32, ..32] = (add ? C : 0) + A·B` over some blocks of steps.
struct TileJob {
    /// A panel of A.
    a: *const Row,
    /// A panel of B.
    b: *const Row,
    /// Blocks of steps, at least one.
    blocks: usize,
    /// The square of C, of `i32` for bytes; its rows are contiguous.
    c: *mut f32,
    /// Distance between the rows of C, in values.
    c_row: isize,
    /// Whether to add to C. If not, C is only written.
    add: bool,
    /// What will be read soon, 768 bytes for each block; any address will do.
    ahead: *const Row,
}

/// A kernel for one number of products.
///
/// # Safety
/// The unit exists, [`configure`](Unit::configure) was called on this thread and not yet [`release`](Unit::release), and the pointers of the job
/// are valid for what the job says.
type TileFn = unsafe fn(&TileJob);

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
type PlaneFn = unsafe fn(&PlaneJob);

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
type LinesFn = unsafe fn(&LinesJob);

/// What multiplies tiles.
pub(super) struct Unit {
    /// Readies the tiles of this thread.
    configure: unsafe fn(),
    /// Gives them back.
    release: unsafe fn(),
    /// By [`Products`].
    products: [TileFn; 4],
    /// The same for the upper 16 lines of a panel of A and rows of C.
    short: [TileFn; 4],
    /// On bytes, by whether those of A have signs, then those of B; sums are `i32`.
    bytes: [TileFn; 4],
    /// The same for the upper half.
    short_bytes: [TileFn; 4],
    /// By [`Products`].
    correlations: [PlaneFn; 4],
    /// By [`Products`].
    gradients: [LinesFn; 4],
}

/// Which products of the parts of two numbers make up their product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::cpu) enum Products {
    /// hh: exact for `bf16`.
    One,
    /// hh, hm, mh.
    Three,
    /// hh, hm, mh, mm: exact for `f16`.
    Four,
    /// All but those below the last bit.
    Six,
}

impl Products {
    /// The parts of each operand.
    pub(in crate::cpu) fn parts(self) -> usize {
        match self {
            Products::One => 1,
            Products::Three | Products::Four => 2,
            Products::Six => 3,
        }
    }
}

/// The part of a table of kernels that is about tiles.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Tiles {
    unit: &'static Unit,
    /// For `f32` operands; none where they are multiplied strictly.
    f32: Option<Products>,
}

impl Tiles {
    /// For operands of the type of the results, which is summed in `f32`.
    pub(in crate::cpu) fn products(&self, result: TypeId) -> Option<Products> {
        match result {
            t if t == TypeId::of::<bf16>() => Some(Products::One),
            t if t == TypeId::of::<f16>() => Some(Products::Four),
            _ => self.f32,
        }
    }
}

/// The tables of the level: AVX-512's with tiles beside them.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) mod tables {
    use super::super::kernel::x86::AVX512_F32;
    use super::*;
    use crate::F32Mode;

    const fn table(f32: Option<Products>) -> Kernels<f32> {
        Kernels { isa: Isa::Amx, tiles: Some(Tiles { unit: &tile::UNIT, f32 }), ..AVX512_F32 }
    }

    static AUTO: Kernels<f32> = table(Some(Products::Six));
    static STRICT: Kernels<f32> = table(None);
    static FAST: Kernels<f32> = table(Some(Products::Three));
    static BF16: Kernels<f32> = table(Some(Products::One));

    /// The kernels for a mode.
    pub(in super::super) fn of_mode(mode: F32Mode) -> &'static Kernels<f32> {
        match mode {
            F32Mode::Auto => &AUTO,
            F32Mode::Strict => &STRICT,
            F32Mode::Fast => &FAST,
            F32Mode::Bf16 => &BF16,
        }
    }
}

/// A problem that tiles are to solve.
pub(super) struct Plan {
    unit: &'static Unit,
    products: Products,
}

/// How tiles solve a problem, if they should.
pub(super) fn plan<T: GemmElement>(kernels: &Kernels<T::Acc>, problem: &Problem<T>) -> Option<Plan> {
    let tiles = kernels.tiles?;
    let products = tiles.products(TypeId::of::<T>())?;
    let fits = |operand: &Operand<T::Acc>| match operand {
        Operand::Source(_) => true,
        Operand::Packed(packed) => packed.tiled().is_some_and(|packed| packed.products() == products),
    };
    (problem.m >= least_rows(products)
        && problem.n >= LEAST_LINES
        && problem.a.steps() >= BLOCK
        && fits(&problem.a)
        && fits(&problem.b))
    .then_some(Plan { unit: tiles.unit, products })
}

/// The tiles of a thread, as long as this lives.
struct Session(&'static Unit);

impl Session {
    fn new(unit: &'static Unit) -> Self {
        // SAFETY: a unit is in the tables of levels that the machine has only.
        unsafe { (unit.configure)() };
        Session(unit)
    }

    /// Runs a kernel, on the upper half of A and C if `short`.
    ///
    /// # Safety
    /// The pointers of the job are valid for what the job says.
    unsafe fn run(&self, products: Products, short: bool, job: &TileJob) {
        let table = if short { &self.0.short } else { &self.0.products };
        // SAFETY: the tiles are configured as long as the session lives; the rest is the caller's word.
        unsafe { (table[products as usize])(job) }
    }
}

/// How operands of a type are multiplied on tiles now.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Level {
    tiles: Tiles,
    pub(in crate::cpu) products: Products,
    /// The vectors for everything else.
    pub(in crate::cpu) isa: Isa,
}

impl Level {
    /// For operands and results of type T; none if tiles are not to multiply them.
    pub(in crate::cpu) fn now<T: GemmElement>() -> Option<Level> {
        let kernels = T::Acc::kernels(isa::isa());
        Level::new::<T>(kernels.tiles?, kernels.isa)
    }

    fn new<T: GemmElement>(tiles: Tiles, isa: Isa) -> Option<Level> {
        Some(Level { tiles, products: tiles.products(TypeId::of::<T>())?, isa })
    }

    /// The level of the model.
    #[cfg(test)]
    pub(in crate::cpu) fn model<T: GemmElement>(f32: Option<Products>) -> Option<Level> {
        let best = isa::available().last().copied().unwrap_or(Isa::Portable);
        Level::new::<T>(Tiles { unit: &model::UNIT, f32 }, best)
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

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: as in `new`.
        unsafe { (self.0.release)() }
    }
}
