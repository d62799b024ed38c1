//! A matrix times a vector: each value of the matrix is used once, so it is read in its own order and never packed.

use super::epilogue::{Beta, Epilogue};
use super::kernel::Kernels;
use super::matrix::{MatRef, Target};
use super::scalar::{GemmElement, Scalar};
use super::scratch::Scratch;
use crate::cpu::threads;
use std::ops::Range;

/// Values of the matrix per task: a function of the shape alone.
const TASK: usize = 64 * 1024;

/// The most lines that a task has: their sums stay in the first-level cache.
const LINES: usize = 1024;

/// The values that are widened or gathered at a time.
const PIECE: usize = 512;

/// `C = epilogue(beta·C + A·B)` where A has one row or B has one column.
pub(super) fn run<T: GemmElement>(
    kernels: &Kernels<T::Acc>,
    a: &MatRef<T>,
    b: &MatRef<T>,
    c: Target<T>,
    beta: Beta,
    epilogue: &Epilogue<T>,
) {
    // y[i] = Σ_p lines[i, p] · x[p]; a row vector times B is Bᵀ times a column vector.
    let (lines, x, c, epilogue) =
        if b.cols() == 1 { (*a, b.t(), c, *epilogue) } else { (b.t(), *a, c.t(), epilogue.t()) };
    assert!(
        x.rows() == 1 && x.cols() == lines.cols(),
        "one operand is a vector as long as the other's lines"
    );
    let mut x_scratch = Scratch::<T::Acc>::new(x.cols());
    let x_values = x_scratch.as_mut_slice();
    for (p, value) in x_values.iter_mut().enumerate() {
        // SAFETY: `p` is below the vector's length.
        *value = unsafe { *x.at(0, p) }.widen();
    }
    let x_values = &*x_values;
    // Contiguous columns are read in runs as long as a task has lines.
    let least = if lines.row_stride() == 1 { LINES / 2 } else { 16 };
    let chunk = (TASK / lines.cols().max(1)).next_multiple_of(16).clamp(least, LINES);
    threads::parallel_for(lines.rows().div_ceil(chunk), |at| {
        let own = at * chunk..lines.rows().min((at + 1) * chunk);
        let mut sums = [T::Acc::ZERO; LINES];
        let sums = &mut sums[..own.len()];
        if lines.row_stride() == 1 {
            add_columns(kernels, &lines, own.clone(), x_values, sums);
        } else {
            for (sum, i) in sums.iter_mut().zip(own.clone()) {
                *sum = line_dot(kernels, &lines, i, x_values);
            }
        }
        if beta == Beta::One {
            for (sum, i) in sums.iter_mut().zip(own.clone()) {
                // SAFETY: the element is inside C and this task's own.
                *sum = unsafe { *c.at(i, 0) }.widen().plus(*sum);
            }
        }
        // SAFETY: as above; there is a sum for each of the task's elements.
        unsafe { epilogue.t().store(kernels.isa, sums.as_ptr(), 0, c.t(), 0..1, own) }
    });
}

/// Line i times x.
fn line_dot<T: GemmElement>(kernels: &Kernels<T::Acc>, lines: &MatRef<T>, i: usize, x: &[T::Acc]) -> T::Acc {
    if T::NATIVE && lines.col_stride() == 1 {
        // SAFETY: the line is contiguous, as long as x, and of the kernels' type.
        return unsafe { (kernels.dot)(x.len(), lines.at(i, 0).cast(), x.as_ptr()) };
    }
    let mut sum = T::Acc::ZERO;
    let mut piece = [T::Acc::ZERO; PIECE];
    for (at, x) in x.chunks(PIECE).enumerate() {
        let piece = &mut piece[..x.len()];
        if lines.col_stride() == 1 {
            // SAFETY: the line is contiguous and as long as x.
            T::widen_slice(unsafe { std::slice::from_raw_parts(lines.at(i, at * PIECE), x.len()) }, piece);
        } else {
            for (p, value) in piece.iter_mut().enumerate() {
                // SAFETY: the line is as long as x.
                *value = unsafe { *lines.at(i, at * PIECE + p) }.widen();
            }
        }
        // SAFETY: both slices have this length.
        sum = sum.plus(unsafe { (kernels.dot)(x.len(), piece.as_ptr(), x.as_ptr()) });
    }
    sum
}

/// `sums[i] = Σ_p lines[own.start + i, p] · x[p]` where each column of the matrix is contiguous.
fn add_columns<T: GemmElement>(
    kernels: &Kernels<T::Acc>,
    lines: &MatRef<T>,
    own: Range<usize>,
    x: &[T::Acc],
    sums: &mut [T::Acc],
) {
    const COLUMNS: usize = 4;
    let mut wide = [T::Acc::ZERO; COLUMNS * LINES];
    for (at, x) in x.chunks(COLUMNS).enumerate() {
        let p = at * COLUMNS;
        let (columns, column) = if T::NATIVE {
            (lines.at(own.start, p).cast::<T::Acc>(), lines.col_stride())
        } else {
            for (j, wide) in wide.chunks_exact_mut(LINES).enumerate().take(x.len()) {
                // SAFETY: the column is contiguous and the lines are inside it.
                let values = unsafe { std::slice::from_raw_parts(lines.at(own.start, p + j), own.len()) };
                T::widen_slice(values, &mut wide[..own.len()]);
            }
            (wide.as_ptr(), LINES as isize)
        };
        // SAFETY: there are `x.len()` columns of `own.len()` values from `columns` on, and as many sums.
        unsafe {
            if x.len() == COLUMNS {
                (kernels.axpy[1])(own.len(), x.as_ptr(), columns, column, sums.as_mut_ptr());
            } else {
                for (j, factor) in x.iter().enumerate() {
                    let values = columns.wrapping_offset(j as isize * column);
                    (kernels.axpy[0])(own.len(), factor, values, column, sums.as_mut_ptr());
                }
            }
        }
    }
}
