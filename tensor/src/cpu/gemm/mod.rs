//! Matrix products: `C = activation(beta·C + A·B + bias)` for matrices of any strides.
//!
//! The five blocking loops are written once (`driver`), over micro-kernels that are written once (`tile`) and
//! instantiated per type and instruction level (`kernel`), and over operands that can be anything that writes itself
//! as panels ([`PackSource`]): a strided matrix, an operand packed before ([`Packed`]), the virtual columns of a
//! convolution.
//!
//! What every path keeps to:
//! - With [`Beta::Zero`], C is never read.
//! - No product is skipped: 0 · inf is NaN.
//! - Half-precision operands are widened to `f32`, summed there and rounded once; integers wrap.
//! - The bits of the result depend on the operands' shapes and strides and on the instruction level, not on the threads.

#[cfg_attr(
    not(all(target_arch = "x86_64", target_os = "linux")),
    allow(dead_code, reason = "other machines have no tiles, and ask for none")
)]
pub(in crate::cpu) mod amx;
mod batch;
mod bytes;
mod driver;
mod epilogue;
mod few_bytes;
mod kernel;
mod matrix;
#[cfg(test)]
mod naive;
mod pack;
#[cfg(target_arch = "aarch64")]
mod pack_neon;
#[cfg(target_arch = "x86_64")]
mod pack_x86;
mod packed;
mod part;
mod plan;
mod scalar;
mod scratch;
mod skinny;
mod small;
mod source;
mod stream;
#[cfg(test)]
mod tests;
mod tile;
mod vector;
#[cfg(target_arch = "aarch64")]
mod vector_neon;
#[cfg(target_arch = "x86_64")]
mod vector_x86;

pub use batch::{BatchMut, BatchRef};
pub use bytes::{Byte, Pair, gemm_bytes};
pub use epilogue::{Activation, Beta, Bias, Epilogue};
pub use kernel::Kernels;
pub use matrix::{MatMut, MatRef};
pub use pack::{Cols, Rows};
pub use packed::{Packed, Side};
pub use scalar::{GemmElement, Scalar};
pub use source::{Block, Operand, PackSource};

pub(in crate::cpu) use part::gemm_part;
pub(in crate::cpu) use scratch::Scratch;
pub(in crate::cpu) use vector::{Lanes, Vector};
#[cfg(target_arch = "aarch64")]
pub(in crate::cpu) use vector_neon::{F32x4, F64x2};
#[cfg(target_arch = "x86_64")]
pub(in crate::cpu) use vector_x86::{F32x8, F32x16, F64x4, F64x8};

use crate::cpu::isa;
use driver::Problem;
use matrix::Target;

/// `C = activation(beta·C + A·B + bias)`.
///
/// # Shapes
/// - a: `[m, k]`, b: `[k, n]`, c: `[m, n]`; any may be empty. With `k = 0` the product is zero.
///
/// # Panics
/// If the shapes do not fit together.
pub fn gemm<T: GemmElement>(a: MatRef<T>, b: MatRef<T>, mut c: MatMut<T>, beta: Beta, epilogue: Epilogue<T>) {
    assert_eq!((c.rows(), c.cols()), (a.rows(), b.cols()), "the result has A's rows and B's columns");
    matrix_product(T::Acc::kernels(isa::isa()), &a, &b, c.target(), beta, &epilogue);
}

/// [`gemm`] for operands that pack themselves or were packed before.
///
/// The result may be of any type with the operands' accumulator: half-precision operands can give an `f32` result.
///
/// # Shapes
/// - a: m lines of k steps, b: n lines of k steps, c: `[m, n]`
///
/// # Panics
/// If the shapes do not fit together, if an operand was packed for the other side, or if both were packed, at different
/// instruction levels.
pub fn gemm_with<T: GemmElement>(
    a: Operand<T::Acc>,
    b: Operand<T::Acc>,
    mut c: MatMut<T>,
    beta: Beta,
    epilogue: Epilogue<T>,
) {
    assert_eq!((c.rows(), c.cols()), (a.lines(), b.lines()), "the result has A's rows and B's columns");
    epilogue.assert_fits(c.rows(), c.cols());
    let mut kernels = T::Acc::kernels(isa::isa());
    for (operand, side) in [(a, Side::A), (b, Side::B)] {
        if let Operand::Packed(packed) = operand {
            assert_eq!(packed.side(), side, "an operand is used on the side that it was packed for");
            kernels = packed.kernels();
        }
    }
    if let (Operand::Packed(a), Operand::Packed(b)) = (a, b) {
        assert_eq!(a.isa(), b.isa(), "both operands were packed for the same instructions");
    }
    driver::run(kernels, Problem { m: c.rows(), n: c.cols(), a, b, c: c.target(), beta, epilogue });
}

/// Whether it pays to keep a packed right operand, `[k, n]`, for further products with `m` rows. With such an operand
/// [`gemm_with`] gives the very bits that the product gives without.
pub fn keeps_right<T: GemmElement>(m: usize, n: usize, k: usize) -> bool {
    let kernels = T::Acc::kernels(isa::isa());
    m <= KEEP && !skinny::suits::<T>(kernels, m, n) && !(T::NATIVE && small::is_small(m, n, k))
}

/// The most rows for which packing the right operand is a good part of the work: about a twentieth.
const KEEP: usize = 384;

/// A batch of products, `C[i] = activation(beta·C[i] + A[i]·B[i] + bias)`.
///
/// Each of `a`, `b` and `c` is a slice, an offset, and dims and strides of `[batch, rows, cols]`. A batch stride of zero
/// uses one operand for the whole batch.
///
/// # Shapes
/// - a: `[batch, m, k]`, b: `[batch, k, n]`, c: `[batch, m, n]`
///
/// # Panics
/// If the shapes do not fit together, an element lies outside its slice, or two elements of C share a place.
pub fn gemm_batched<T: GemmElement>(
    a: BatchRef<T>,
    b: BatchRef<T>,
    c: BatchMut<T>,
    beta: Beta,
    epilogue: Epilogue<T>,
) {
    batch::run(T::Acc::kernels(isa::isa()), a, b, c, beta, epilogue);
}

/// One product of strided matrices, by the path that suits its shape. The elements of `c` belong to the caller.
fn matrix_product<T: GemmElement>(
    kernels: &'static Kernels<T::Acc>,
    a: &MatRef<T>,
    b: &MatRef<T>,
    c: Target<T>,
    beta: Beta,
    epilogue: &Epilogue<T>,
) {
    assert_eq!(a.cols(), b.rows(), "A has as many columns as B has rows");
    epilogue.assert_fits(a.rows(), b.cols());
    if a.rows() == 0 || b.cols() == 0 {
        return;
    }
    if small::suits(a, b, &c) {
        small::run(kernels, a, b, c, beta, epilogue);
    } else if skinny::suits::<T>(kernels, a.rows(), b.cols()) {
        skinny::run(kernels.isa, a, b, c, beta, epilogue);
    } else {
        let (m, n) = (a.rows(), b.cols());
        let (a, b) = (&Rows(*a), &Cols(*b));
        let (a, b) = (Operand::Source(a), Operand::Source(b));
        driver::run(kernels, Problem { m, n, a, b, c, beta, epilogue: *epilogue });
    }
}
