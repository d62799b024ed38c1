//! Normalisation of groups of channels of `[n, c, …]`: each group of an element of the batch is one stretch of memory, each of
//! its channels a piece of that.
//!
//! Channels of a few elements are left to the composed form.

use super::kernels::{self, ChannelSums};
use super::{Moments, parameter, tensor_of};
use crate::cpu::isa::isa;
use crate::cpu::reduce::{LEAF, contiguous};
use crate::cpu::results::Results;
use crate::cpu::storage::{elements, filled_shape};
use crate::cpu::threads::{SharedMut, parallel_for};
use crate::cpu::vectors::Vectorised;
use crate::cpu::walk::GRAIN;
use crate::cpu::wide::{Wide, Widened};
use crate::{DType, Result, Scalar, Tensor, composed, match_float};
use std::ops::Range;

/// Elements of a channel below which the composed form is taken.
const SMALL: usize = 16;

/// `[n, c, size]` with channels in groups.
#[derive(Clone, Copy)]
struct Groups {
    n: usize,
    c: usize,
    size: usize,
    groups: usize,
}

impl Groups {
    /// `None` if channels are small or there are none.
    fn new(x: &Tensor, groups: usize) -> Option<Groups> {
        let &[n, c, ref rest @ ..] = x.dims() else { return None };
        let size: usize = rest.iter().product();
        (size >= SMALL && n * c > 0).then_some(Groups { n, c, size, groups })
    }

    /// How many there are.
    fn count(&self) -> usize {
        self.n * self.groups
    }

    /// Channels of a group.
    fn channels(&self) -> usize {
        self.c / self.groups
    }

    /// The place of group `i` in memory.
    fn place(&self, i: usize) -> Range<usize> {
        let length = self.channels() * self.size;
        i * length..(i + 1) * length
    }

    /// The channels of group `i`, and the place of each.
    fn pieces(self, i: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
        let (first, start) = (i % self.groups * self.channels(), self.place(i).start);
        (0..self.channels()).map(move |k| (first + k, start + k * self.size..start + (k + 1) * self.size))
    }

    /// Calls `f` with each group, in parallel.
    fn each(&self, f: impl Fn(usize) + Sync) {
        let per_task = (GRAIN / self.place(0).len()).max(1);
        parallel_for(self.count().div_ceil(per_task), |task| {
            (task * per_task..self.count().min((task + 1) * per_task)).for_each(&f);
        });
    }
}

/// `(y, mean, rstd)`, the latter two `[n, groups]`.
pub(crate) fn group_norm(
    x: &Tensor,
    groups: usize,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    let Some(shape) = Groups::new(x, groups) else {
        return composed::group_norm(x, groups, weight, bias, eps);
    };
    let (x, isa) = (contiguous(x)?, isa());
    match_float!("group_norm", x.dtype(), T => {
        type A = <T as Wide>::Acc;
        let (w, b) = (parameter::<A>(weight, shape.c, 1.0)?, parameter::<A>(bias, shape.c, 0.0)?);
        let mut stats = vec![[A::default(); 2]; shape.count()];
        let y = filled_shape::<T>(x.shape(), |y| {
            let (x, y, stats) = (elements::<T>(&x), Results::fresh(isa, y), SharedMut::new(&mut stats));
            shape.each(|i| {
                let (mut input, mut output, mut y) = (Widened::<T>::new(), Widened::<T>::new(), y.task());
                let moments = shape.pieces(i).map(|(_, at)| Moments::of(isa, input.view(&x[at])));
                let moments = moments.fold(Moments::default(), Moments::merge);
                let (mean, rstd) =
                    (A::from_f64(moments.mean), A::from_f64((moments.variance() + eps).sqrt().recip()));
                for (k, at) in shape.pieces(i) {
                    let write = |at: Range<usize>, y: &mut [T]| {
                        let x = input.view(&x[at]);
                        output.write(y, |y| kernels::normalise(isa, x, mean, rstd, w[k], b[k], y));
                    };
                    // SAFETY: each group belongs to one task.
                    unsafe { y.write_blocks(at, LEAF, write) };
                }
                // SAFETY: as above.
                unsafe { stats.slice(i..i + 1) }.fill([mean, rstd]);
            });
            Ok(())
        })?;
        let each = |k: usize| {
            tensor_of([shape.n, groups], &stats.iter().map(|s| s[k]).collect::<Vec<A>>())
        };
        Ok((y, each(0)?, each(1)?))
    })
}

/// Gradients in `x`, `weight` and `bias`.
pub(crate) fn group_norm_backward(
    grad: &Tensor,
    x: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    weight: Option<&Tensor>,
) -> Result<(Tensor, Tensor, Tensor)> {
    let Some(shape) = Groups::new(x, mean.dims()[1]) else {
        // In doubles, like the sums of the fused form.
        let wide = |t: &Tensor| t.to_dtype(DType::F64);
        let weight = weight.map(wide).transpose()?;
        let [g, z, mean, rstd] = [wide(grad)?, wide(x)?, wide(mean)?, wide(rstd)?];
        let (dx, dw, db) = composed::group_norm_backward(&g, &z, &mean, &rstd, weight.as_ref())?;
        return Ok((dx.to_dtype(x.dtype())?, dw.to_dtype(x.dtype())?, db.to_dtype(x.dtype())?));
    };
    let (grad, x, isa) = (contiguous(grad)?, contiguous(x)?, isa());
    match_float!("group_norm", x.dtype(), T => {
        type A = <T as Wide>::Acc;
        let count = shape.count();
        let (mean, rstd) = (parameter::<A>(Some(mean), count, 0.0)?, parameter::<A>(Some(rstd), count, 1.0)?);
        let w = parameter::<A>(weight, shape.c, 1.0)?;
        // (Σ g, Σ g · z) of each channel of each element of the batch.
        let mut shares = vec![[0.0; 2]; shape.n * shape.c];
        let dx = filled_shape::<T>(x.shape(), |dx| {
            let (g, x) = (elements::<T>(&grad), elements::<T>(&x));
            let (dx, shares) = (Results::fresh(isa, dx), SharedMut::new(&mut shares));
            shape.each(|i| {
                let mut dx = dx.task();
                let mut wide: [Widened<T>; 3] = std::array::from_fn(|_| Widened::new());
                let [wide_g, wide_x, wide_dx] = &mut wide;
                // The means over the group of h = g · w and of h · z.
                let mut means = [0.0; 2];
                for (k, at) in shape.pieces(i) {
                    let share = at.start / shape.size;
                    let next = [&g[at.end..], &x[at.end..]];
                    let (g, x) = (wide_g.view(&g[at.clone()]), wide_x.view(&x[at]));
                    let sums = A::vectorised(isa, ChannelSums { g, x, mean: mean[i], rstd: rstd[i], next });
                    // SAFETY: each group belongs to one task.
                    unsafe { shares.slice(share..share + 1) }.fill(sums);
                    let factor = w[k].to_f64() / shape.place(i).len() as f64;
                    means = [means[0] + sums[0] * factor, means[1] + sums[1] * factor];
                }
                let [h, hz] = means.map(A::from_f64);
                for (k, at) in shape.pieces(i) {
                    let write = |at: Range<usize>, dx: &mut [T]| {
                        let (g, x) = (wide_g.view(&g[at.clone()]), wide_x.view(&x[at]));
                        wide_dx.write(dx, |dx| {
                            kernels::channel_backward(isa, g, x, mean[i], rstd[i], w[k], h, hz, dx);
                        });
                    };
                    // SAFETY: as above.
                    unsafe { dx.write_blocks(at, LEAF, write) };
                }
            });
            Ok(())
        })?;
        let each = |i: usize| {
            filled_shape::<T>(shape.c.into(), |y| {
                for (k, y) in y.iter_mut().enumerate() {
                    *y = T::from_f64(shares[k..].iter().step_by(shape.c).map(|share| share[i]).sum());
                }
                Ok(())
            })
        };
        Ok((dx, each(1)?, each(0)?))
    })
}
