//! What happens to a result between the last product and the store: bias, activation.

use super::matrix::Target;
use super::scalar::{GemmElement, Scalar};
use crate::cpu::isa::Isa;
use crate::cpu::wide::dispatch;
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
    /// `max(x, 0)`; NaN stays NaN, and -0 becomes 0.
    Relu,
}

impl Activation {
    /// The function's value.
    #[inline(always)]
    pub fn apply<S: Scalar>(self, x: S) -> S {
        match self {
            Self::None => x,
            Self::Relu => {
                if x <= S::ZERO {
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
        isa: Isa,
        sums: *const T::Acc,
        sums_row: isize,
        c: Target<T>,
        rows: Range<usize>,
        cols: Range<usize>,
    ) {
        let c_col = c.col;
        for (at, i) in rows.enumerate() {
            let sums = sums.wrapping_offset(at as isize * sums_row);
            let per_row = match self.bias {
                Bias::PerRow(bias) => Some(bias[i].widen()),
                _ => None,
            };
            let per_col = match self.bias {
                Bias::PerCol(bias) => &bias[cols.clone()],
                _ => &[],
            };
            for (from, len) in pieces(cols.len()) {
                let mut piece = [T::Acc::ZERO; PIECE];
                let piece = &mut piece[..len];
                // SAFETY: the caller vouches for these elements of `sums`; no reference to them is left when C is written.
                piece.copy_from_slice(unsafe { std::slice::from_raw_parts(sums.add(from), len) });
                let per_col = if per_col.is_empty() { per_col } else { &per_col[from..from + len] };
                let c = c.at(i, cols.start + from);
                if c_col == 1 {
                    // SAFETY: the caller vouches for these elements of C, which lie side by side.
                    let c = unsafe { std::slice::from_raw_parts_mut(c, len) };
                    finish(isa, piece, per_row, per_col, self.activation, c);
                } else {
                    let mut narrow = [T::zeroed(); PIECE];
                    finish(isa, piece, per_row, per_col, self.activation, &mut narrow[..len]);
                    for (j, value) in narrow[..len].iter().enumerate() {
                        // SAFETY: the caller vouches for the element.
                        unsafe { c.wrapping_offset(j as isize * c_col).write(*value) };
                    }
                }
            }
        }
    }
}

/// Elements that are finished at a time.
const PIECE: usize = 64;

/// The start and length of each piece of a row.
fn pieces(len: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len).step_by(PIECE).map(move |from| (from, PIECE.min(len - from)))
}

dispatch! {
    /// `out = activation(sums + per_row + per_col)`, rounded; without `per_row` or with an empty `per_col` nothing is added.
    fn finish<T: GemmElement>(
        sums: &mut [T::Acc],
        per_row: Option<T::Acc>,
        per_col: &[T],
        activation: Activation,
        out: &mut [T],
    ) {
        if let Some(bias) = per_row {
            sums.iter_mut().for_each(|x| *x = x.plus(bias));
        }
        for (x, bias) in sums.iter_mut().zip(per_col) {
            *x = x.plus(bias.widen());
        }
        sums.iter_mut().for_each(|x| *x = activation.apply(*x));
        T::narrow_slice(sums, out);
    }
}
