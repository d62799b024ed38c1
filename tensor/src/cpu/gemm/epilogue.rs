//! What happens to a result between the last product and the store: bias, activation.

use super::matrix::Target;
use super::scalar::{GemmElement, Scalar};
use std::ops::Range;

/// Whether the product replaces C or is added to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Beta {
    /// `C = A·B`. C is not read: it may hold anything, NaN included.
    #[default]
    Zero,
    /// `C = C + A·B`.
    One,
}

/// A vector that is added to the result.
#[derive(Clone, Copy, Debug)]
pub enum Bias<'a, T> {
    /// Nothing.
    None,
    /// One value per row: m of them.
    PerRow(&'a [T]),
    /// One value per column: n of them.
    PerCol(&'a [T]),
}

/// A function of each element of the result.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Activation {
    /// `x`.
    #[default]
    None,
    /// `max(x, 0)`; NaN stays NaN.
    Relu,
}

impl Activation {
    /// The function's value.
    #[inline(always)]
    pub fn apply<S: Scalar>(self, x: S) -> S {
        match self {
            Self::None => x,
            Self::Relu => {
                if x < S::ZERO {
                    S::ZERO
                } else {
                    x
                }
            }
        }
    }
}

/// `C = activation(beta·C + A·B + bias)`, computed in the accumulator's type and rounded once.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a, T> {
    /// Added before the activation.
    pub bias: Bias<'a, T>,
    /// Applied last.
    pub activation: Activation,
}

impl<T> Default for Epilogue<'_, T> {
    fn default() -> Self {
        Self { bias: Bias::None, activation: Activation::None }
    }
}

impl<'a, T: GemmElement> Epilogue<'a, T> {
    /// Does it leave the result as it is?
    pub(super) fn is_identity(&self) -> bool {
        matches!(self.bias, Bias::None) && self.activation == Activation::None
    }

    /// The epilogue of the transposed product.
    pub(super) fn t(self) -> Self {
        let bias = match self.bias {
            Bias::None => Bias::None,
            Bias::PerRow(bias) => Bias::PerCol(bias),
            Bias::PerCol(bias) => Bias::PerRow(bias),
        };
        Self { bias, ..self }
    }

    /// Panics if the bias does not fit an m x n result.
    pub(super) fn assert_fits(&self, m: usize, n: usize) {
        match self.bias {
            Bias::None => {}
            Bias::PerRow(bias) => assert_eq!(bias.len(), m, "a bias per row has one value per row"),
            Bias::PerCol(bias) => assert_eq!(bias.len(), n, "a bias per column has one value per column"),
        }
    }

    /// Writes `activation(sums + bias)` to the elements `rows` x `cols` of C.
    ///
    /// # Safety
    /// `sums` leads to as many elements, contiguous in each row and `sums_row` apart between rows; it may be C itself.
    /// The elements of `c` belong to the caller.
    pub(super) unsafe fn store(
        &self,
        sums: *const T::Acc,
        sums_row: isize,
        c: Target<T>,
        rows: Range<usize>,
        cols: Range<usize>,
    ) {
        for (at, i) in rows.enumerate() {
            let sums = sums.wrapping_offset(at as isize * sums_row);
            let per_row = match self.bias {
                Bias::PerRow(bias) => bias[i].widen(),
                _ => T::Acc::ZERO,
            };
            let per_col = match self.bias {
                Bias::PerCol(bias) => Some(&bias[cols.clone()]),
                _ => None,
            };
            for j in 0..cols.len() {
                // SAFETY: the caller vouches for the element of `sums` and for that of C.
                unsafe {
                    let mut x = *sums.add(j);
                    match (per_col, self.bias) {
                        (Some(bias), _) => x = x.plus(bias[j].widen()),
                        (None, Bias::PerRow(_)) => x = x.plus(per_row),
                        _ => {}
                    }
                    *c.at(i, cols.start + j) = T::narrow(self.activation.apply(x));
                }
            }
        }
    }
}
