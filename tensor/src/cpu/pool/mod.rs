//! Pooling over one to three spatial dims: planes are independent, and spread over the threads.

mod average;
mod back;
mod codes;
mod deal;
mod max;
mod means;
#[cfg(test)]
mod naive;
mod spread;
mod strips;
#[cfg(test)]
mod tests;
mod windows;

pub(crate) use means::{adaptive_avg_pool, adaptive_avg_pool_backward, avg_pool, avg_pool_backward};

use crate::cpu::copy;
use crate::cpu::isa::isa;
use crate::cpu::storage::{elements, filled_shape};
use crate::cpu::threads::{SharedMut, parallel_for};
use crate::cpu::vectors::Vectorised;
use crate::cpu::wide::{Wide, Widened};
use crate::op::Real;
use crate::{DType, Pool, Result, Shape, Tensor, match_float};
use back::{Disjoint, each};
use codes::Place;
use max::MaxPool;
use strips::{Plane, Room};
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

/// The largest of each window and, if asked for, its place.
fn largest<P: Place>(
    x: &Tensor,
    shape: Shape,
    pool: &MaxPool,
    placed: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let (x, isa) = (contiguous(x)?, isa());
    let (from, to) = (volume(x.shape()), volume(shape));
    let fill = |places: Option<SharedMut<P>>| {
        match_float!("max_pool", x.dtype(), T => filled_shape::<T>(shape, |y| {
            type A = <T as Wide>::Acc;
            let (x, y) = (elements::<T>(&x), SharedMut::new(y));
            over_planes(shape, from, |planes| {
                let (mut wide_x, mut wide_y) = (Widened::<T>::new(), Widened::<T>::new());
                let mut room = Room::new(pool, to, places.is_some());
                for i in planes {
                    let x = wide_x.view(&x[i * from..][..from]);
                    // SAFETY: each plane belongs to one task.
                    wide_y.write(unsafe { part(&y, i, to) }, |y| {
                        // SAFETY: as above.
                        let places = places.as_ref().map(|places| unsafe { part(places, i, to) });
                        A::vectorised(isa, Plane { pool, x, y, places, room: &mut room });
                    });
                }
            });
            Ok(())
        }))
    };
    if !placed {
        return Ok((fill(None)?, None));
    }
    let mut y = None;
    let places = filled_shape::<P>(shape, |places| {
        y = Some(fill(Some(SharedMut::new(places)))?);
        Ok(())
    })?;
    Ok((y.expect("filling the places fills the values"), Some(places)))
}

/// As [`largest`], with the indices in the plane.
fn indexed(x: &Tensor, shape: Shape, axes: &[Axis; 3]) -> Result<(Tensor, Tensor)> {
    let (y, index) = largest::<i64>(x, shape, &MaxPool::new(axes), true)?;
    Ok((y, index.expect("it was asked for")))
}

/// The largest of each window and its index in the plane.
pub(crate) fn max_pool(x: &Tensor, pool: &Pool) -> Result<(Tensor, Tensor)> {
    let shape = pool.output_shape("max_pool", x.shape())?;
    indexed(x, shape, &sliding(x.shape(), shape, pool))
}

/// The largest of nearly equal parts and its index in the plane.
pub(crate) fn adaptive_max_pool(x: &Tensor, output: Shape) -> Result<(Tensor, Tensor)> {
    indexed(x, output, &adaptive(x.shape(), output))
}

/// The largest of each window and, if asked for, its place: a code of one byte where that holds it, else the index.
pub(crate) fn max_pool_places(x: &Tensor, pool: &Pool, places: bool) -> Result<(Tensor, Option<Tensor>)> {
    let shape = pool.output_shape("max_pool", x.shape())?;
    let axes = sliding(x.shape(), shape, pool);
    let pooling = MaxPool::new(&axes);
    match pooling.full && pooling.codes() <= 256 {
        true => largest::<u8>(x, shape, &pooling, places),
        false => largest::<i64>(x, shape, &pooling, places),
    }
}

/// The indices that the places given by [`max_pool_places`] stand for.
pub(crate) fn max_pool_index(places: &Tensor, input: Shape, pool: &Pool) -> Result<Tensor> {
    if places.dtype() == DType::I64 {
        return Ok(places.clone());
    }
    let (places, size) = (contiguous(places)?, volume(places.shape()).max(1));
    let axes = sliding(input, places.shape(), pool);
    let (pool, codes) = (MaxPool::new(&axes), elements::<u8>(&places));
    filled_shape::<i64>(places.shape(), |index| {
        for (index, codes) in index.chunks_exact_mut(size).zip(codes.chunks_exact(size)) {
            each(&pool, codes, |out, at| index[out] = at as i64);
        }
        Ok(())
    })
}

/// Adds each gradient to the place that was the largest.
pub(crate) fn max_pool_backward(grad: &Tensor, index: &Tensor, input: Shape) -> Result<Tensor> {
    let (grad, index) = (contiguous(grad)?, contiguous(index)?);
    let (to, from, index) = (volume(input), volume(grad.shape()), elements::<i64>(&index));
    match_float!("max_pool_backward", grad.dtype(), T => filled_shape::<T>(input, |dx| {
        if to == 0 {
            return Ok(());
        }
        let (grad, dx) = (elements::<T>(&grad), SharedMut::new(dx));
        over_planes(input, to, |planes| {
            let (mut wide_g, mut wide_dx) = (Widened::<T>::new(), Widened::<T>::new());
            for i in planes {
                let (g, index) = (wide_g.view(&grad[i * from..][..from]), &index[i * from..][..from]);
                // SAFETY: each plane belongs to one task.
                wide_dx.write(unsafe { part(&dx, i, to) }, |dx| {
                    dx.fill(<T as Wide>::Acc::zero());
                    index.iter().zip(g).for_each(|(&at, &g)| dx[at as usize] += g);
                });
            }
        });
        Ok(())
    }))
}

/// As [`max_pool_backward`], with the places given by [`max_pool_places`].
pub(crate) fn max_pool_places_backward(
    grad: &Tensor,
    places: &Tensor,
    input: Shape,
    pool: &Pool,
) -> Result<Tensor> {
    if places.dtype() == DType::I64 {
        return max_pool_backward(grad, places, input);
    }
    let (grad, places, isa) = (contiguous(grad)?, contiguous(places)?, isa());
    let axes = sliding(input, grad.shape(), pool);
    let (pool, codes) = (&MaxPool::new(&axes), elements::<u8>(&places));
    let (to, from, disjoint) = (volume(input), volume(grad.shape()), pool.disjoint());
    match_float!("max_pool_backward", grad.dtype(), T => filled_shape::<T>(input, |dx| {
        let (grad, dx) = (elements::<T>(&grad), SharedMut::new(dx));
        over_planes(input, to, |planes| {
            let (mut wide_g, mut wide_dx, mut room) = (Widened::<T>::new(), Widened::<T>::new(), vec![]);
            for i in planes {
                let (codes, grad) = (&codes[i * from..][..from], wide_g.view(&grad[i * from..][..from]));
                // SAFETY: each plane belongs to one task.
                wide_dx.write(unsafe { part(&dx, i, to) }, |dx| {
                    if disjoint {
                        Vectorised::vectorised(isa, Disjoint { pool, codes, grad, dx, room: &mut room });
                    } else {
                        dx.fill(<T as Wide>::Acc::zero());
                        each(pool, codes, |out, at| dx[at] += grad[out]);
                    }
                });
            }
        });
        Ok(())
    }))
}
