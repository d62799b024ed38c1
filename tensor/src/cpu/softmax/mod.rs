//! Softmax along a dim and its gradient, in one pass over memory.
//!
//! Along the last dim, a few rows at a time go through the cache; along any other, a panel of columns does.
//! 16-bit floats are computed in f32 and rounded once.

mod cross_entropy;
mod kernels;
mod short;
#[cfg(test)]
mod tests;

pub(crate) use cross_entropy::cross_entropy;

use crate::cpu::isa::isa;
use crate::cpu::reduce::{Kernel, contiguous};
use crate::cpu::storage::{elements, filled_shape};
use crate::cpu::threads::{SharedMut, parallel_for};
use crate::cpu::vectors::Vectorised;
use crate::cpu::wide::{Wide, Widened};
use crate::op::ReduceOp;
use crate::{Result, Tensor, match_float};
use kernels::{Columns, ColumnsBackward, Rows, RowsBackward};
use std::ops::Range;

/// Elements of rows that a task takes at once.
const BLOCK: usize = 16 * 1024;

/// Elements of a panel of columns: a share of the second-level cache.
const PANEL: usize = 64 * 1024;

/// `e^x / Σ e^x` along `dim`, or its logarithm.
pub(crate) fn softmax(x: &Tensor, dim: usize, log: bool) -> Result<Tensor> {
    let x = contiguous(x)?;
    let (shape, isa) = (Groups::new(&x, dim), isa());
    match_float!("softmax", x.dtype(), T => filled_shape::<T>(x.shape(), |y| {
        let (x, n, y) = (elements::<T>(&x), shape.n, SharedMut::new(y));
        shape.rows(|at| {
            let (mut wide_x, mut wide_y) = (Widened::<T>::new(), Widened::<T>::new());
            let x = wide_x.view(&x[at.clone()]);
            // SAFETY: each block of rows belongs to one task.
            wide_y.write(unsafe { y.slice(at) }, |y| Vectorised::vectorised(isa, Rows { n, log, x, y }));
        });
        let top = Kernel::<<T as Wide>::Acc>::new(ReduceOp::Amax, isa);
        shape.panels(|panel| {
            let mut data = panel.read(x);
            let (mut tops, mut sum) = (vec![top.init(); panel.width], vec![top.init(); panel.width]);
            top.columns(&data, panel.width, &mut tops);
            Vectorised::vectorised(isa, Columns { log, panel: &mut data, top: &tops, sum: &mut sum });
            panel.write(&data, &y);
        });
        Ok(())
    }))
}

/// The gradient from the result `y`: `y · (g - Σ g·y)`, or `g - e^y · Σ g` for the logarithm.
pub(crate) fn softmax_backward(grad: &Tensor, y: &Tensor, dim: usize, log: bool) -> Result<Tensor> {
    let (grad, y) = (contiguous(grad)?, contiguous(y)?);
    let (shape, isa) = (Groups::new(&y, dim), isa());
    match_float!("softmax", y.dtype(), T => filled_shape::<T>(y.shape(), |dx| {
        let (g, y, n, dx) = (elements::<T>(&grad), elements::<T>(&y), shape.n, SharedMut::new(dx));
        shape.rows(|at| {
            let [mut wide_g, mut wide_y, mut wide_dx] = std::array::from_fn(|_| Widened::<T>::new());
            let (g, y) = (wide_g.view(&g[at.clone()]), wide_y.view(&y[at.clone()]));
            // SAFETY: each block of rows belongs to one task.
            wide_dx.write(unsafe { dx.slice(at) }, |dx| {
                Vectorised::vectorised(isa, RowsBackward { n, log, g, y, dx });
            });
        });
        shape.panels(|panel| {
            let (g, mut data) = (panel.read(g), panel.read(y));
            let mut sum = vec![<T as Wide>::Acc::default(); panel.width];
            Vectorised::vectorised(isa, ColumnsBackward { log, g: &g, y: &mut data, sum: &mut sum });
            panel.write(&data, &dx);
        });
        Ok(())
    }))
}

/// A contiguous tensor as `[outer, n, inner]`, with one softmax for each place of `outer` and `inner`.
#[derive(Clone, Copy)]
struct Groups {
    outer: usize,
    n: usize,
    inner: usize,
}

/// `width` columns of one place of `outer`; memory between rows would collide in the caches, so they are worked on in a
/// copy without gaps.
struct Panel {
    n: usize,
    inner: usize,
    first: usize,
    width: usize,
}

impl Groups {
    fn new(x: &Tensor, dim: usize) -> Groups {
        let behind = x.dims().get(dim + 1..).unwrap_or_default();
        let (outer, inner) = (x.dims()[..dim].iter().product(), behind.iter().product());
        Groups { outer, n: x.dims().get(dim).copied().unwrap_or(1), inner }
    }

    fn is_empty(&self) -> bool {
        self.outer * self.n * self.inner == 0
    }

    /// Calls `f` with each block of rows, if the elements of a softmax are neighbours.
    fn rows(&self, f: impl Fn(Range<usize>) + Sync) {
        if self.inner != 1 || self.is_empty() {
            return;
        }
        let rows = (BLOCK / self.n).max(1);
        parallel_for(self.outer.div_ceil(rows), |task| {
            f(task * rows * self.n..self.outer.min((task + 1) * rows) * self.n);
        });
    }

    /// Calls `f` with each panel of columns, if they are not.
    fn panels(&self, f: impl Fn(Panel) + Sync) {
        if self.inner == 1 || self.is_empty() {
            return;
        }
        let Groups { outer, n, inner } = *self;
        let width = (PANEL / n / 32 * 32).clamp(32, 512).min(inner);
        let stretches = inner.div_ceil(width);
        parallel_for(outer * stretches, |task| {
            let left = task % stretches * width;
            f(Panel { n, inner, first: task / stretches * n * inner + left, width: width.min(inner - left) });
        });
    }
}

impl Panel {
    /// The places of the rows in memory.
    fn rows(&self) -> impl Iterator<Item = Range<usize>> {
        (0..self.n).map(|row| self.first + row * self.inner..self.first + row * self.inner + self.width)
    }

    /// The places of the columns among all of them.
    fn columns(&self) -> Range<usize> {
        let first = self.first / (self.n * self.inner) * self.inner + self.first % self.inner;
        first..first + self.width
    }

    /// `[n, width]` in the wide type.
    fn read<T: Wide>(&self, x: &[T]) -> Vec<T::Acc> {
        let mut data = vec![T::Acc::default(); self.n * self.width];
        for (at, row) in self.rows().zip(data.chunks_exact_mut(self.width)) {
            T::widen(&x[at], row);
        }
        data
    }

    fn write<T: Wide>(&self, data: &[T::Acc], y: &SharedMut<T>) {
        for (at, row) in self.rows().zip(data.chunks_exact(self.width)) {
            // SAFETY: each panel of columns belongs to one task.
            T::narrow(row, unsafe { y.slice(at) });
        }
    }
}
