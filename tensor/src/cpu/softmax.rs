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
        let behind = x.dims().get(dim + 1..).unwrap_or_default();
        let (outer, inner) = (x.dims()[..dim].iter().product(), behind.iter().product());
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
        let width = (2 * BLOCK / n).clamp(64, 512).min(inner);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{isa, threads};
    use crate::{DType, Device, composed};

    #[test]
    fn fused_softmax_and_its_gradient_equal_the_composed_ones() -> Result<()> {
        let cases: [(&[usize], usize); 8] = [
            (&[], 0),
            (&[1], 0),
            (&[70, 10], 1),
            (&[3, 9001], 1),
            (&[70, 10], 0),
            (&[2, 33, 700], 1),
            (&[2, 9001, 3], 1),
            (&[3, 0], 0),
        ];
        for ((shape, dim), log) in cases.into_iter().flat_map(|c| [(c, false), (c, true)]) {
            for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
                if shape.is_empty() && dtype != DType::F32 {
                    continue;
                }
                let x = Tensor::randn(shape, (dtype, &Device::cpu()))?.mul_scalar(3.0)?;
                let g = x.mul_scalar(0.3)?.add_scalar(0.1)?;
                if shape.is_empty() {
                    assert_eq!(softmax(&x, dim, log)?.item()?, if log { 0.0 } else { 1.0 });
                    continue;
                }
                // Values up to 30; the halves differ by the rounding of every intermediate step.
                let tolerance = match dtype {
                    DType::F64 => 1e-10,
                    DType::F32 => 1e-4,
                    _ => 0.2,
                };
                let y = composed::softmax(&x, dim, log)?;
                let dx = composed::softmax_backward(&g, &y, dim, log)?;
                for &level in isa::available() {
                    let run = |n| {
                        threads::with_num_threads(n, || {
                            isa::with_isa(level, || -> Result<_> {
                                Ok((softmax(&x, dim, log)?, softmax_backward(&g, &y, dim, log)?))
                            })
                        })
                    };
                    let (one, two) = (run(1)?, run(3)?);
                    assert!(one.0.all_close(&y, tolerance, tolerance)?, "{shape:?} {dim} {dtype} {log}");
                    assert!(one.1.all_close(&dx, tolerance, tolerance)?, "{shape:?} {dim} {dtype} {log}");
                    assert!(one.0.all_close(&two.0, 0.0, 0.0)? && one.1.all_close(&two.1, 0.0, 0.0)?);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn large_logits_do_not_overflow_and_infinities_behave() -> Result<()> {
        let inf = f32::INFINITY;
        let x = Tensor::from_slice(&[1e30, 1e30, -inf, 0.0, -inf, 5.0], [2, 3], &Device::cpu())?;
        let y = softmax(&x, 1, false)?.to_vec::<f32>()?;
        assert_eq!(y[..3], [0.5, 0.5, 0.0]);
        assert_eq!(y[4], 0.0);
        assert!((y[3] + y[5] - 1.0).abs() < 1e-6);
        let empty = Tensor::full([2], -inf, &Device::cpu())?;
        assert!(softmax(&empty, 0, false)?.to_vec::<f32>()?.iter().all(|y| y.is_nan()));
        Ok(())
    }
}
