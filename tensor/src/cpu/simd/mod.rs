//! Vectors of `f32`, the functions of [`Real`](crate::op::Real) on them, and the loops that map slices through an op.
//!
//! Every function is written once, in `math`, over the small trait `lanes::Lanes`; an instruction set is a thin
//! implementation of that trait. `f32` is one too, with a single lane: it gives the same bits as the vectors do, and it is the
//! reference that they are tested against. Doubles have functions of their own, in `math64`, over plain numbers: the compiler
//! makes vectors of the loops.

#[cfg(test)]
mod accuracy;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod fused;
pub(crate) mod half;
#[cfg(target_arch = "x86_64")]
mod halves;
pub(crate) mod lanes;
pub(crate) mod levels;
mod loops;
pub mod map;
mod math;
mod math64;
pub(crate) use math::{BELOW_UNIT, exp_below};
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
mod real;
pub(crate) mod scalar;
pub(crate) mod stream;
#[cfg(test)]
mod tests;
pub(crate) mod two;
