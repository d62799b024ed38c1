//! The mean of each window: columns are summed first, over all rows of the windows, then the columns of each window.

use super::windows::{Axis, for_each_row};
use crate::cpu::wide::{WideFloat, dispatch};

dispatch! {
    /// The means of one plane. `columns` is working memory as long as a row of the input.
    pub(super) fn average<A: WideFloat>(axes: &[Axis; 3], x: &[A], columns: &mut [A], y: &mut [A]) {
        let [_, h, w] = axes.each_ref().map(|axis| axis.size);
        for_each_row(axes, |out, a, b| {
            columns.fill(A::zero());
            for row in a.range().flat_map(|i| b.range().map(move |j| (i * h + j) * w)) {
                for (sum, &x) in columns.iter_mut().zip(&x[row..row + w]) {
                    *sum = *sum + x;
                }
            }
            for (y, c) in y[out].iter_mut().zip(&axes[2].windows) {
                let sum = columns[c.range()].iter().fold(A::zero(), |sum, &x| sum + x);
                *y = sum / A::from_f64((a.count * b.count * c.count) as f64);
            }
        });
    }
}

dispatch! {
    /// Adds the share of each gradient to every element of its window. `row` is working memory as long as a row of the
    /// input, `dx` starts at zero.
    pub(super) fn spread<A: WideFloat>(axes: &[Axis; 3], grad: &[A], row: &mut [A], dx: &mut [A]) {
        let [_, h, w] = axes.each_ref().map(|axis| axis.size);
        for_each_row(axes, |out, a, b| {
            row.fill(A::zero());
            for (&g, c) in grad[out].iter().zip(&axes[2].windows) {
                let share = g / A::from_f64((a.count * b.count * c.count) as f64);
                row[c.range()].iter_mut().for_each(|sum| *sum = *sum + share);
            }
            for start in a.range().flat_map(|i| b.range().map(move |j| (i * h + j) * w)) {
                for (dx, &sum) in dx[start..start + w].iter_mut().zip(&*row) {
                    *dx = *dx + sum;
                }
            }
        });
    }
}
