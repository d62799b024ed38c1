//! Softmax along a dim and its gradient, in one pass over memory.
//!
//! Along the last dim, a few rows at a time go through the cache; along any other, a panel of columns does.
//! 16-bit floats are computed in f32 and rounded once.

use crate::cpu::isa::{Isa, isa};
use crate::cpu::reduce::{Kernel, contiguous};
use crate::cpu::simd::map;
use crate::cpu::storage::{elements, filled_shape};
use crate::cpu::threads::{SharedMut, parallel_for};
use crate::cpu::wide::{Wide, WideFloat, Widened};
use crate::op::{BinaryOp, ReduceOp, UnaryOp};
use crate::{Result, Tensor, match_float};

/// Elements that a task takes through the cache at once.
const BLOCK: usize = 8192;

/// `e^x / Σ e^x` along `dim`, or its logarithm.
pub(crate) fn softmax(x: &Tensor, dim: usize, log: bool) -> Result<Tensor> {
    let x = contiguous(x)?;
    let (shape, isa) = (Panels::new(&x, dim), isa());
    match_float!("softmax", x.dtype(), T => filled_shape::<T>(x.shape(), |y| {
        shape.each([elements::<T>(&x)], y, |[x], y, columns| {
            Piece::new(isa, shape.n, columns).forward(x, y, log);
        });
        Ok(())
    }))
}

/// The gradient from the result `y`: `y · (g - Σ g·y)`, or `g - e^y · Σ g` for the logarithm.
pub(crate) fn softmax_backward(grad: &Tensor, y: &Tensor, dim: usize, log: bool) -> Result<Tensor> {
    let (grad, y) = (contiguous(grad)?, contiguous(y)?);
    let (shape, isa) = (Panels::new(&y, dim), isa());
    match_float!("softmax", y.dtype(), T => filled_shape::<T>(y.shape(), |dx| {
        shape.each([elements::<T>(&grad), elements::<T>(&y)], dx, |[g, y], dx, columns| {
            Piece::new(isa, shape.n, columns).backward(g, y, dx, log);
        });
        Ok(())
    }))
}

/// A contiguous tensor as `[outer, n, inner]`.
#[derive(Clone, Copy)]
struct Panels {
    outer: usize,
    n: usize,
    inner: usize,
}

impl Panels {
    fn new(x: &Tensor, dim: usize) -> Panels {
        let (outer, inner) = (x.dims()[..dim].iter().product(), x.dims()[dim + 1..].iter().product());
        Panels { outer, n: x.dims().get(dim).copied().unwrap_or(1), inner }
    }

    /// Hands out the tensors in contiguous wide pieces `[rows, n]` (with 1 as the last argument) or `[n, columns]`.
    fn each<T: Wide, const N: usize>(
        &self,
        x: [&[T]; N],
        y: &mut [T],
        f: impl Fn([&[T::Acc]; N], &mut [T::Acc], usize) + Sync,
    ) {
        let Panels { outer, n, inner } = *self;
        if y.is_empty() {
            return;
        }
        let y = SharedMut::new(y);
        if inner == 1 {
            let rows = (BLOCK / n).max(1);
            return parallel_for(outer.div_ceil(rows), |task| {
                let mut wide: [Widened<T>; N] = std::array::from_fn(|_| Widened::new());
                let at = task * rows * n..outer.min((task + 1) * rows) * n;
                let mut k = 0;
                let views = wide.each_mut().map(|wide| {
                    k += 1;
                    wide.view(&x[k - 1][at.clone()])
                });
                // SAFETY: each block of rows belongs to one task.
                Widened::<T>::new().write(unsafe { y.slice(at.clone()) }, |y| f(views, y, 1));
            });
        }
        let width = (2 * BLOCK / n).clamp(16, 512).min(inner);
        let stretches = inner.div_ceil(width);
        parallel_for(outer * stretches, |task| {
            let (first, left) = (task / stretches * n * inner, task % stretches * width);
            let columns = width.min(inner - left);
            let mut panels: [Vec<T::Acc>; N] = std::array::from_fn(|_| vec![T::Acc::default(); n * columns]);
            let mut out = vec![T::Acc::default(); n * columns];
            for (panel, x) in panels.iter_mut().zip(x) {
                for (row, panel) in panel.chunks_exact_mut(columns).enumerate() {
                    T::widen(&x[first + row * inner + left..][..columns], panel);
                }
            }
            f(panels.each_ref().map(|p| p.as_slice()), &mut out, columns);
            for (row, out) in out.chunks_exact(columns).enumerate() {
                let at = first + row * inner + left;
                // SAFETY: each panel of columns belongs to one task.
                T::narrow(out, unsafe { y.slice(at..at + columns) });
            }
        });
    }
}

/// Softmaxes of one piece: `[groups, n]` where `columns` is 1, else `[n, columns]`.
struct Piece<A> {
    isa: Isa,
    n: usize,
    columns: usize,
    amax: Kernel<A>,
    sum: Kernel<A>,
}

impl<A: WideFloat + map::Element> Piece<A> {
    fn new(isa: Isa, n: usize, columns: usize) -> Self {
        let kernel = |op| Kernel::new(op, isa);
        Piece { isa, n, columns, amax: kernel(ReduceOp::Amax), sum: kernel(ReduceOp::Sum) }
    }

    fn forward(&self, x: &[A], y: &mut [A], log: bool) {
        let top = self.totals(&self.amax, x);
        self.each(y, &top, |y, top, at| self.binary(BinaryOp::Sub, &x[at..at + y.len()], top, y));
        if log {
            let mut e = y.to_vec();
            self.exp(&mut e);
            let mut sums = self.totals(&self.sum, &e);
            sums.iter_mut().for_each(|s| *s = s.ln());
            self.each(y, &sums, |y, sum, _| self.binary_into(BinaryOp::Sub, y, sum));
        } else {
            self.exp(y);
            let sums = self.totals(&self.sum, y);
            self.each(y, &sums, |y, sum, _| self.binary_into(BinaryOp::Div, y, sum));
        }
    }

    fn backward(&self, g: &[A], y: &[A], dx: &mut [A], log: bool) {
        if log {
            let sums = self.totals(&self.sum, g);
            dx.copy_from_slice(y);
            self.exp(dx);
            self.each(dx, &sums, |dx, sum, _| self.binary_into(BinaryOp::Mul, dx, sum));
            let done = map::binary_into_right(BinaryOp::Sub, self.isa, g, dx);
            debug_assert!(done.is_ok(), "{FLOATS}");
        } else {
            self.binary(BinaryOp::Mul, g, y, dx);
            let dots = self.totals(&self.sum, dx);
            self.each(dx, &dots, |dx, dot, at| self.binary(BinaryOp::Sub, &g[at..at + dx.len()], dot, dx));
            self.binary_into(BinaryOp::Mul, dx, y);
        }
    }

    /// One total for each softmax.
    fn totals(&self, kernel: &Kernel<A>, x: &[A]) -> Vec<A> {
        if self.columns == 1 {
            return x.chunks_exact(self.n).map(|x| kernel.fold(x)).collect();
        }
        let mut totals = vec![kernel.init(); self.columns];
        kernel.columns(x, self.columns, &mut totals);
        totals
    }

    /// Each row of `y` with what belongs to it, one total or one for each column, and where it starts.
    fn each(&self, y: &mut [A], totals: &[A], f: impl Fn(&mut [A], &[A], usize)) {
        if self.columns == 1 {
            let rows = y.chunks_exact_mut(self.n).zip(totals.chunks_exact(1));
            rows.enumerate().for_each(|(i, (y, total))| f(y, total, i * self.n));
        } else {
            let rows = y.chunks_exact_mut(self.columns);
            rows.enumerate().for_each(|(i, y)| f(y, totals, i * self.columns));
        }
    }

    fn exp(&self, x: &mut [A]) {
        let done = map::unary_inplace(UnaryOp::Exp, self.isa, x);
        debug_assert!(done.is_ok(), "{FLOATS}");
    }

    fn binary(&self, op: BinaryOp, a: &[A], b: &[A], y: &mut [A]) {
        let done = map::binary(op, self.isa, a, b, y);
        debug_assert!(done.is_ok(), "{FLOATS}");
    }

    fn binary_into(&self, op: BinaryOp, y: &mut [A], b: &[A]) {
        let done = map::binary_into_left(op, self.isa, y, b);
        debug_assert!(done.is_ok(), "{FLOATS}");
    }
}

const FLOATS: &str = "every op has a formula for floats";
