//! Matrix products on AMX tiles: of `bf16` operands, and of `f32` ones as sums of `bf16` parts (see
//! [`F32Mode`](crate::F32Mode)).
//!
//! An operand is packed as parts ([`split`]) in panels of 32 lines and blocks of 32 steps ([`panels`]), each panel with the
//! verdict whether tiles may multiply it ([`range`]). The loops ([`driver`]) are those of Goto's algorithm again, over squares of 32 x
//! 32 of C. What multiplies is a [`Unit`]: the processor (`tile`), or in tests its model in plain code (`model`), so that
//! everything but the instructions themselves is tested on every machine.
//!
//! Products of fewer than 16 lines or 32 steps leave most of a tile empty and go to the vector kernels.

mod driver;
#[cfg(test)]
mod model;
mod panels;
mod range;
mod split;
mod strict;
#[cfg(test)]
mod tests;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tile;

pub(super) use driver::run;
pub(super) use panels::Panels as Packed;

use super::driver::Problem;
use super::kernel::Kernels;
use super::scalar::GemmElement;
use super::source::Operand;
use half::{bf16, f16};
use std::any::TypeId;

/// Lines of a panel, and steps of a block: two tiles by one.
const BLOCK: usize = 32;

/// The fewest lines on either side for which tiles pay.
const LEAST_LINES: usize = 16;

/// A row of a tile: 16 pairs of `bf16`, the first of each in the lower half of its word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(64))]
struct Row([u32; 16]);

impl Row {
    const ZERO: Row = Row([0; 16]);
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
    /// The square of C; its rows are contiguous.
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

/// What multiplies tiles.
struct Unit {
    /// Readies the tiles of this thread.
    configure: unsafe fn(),
    /// Gives them back.
    release: unsafe fn(),
    /// By [`Products`].
    products: [TileFn; 4],
}

/// Which products of the parts of two numbers make up their product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Products {
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
    fn parts(self) -> usize {
        match self {
            Products::One => 1,
            Products::Three | Products::Four => 2,
            Products::Six => 3,
        }
    }
}

/// The part of a table of kernels that is about tiles.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    unit: &'static Unit,
    /// For `f32` operands; none where they are multiplied strictly.
    f32: Option<Products>,
}

impl Tiles {
    /// For operands of the type of the results, which is summed in `f32`.
    fn products(&self, result: TypeId) -> Option<Products> {
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
    use crate::cpu::isa::Isa;

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
    (problem.m.min(problem.n) >= LEAST_LINES
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

    /// Runs a kernel.
    ///
    /// # Safety
    /// The pointers of the job are valid for what the job says.
    unsafe fn run(&self, products: Products, job: &TileJob) {
        // SAFETY: the tiles are configured as long as the session lives; the rest is the caller's word.
        unsafe { (self.0.products[products as usize])(job) }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: as in `new`.
        unsafe { (self.0.release)() }
    }
}
