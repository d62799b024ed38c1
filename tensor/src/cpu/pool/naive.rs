//! Pooling by its definition, one window at a time: what the fast loops are tested against.

use super::windows::{Axis, adaptive, sliding};
use crate::cpu::copy;
use crate::cpu::storage::{elements, filled_shape};
use crate::{Pool, Result, Scalar, Shape, Tensor, match_float};

/// Calls `f(output, divisor, taps)` for every window of one plane, with flat positions in it.
fn for_each_window(axes: &[Axis; 3], mut f: impl FnMut(usize, usize, &mut dyn Iterator<Item = usize>)) {
    let [d, h, w] = axes;
    let mut out = 0;
    for a in &d.windows {
        for b in &h.windows {
            for c in &w.windows {
                let rows = (a.start..a.end)
                    .step_by(a.step)
                    .flat_map(|i| (b.start..b.end).step_by(b.step).map(move |j| (i * h.size + j) * w.size));
                let mut taps = rows.flat_map(|row| (c.start..c.end).step_by(c.step).map(move |k| row + k));
                f(out, a.count * b.count * c.count, &mut taps);
                out += 1;
            }
        }
    }
}

fn plane(shape: Shape) -> usize {
    shape.dims()[2..].iter().product()
}

/// The largest of each window and its index in the plane.
pub(crate) fn max_pool(x: &Tensor, pool: &Pool) -> Result<(Tensor, Tensor)> {
    let shape = pool.output_shape("max_pool", x.shape())?;
    let axes = sliding(x.shape(), shape, pool);
    let x = copy::copy(x, x.dtype())?;
    let mut index = vec![0i64; shape.numel()];
    let y = match_float!("max_pool", x.dtype(), T => filled_shape::<T>(shape, |y| {
        let (from, to) = (plane(x.shape()).max(1), plane(shape).max(1));
        let planes = elements::<T>(&x).chunks(from).zip(y.chunks_mut(to)).zip(index.chunks_mut(to));
        for ((x, y), index) in planes {
            for_each_window(&axes, |out, _, taps| {
                let Some(first) = taps.next() else {
                    (y[out], index[out]) = (T::from_f64(f64::NEG_INFINITY), 0);
                    return;
                };
                let better = |best: usize, at: usize| if x[at] > x[best] || x[at].is_nan() { at } else { best };
                let best = taps.fold(first, better);
                (y[out], index[out]) = (x[best], best as i64);
            });
        }
        Ok(())
    }))?;
    let index = filled_shape::<i64>(shape, |i| {
        i.copy_from_slice(&index);
        Ok(())
    })?;
    Ok((y, index))
}

/// Adds each gradient to the place that was the largest.
pub(crate) fn max_pool_backward(grad: &Tensor, index: &Tensor, input: Shape) -> Result<Tensor> {
    let (grad, index) = (copy::copy(grad, grad.dtype())?, copy::copy(index, index.dtype())?);
    match_float!("max_pool_backward", grad.dtype(), T => filled_shape::<T>(input, |dx| {
        dx.fill(T::default());
        let (to, from) = (plane(input).max(1), plane(grad.shape()).max(1));
        let planes = elements::<T>(&grad).chunks(from).zip(elements::<i64>(&index).chunks(from)).zip(dx.chunks_mut(to));
        for ((g, index), dx) in planes {
            for (&g, &i) in g.iter().zip(index) {
                let dx = &mut dx[i as usize];
                *dx = T::from_f64(dx.to_f64() + g.to_f64());
            }
        }
        Ok(())
    }))
}

fn average(x: &Tensor, shape: Shape, axes: &[Axis; 3]) -> Result<Tensor> {
    let x = copy::copy(x, x.dtype())?;
    match_float!("avg_pool", x.dtype(), T => filled_shape::<T>(shape, |y| {
        let (from, to) = (plane(x.shape()).max(1), plane(shape).max(1));
        for (x, y) in elements::<T>(&x).chunks(from).zip(y.chunks_mut(to)) {
            for_each_window(axes, |out, count, taps| {
                y[out] = T::from_f64(taps.map(|i| x[i].to_f64()).sum::<f64>() / count as f64);
            });
        }
        Ok(())
    }))
}

fn spread(grad: &Tensor, input: Shape, axes: &[Axis; 3]) -> Result<Tensor> {
    let grad = copy::copy(grad, grad.dtype())?;
    match_float!("avg_pool_backward", grad.dtype(), T => filled_shape::<T>(input, |dx| {
        dx.fill(T::default());
        let (to, from) = (plane(input).max(1), plane(grad.shape()).max(1));
        for (g, dx) in elements::<T>(&grad).chunks(from).zip(dx.chunks_mut(to)) {
            for_each_window(axes, |out, count, taps| {
                let share = g[out].to_f64() / count as f64;
                taps.for_each(|i| dx[i] = T::from_f64(dx[i].to_f64() + share));
            });
        }
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
