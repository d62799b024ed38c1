//! Pooling over one to three spatial dims: planes are independent, and spread over the threads.

mod average;
mod max;
#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;
mod windows;

use crate::cpu::copy;
use crate::cpu::gemm::{GemmElement, Scalar as Sum};
use crate::cpu::isa::isa;
use crate::cpu::storage::{elements, filled_shape};
use crate::cpu::threads::{SharedMut, parallel_for};
use crate::{Pool, Result, Shape, Tensor, match_float};
use max::MaxPool;
use windows::{Axis, adaptive, plane, sliding};

/// Values per task.
const TASK: usize = 16 * 1024;

/// The tensor itself if it is row-major, else a copy that is.
fn contiguous(x: &Tensor) -> Result<Tensor> {
    if x.layout().is_contiguous() { Ok(x.clone()) } else { copy::copy(x, x.dtype()) }
}

fn volume(shape: Shape) -> usize {
    plane(shape).iter().product()
}

/// Calls `f(planes)` with ranges of the planes of `[n, c, spatial…]` of a size, on all threads.
fn over_planes(shape: Shape, size: usize, f: impl Fn(std::ops::Range<usize>) + Sync) {
    let planes = shape.dims()[0] * shape.dims()[1];
    let group = (TASK / size.max(1)).max(1);
    parallel_for(planes.div_ceil(group), |task| f(task * group..planes.min((task + 1) * group)));
}

/// The part of a slice that belongs to a plane.
///
/// # Safety
/// No other task reaches this plane.
#[allow(clippy::mut_from_ref, reason = "as `SharedMut::slice`, whose contract this passes on")]
unsafe fn part<'a, T>(shared: &'a SharedMut<T>, plane: usize, size: usize) -> &'a mut [T] {
    // SAFETY: the caller has the plane for itself.
    unsafe { shared.slice(plane * size..(plane + 1) * size) }
}

/// The largest of each window and its index in the plane.
pub(crate) fn max_pool(x: &Tensor, pool: &Pool) -> Result<(Tensor, Tensor)> {
    let shape = pool.output_shape("max_pool", x.shape())?;
    let axes = sliding(x.shape(), shape, pool);
    let pooling = MaxPool::new(&axes, isa());
    let x = contiguous(x)?;
    let (from, to) = (volume(x.shape()), volume(shape));
    let mut y = None;
    let index = filled_shape::<i64>(shape, |index| {
        y = Some(match_float!("max_pool", x.dtype(), T => filled_shape::<T>(shape, |y| {
            let (x, y, index) = (elements::<T>(&x), SharedMut::new(y), SharedMut::new(index));
            over_planes(shape, from, |planes| for i in planes {
                // SAFETY: each plane belongs to one task.
                let (y, index) = unsafe { (part(&y, i, to), part(&index, i, to)) };
                pooling.plane(&x[i * from..][..from], y, index);
            });
            Ok(())
        }))?);
        Ok(())
    })?;
    Ok((y.expect("filling the index fills the values"), index))
}

/// Adds each gradient to the place that was the largest.
pub(crate) fn max_pool_backward(grad: &Tensor, index: &Tensor, input: Shape) -> Result<Tensor> {
    let (grad, index) = (contiguous(grad)?, contiguous(index)?);
    let (to, from) = (volume(input), volume(grad.shape()));
    match_float!("max_pool_backward", grad.dtype(), T => filled_shape::<T>(input, |dx| {
        let (grad, index, dx) = (elements::<T>(&grad), elements::<i64>(&index), SharedMut::new(dx));
        if to == 0 {
            return Ok(());
        }
        over_planes(input, to, |planes| {
            let mut sums = vec![<T as GemmElement>::Acc::ZERO; if T::NATIVE { 0 } else { to }];
            for i in planes {
                // SAFETY: each plane belongs to one task.
                let dx = unsafe { part(&dx, i, to) };
                let places = grad[i * from..][..from].iter().zip(&index[i * from..]);
                if T::NATIVE {
                    dx.fill(T::default());
                    places.for_each(|(g, at)| dx[*at as usize] = T::narrow(dx[*at as usize].widen().plus(g.widen())));
                } else {
                    sums.fill(<T as GemmElement>::Acc::ZERO);
                    places.for_each(|(g, at)| sums[*at as usize] = sums[*at as usize].plus(g.widen()));
                    dx.iter_mut().zip(&sums).for_each(|(dx, sum)| *dx = T::narrow(*sum));
                }
            }
        });
        Ok(())
    }))
}

/// The means of windows.
fn average(x: &Tensor, shape: Shape, axes: &[Axis; 3]) -> Result<Tensor> {
    let x = contiguous(x)?;
    let (from, to) = (volume(x.shape()), volume(shape));
    match_float!("avg_pool", x.dtype(), T => filled_shape::<T>(shape, |y| {
        let (x, y) = (elements::<T>(&x), SharedMut::new(y));
        over_planes(shape, from, |planes| {
            let mut columns = vec![<T as GemmElement>::Acc::ZERO; axes[2].size];
            for i in planes {
                // SAFETY: each plane belongs to one task.
                let y = unsafe { part(&y, i, to) };
                average::average(axes, &x[i * from..][..from], &mut columns, y);
            }
        });
        Ok(())
    }))
}

/// The gradient of [`average`].
fn spread(grad: &Tensor, input: Shape, axes: &[Axis; 3]) -> Result<Tensor> {
    let grad = contiguous(grad)?;
    let (to, from) = (volume(input), volume(grad.shape()));
    match_float!("avg_pool_backward", grad.dtype(), T => filled_shape::<T>(input, |dx| {
        let (grad, dx) = (elements::<T>(&grad), SharedMut::new(dx));
        over_planes(input, to, |planes| {
            let mut row = vec![<T as GemmElement>::Acc::ZERO; axes[2].size];
            let mut sums = vec![<T as GemmElement>::Acc::ZERO; to];
            for i in planes {
                sums.fill(<T as GemmElement>::Acc::ZERO);
                average::spread(axes, &grad[i * from..][..from], &mut row, &mut sums);
                // SAFETY: each plane belongs to one task.
                let dx = unsafe { part(&dx, i, to) };
                dx.iter_mut().zip(&sums).for_each(|(dx, sum)| *dx = T::narrow(*sum));
            }
        });
        Ok(())
    }))
}

/// The mean of each window.
pub(crate) fn avg_pool(x: &Tensor, pool: &Pool) -> Result<Tensor> {
    let shape = pool.output_shape("avg_pool", x.shape())?;
    average(x, shape, &sliding(x.shape(), shape, pool))
}

/// The gradient of [`avg_pool`].
pub(crate) fn avg_pool_backward(grad: &Tensor, input: Shape, pool: &Pool) -> Result<Tensor> {
    spread(grad, input, &sliding(input, grad.shape(), pool))
}

/// The mean of nearly equal parts.
pub(crate) fn adaptive_avg_pool(x: &Tensor, output: Shape) -> Result<Tensor> {
    average(x, output, &adaptive(x.shape(), output))
}

/// The gradient of [`adaptive_avg_pool`].
pub(crate) fn adaptive_avg_pool_backward(grad: &Tensor, input: Shape) -> Result<Tensor> {
    spread(grad, input, &adaptive(input, grad.shape()))
}
