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
mod packed;
mod panels;
mod range;
mod rows;
mod split;
mod square;
mod strict;
#[cfg(test)]
mod tests;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tile;
mod unit;
mod words;

pub(super) use driver::run;
pub(super) use packed::Panels as Packed;
pub(in crate::cpu) use panels::Packer;
pub(in crate::cpu) use range::{Form, Head, Range, Way, factor, scale};
pub(in crate::cpu) use rows::{channels, one_by_one, pairs};
pub(in crate::cpu) use unit::{Correlator, LinesJob, PlaneJob, Row};

use super::driver::Problem;
use super::kernel::Kernels;
use super::scalar::{GemmElement, Scalar};
use super::source::Operand;
use crate::cpu::isa::{self, Isa};
use half::{bf16, f16};
use std::any::TypeId;
use unit::{Session, TileFn, TileJob, Unit};

/// Lines of a panel, and steps of a block: two tiles by one.
pub(in crate::cpu) const BLOCK: usize = 32;

/// The fewest columns of a product for which tiles pay.
const LEAST_LINES: usize = 16;

/// The fewest rows of a product for which tiles pay. They are mostly empty then, and what takes time is to read the other operand,
/// which in three parts takes more memory than in `f32`, and half as much in one.
fn least_rows(products: Products) -> usize {
    if products == Products::One { 2 } else { 12 }
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
