//! Batch normalisation of `[n, c, …]`: each channel is `n` contiguous stretches of memory.
//!
//! Stretches of a few elements are left to the composed form, whose reductions take channels side by side.

use super::kernels::ChannelSums;
use super::{Moments, kernels, parameter, tensor_of};
use crate::cpu::isa::isa;
use crate::cpu::reduce::{LEAF, contiguous};
use crate::cpu::results::{Results, Task};
use crate::cpu::storage::{elements, filled_shape};
use crate::cpu::threads::{SharedMut, parallel_chunks_mut, parallel_for};
use crate::cpu::vectors::Vectorised;
use crate::cpu::walk::GRAIN;
use crate::cpu::wide::{Wide, Widened};
use crate::op::Real;
use crate::{DType, Result, Scalar, Tensor, composed, match_float};
use std::ops::Range;

/// Elements of a plane below which the composed form is taken.
const SMALL: usize = 16;

/// `[n, c, …]` cut into pieces of planes of at most [`LEAF`] elements.
#[derive(Clone, Copy)]
struct Planes {
    n: usize,
    c: usize,
    size: usize,
    pieces: usize,
}

impl Planes {
    /// `None` if planes are small or there are none.
    fn new(x: &Tensor) -> Option<Planes> {
        let &[n, c, ref rest @ ..] = x.dims() else { return None };
        let size: usize = rest.iter().product();
        (size >= SMALL && n * c > 0).then(|| Planes { n, c, size, pieces: size.div_ceil(LEAF) })
    }

    /// The channel and the place of piece `i`, of those in memory order.
    fn piece(&self, i: usize) -> (usize, Range<usize>) {
        let (plane, piece) = (i / self.pieces, i % self.pieces);
        let (start, end) = (piece * LEAF, self.size.min((piece + 1) * LEAF));
        (plane % self.c, plane * self.size + start..plane * self.size + end)
    }

    fn count(&self) -> usize {
        self.n * self.c * self.pieces
    }

    /// Pieces that make a task.
    fn per_task(&self) -> usize {
        (GRAIN / self.size.min(LEAF)).max(1)
    }

    /// The places of the pieces of a channel, in memory order.
    fn channel(&self, k: usize) -> impl Iterator<Item = Range<usize>> {
        let (planes, pieces) = (*self, self.pieces);
        (0..self.n * pieces).map(move |i| planes.piece((i / pieces * planes.c + k) * pieces + i % pieces).1)
    }

    /// Calls `f` with each channel, in parallel.
    fn each_channel(&self, f: impl Fn(usize) + Sync) {
        let per_task = (GRAIN / (self.n * self.size)).max(1);
        parallel_for(self.c.div_ceil(per_task), |task| {
            (task * per_task..self.c.min((task + 1) * per_task)).for_each(&f);
        });
    }

    /// A share for each piece, in memory order, computed in parallel.
    fn shares<S: Copy + Default + Send>(&self, f: impl Fn(usize, Range<usize>) -> S + Sync) -> Vec<S> {
        let mut shares = vec![S::default(); self.count()];
        let per_task = self.per_task();
        parallel_chunks_mut(&mut shares, per_task, |task, shares| {
            for (i, share) in shares.iter_mut().enumerate() {
                let (channel, at) = self.piece(task * per_task + i);
                *share = f(channel, at);
            }
        });
        shares
    }

    /// The shares of each channel put together, in memory order.
    fn totals<S: Copy + Default>(&self, shares: &[S], add: impl Fn(S, S) -> S) -> Vec<S> {
        let mut totals = vec![S::default(); self.c];
        for (i, share) in shares.iter().enumerate() {
            let total = &mut totals[i / self.pieces % self.c];
            *total = add(*total, *share);
        }
        totals
    }
}

/// Channels from which on a task takes whole channels, one pass after the other while they are in the cache.
const MANY: usize = 8;

/// Normalised by the batch's own statistics: `(y, mean, biased variance, rstd)`.
pub(crate) fn batch_norm_training(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<(Tensor, Tensor, Tensor, Tensor)> {
    let Some(planes) = Planes::new(x).filter(|planes| planes.c >= MANY) else {
        return composed::batch_norm_training(x, weight, bias, eps);
    };
    let (x, isa, c) = (contiguous(x)?, isa(), planes.c);
    match_float!("batch_norm", x.dtype(), T => {
        type A = <T as Wide>::Acc;
        let (w, b) = (parameter::<A>(weight, c, 1.0)?, parameter::<A>(bias, c, 0.0)?);
        let mut stats = vec![[A::default(); 3]; c];
        let y = filled_shape::<T>(x.shape(), |y| {
            let (x, y, stats) = (elements::<T>(&x), Results::fresh(isa, y), SharedMut::new(&mut stats));
            planes.each_channel(|k| {
                let (mut input, mut output, mut y) = (Widened::<T>::new(), Widened::<T>::new(), y.task());
                let moments = planes.channel(k).map(|at| Moments::of(isa, input.view(&x[at])));
                let moments = moments.fold(Moments::default(), Moments::merge);
                let (mean, var) = (A::from_f64(moments.mean), moments.variance());
                let rstd = A::from_f64((var + eps).sqrt().recip());
                for at in planes.channel(k) {
                    let write = |at: Range<usize>, y: &mut [T]| {
                        let x = input.view(&x[at]);
                        output.write(y, |y| kernels::normalise(isa, x, mean, rstd, w[k], b[k], y));
                    };
                    // SAFETY: each channel belongs to one task.
                    unsafe { y.write_blocks(at, LEAF, write) };
                }
                // SAFETY: as above.
                unsafe { stats.slice(k..k + 1) }.fill([mean, A::from_f64(var), rstd]);
            });
            Ok(())
        })?;
        let each = |i: usize| tensor_of(c, &stats.iter().map(|s| s[i]).collect::<Vec<A>>());
        Ok((y, each(0)?, each(1)?, each(2)?))
    })
}

/// Mean and biased variance of each channel.
pub(crate) fn batch_norm_stats(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let Some(planes) = Planes::new(x) else { return composed::batch_norm_stats(x) };
    let (x, isa) = (contiguous(x)?, isa());
    match_float!("batch_norm", x.dtype(), T => {
        type A = <T as Wide>::Acc;
        let x = elements::<T>(&x);
        let shares = planes.shares(|_, at| Moments::of(isa, Widened::<T>::new().view(&x[at])));
        let totals = planes.totals(&shares, Moments::merge);
        let each = |f: fn(&Moments) -> f64| totals.iter().map(|m| A::from_f64(f(m))).collect::<Vec<A>>();
        Ok((tensor_of(planes.c, &each(|m| m.mean))?, tensor_of(planes.c, &each(Moments::variance))?))
    })
}

/// `(x - mean) · rstd · weight + bias` per channel.
pub(crate) fn batch_norm_apply(
    x: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let Some(planes) = Planes::new(x) else {
        return composed::batch_norm_apply(x, mean, rstd, weight, bias);
    };
    let (x, isa, c) = (contiguous(x)?, isa(), planes.c);
    match_float!("batch_norm", x.dtype(), T => {
        type A = <T as Wide>::Acc;
        let (mean, rstd) = (parameter::<A>(Some(mean), c, 0.0)?, parameter::<A>(Some(rstd), c, 1.0)?);
        let (w, b) = (parameter::<A>(weight, c, 1.0)?, parameter::<A>(bias, c, 0.0)?);
        filled_shape::<T>(x.shape(), |y| {
            let (x, y) = (elements::<T>(&x), Results::fresh(isa, y));
            let (count, per_task) = (planes.count(), planes.per_task());
            parallel_for(count.div_ceil(per_task), |task| {
                let (mut input, mut output, mut y) = (Widened::<T>::new(), Widened::<T>::new(), y.task());
                for i in task * per_task..count.min((task + 1) * per_task) {
                    let (k, at) = planes.piece(i);
                    let write = |at: Range<usize>, y: &mut [T]| {
                        let x = input.view(&x[at]);
                        output.write(y, |y| kernels::normalise(isa, x, mean[k], rstd[k], w[k], b[k], y));
                    };
                    // SAFETY: each piece belongs to one task.
                    unsafe { y.write_blocks(at, LEAF, write) };
                }
            });
            Ok(())
        })
    })
}

/// Gradients in `x`, `weight` and `bias`.
pub(crate) fn batch_norm_backward(
    grad: &Tensor,
    x: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    weight: Option<&Tensor>,
    training: bool,
) -> Result<(Tensor, Tensor, Tensor)> {
    let Some(planes) = Planes::new(x) else {
        // In doubles, like the sums of the fused form.
        let wide = |t: &Tensor| t.to_dtype(DType::F64);
        let weight = weight.map(wide).transpose()?;
        let [g, z, mean, rstd] = [wide(grad)?, wide(x)?, wide(mean)?, wide(rstd)?];
        let (dx, dw, db) = composed::batch_norm_backward(&g, &z, &mean, &rstd, weight.as_ref(), training)?;
        return Ok((dx.to_dtype(x.dtype())?, dw.to_dtype(x.dtype())?, db.to_dtype(x.dtype())?));
    };
    let (grad, x, isa, c) = (contiguous(grad)?, contiguous(x)?, isa(), planes.c);
    match_float!("batch_norm", x.dtype(), T => {
        type A = <T as Wide>::Acc;
        let (mean, rstd) = (parameter::<A>(Some(mean), c, 0.0)?, parameter::<A>(Some(rstd), c, 1.0)?);
        let w = parameter::<A>(weight, c, 1.0)?;
        let (g, data) = (elements::<T>(&grad), elements::<T>(&x));
        let sums = |k: usize, at: Range<usize>, next: Range<usize>| {
            let (mut wide_g, mut wide_x) = (Widened::<T>::new(), Widened::<T>::new());
            let next = [&g[next.clone()], &data[next]];
            let (g, x) = (wide_g.view(&g[at.clone()]), wide_x.view(&data[at]));
            A::vectorised(isa, ChannelSums { g, x, mean: mean[k], rstd: rstd[k], next })
        };
        let add = |a: [f64; 2], b: [f64; 2]| [a[0] + b[0], a[1] + b[1]];
        let count = if training { (planes.n * planes.size) as f64 } else { f64::INFINITY };
        let write = |k: usize, total: [f64; 2], at: Range<usize>, dx: &mut Task<T>| {
            let mut wide: [Widened<T>; 3] = std::array::from_fn(|_| Widened::new());
            let [wide_g, wide_x, wide_dx] = &mut wide;
            // The means of h = g · w and of h · z; the statistics are constants outside of training.
            let [h, hz] = total.map(|t| A::from_f64(t / count) * w[k]);
            let write = |at: Range<usize>, dx: &mut [T]| {
                let (g, x) = (wide_g.view(&g[at.clone()]), wide_x.view(&data[at]));
                wide_dx.write(dx, |dx| match training {
                    true => kernels::channel_backward(isa, g, x, mean[k], rstd[k], w[k], h, hz, dx),
                    false => kernels::normalise(isa, g, A::zero(), w[k], rstd[k], A::zero(), dx),
                });
            };
            // SAFETY: each piece belongs to one task.
            unsafe { dx.write_blocks(at, LEAF, write) };
        };
        // (Σ g, Σ g · z) of each channel.
        let mut totals = vec![[0.0; 2]; c];
        let dx = filled_shape::<T>(x.shape(), |dx| {
            let dx = Results::fresh(isa, dx);
            if c >= MANY {
                let totals = SharedMut::new(&mut totals);
                planes.each_channel(|k| {
                    let next = planes.channel(k).skip(1).chain(std::iter::once(0..0));
                    let shares = planes.channel(k).zip(next).map(|(at, next)| sums(k, at, next));
                    let (total, mut dx) = (shares.fold([0.0; 2], add), dx.task());
                    planes.channel(k).for_each(|at| write(k, total, at, &mut dx));
                    // SAFETY: each channel belongs to one task.
                    unsafe { totals.slice(k..k + 1) }.fill(total);
                });
                return Ok(());
            }
            totals = planes.totals(&planes.shares(|k, at| sums(k, at, 0..0)), add);
            let (pieces, per_task) = (planes.count(), planes.per_task());
            parallel_for(pieces.div_ceil(per_task), |task| {
                let mut dx = dx.task();
                for i in task * per_task..pieces.min((task + 1) * per_task) {
                    let (k, at) = planes.piece(i);
                    write(k, totals[k], at, &mut dx);
                }
            });
            Ok(())
        })?;
        let each = |i: usize| {
            let data: Vec<T> = totals.iter().map(|t| T::from_f64(t[i])).collect();
            filled_shape::<T>(c.into(), |y| {
                y.copy_from_slice(&data);
                Ok(())
            })
        };
        Ok((dx, each(1)?, each(0)?))
    })
}
