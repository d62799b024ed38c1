//! The mean of each window: columns are summed first, over all rows of the windows, then the columns of each window.

use super::windows::{Axis, for_each_row};
use crate::Scalar;
use crate::cpu::gemm::{GemmElement, Scalar as Sum};

/// The means of one plane. `columns` is working memory as long as a row of the input.
pub(super) fn average<T: Scalar + GemmElement<Acc: Scalar>>(
    axes: &[Axis; 3],
    x: &[T],
    columns: &mut [T::Acc],
    y: &mut [T],
) {
    let [_, h, w] = axes.each_ref().map(|axis| axis.size);
    for_each_row(axes, |out, a, b| {
        columns.fill(T::Acc::ZERO);
        for row in a.range().flat_map(|i| b.range().map(move |j| (i * h + j) * w)) {
            for (sum, x) in columns.iter_mut().zip(&x[row..row + w]) {
                *sum = sum.plus(x.widen());
            }
        }
        for (y, c) in y[out].iter_mut().zip(&axes[2].windows) {
            let sum = columns[c.range()].iter().copied().fold(T::Acc::ZERO, Sum::plus);
            *y = T::from_f64(sum.to_f64() / (a.count * b.count * c.count) as f64);
        }
    });
}

/// Adds the share of each gradient to every element of its window. `row` is working memory as long as a row of the
/// input, `dx` starts at zero.
pub(super) fn spread<T: Scalar + GemmElement<Acc: Scalar>>(
    axes: &[Axis; 3],
    grad: &[T],
    row: &mut [T::Acc],
    dx: &mut [T::Acc],
) {
    let [_, h, w] = axes.each_ref().map(|axis| axis.size);
    for_each_row(axes, |out, a, b| {
        row.fill(T::Acc::ZERO);
        for (g, c) in grad[out].iter().zip(&axes[2].windows) {
            let share = T::Acc::from_f64(g.to_f64() / (a.count * b.count * c.count) as f64);
            row[c.range()].iter_mut().for_each(|sum| *sum = sum.plus(share));
        }
        for start in a.range().flat_map(|i| b.range().map(move |j| (i * h + j) * w)) {
            for (dx, sum) in dx[start..start + w].iter_mut().zip(&*row) {
                *dx = dx.plus(*sum);
            }
        }
    });
}
