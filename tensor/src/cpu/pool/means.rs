//! Average pooling: rows of outputs, and for the gradient rows of the input, are spread over the threads.
//!
//! Images whose channels come last are pooled where they are, and so are the results.

use super::average::{Average, Means};
use super::spread::{Shares, Spread};
use super::windows::{Axis, adaptive, sliding};
use super::{TASK, contiguous};
use crate::cpu::isa::isa;
use crate::cpu::storage::{elements, filled_shape};
use crate::cpu::threads::{SharedMut, parallel_for};
use crate::cpu::vectors::Vectorised;
use crate::cpu::wide::{Wide, Widened};
use crate::{Pool, Result, Shape, Tensor, match_float};
use std::ops::Range;

/// `[n, c, spatial…]` as planes of positions: of one element each, or of all channels where these come last in memory.
struct Images {
    /// In the order of memory.
    x: Tensor,
    planes: usize,
    /// Elements of a position.
    inner: usize,
    last: bool,
}

impl Images {
    fn new(x: &Tensor) -> Result<Images> {
        let (n, c) = (x.dims()[0], x.dims()[1]);
        let mut order: Vec<usize> = (0..x.rank()).collect();
        order[1..].rotate_left(1);
        let there = x.with_layout(x.layout().permute(&order));
        if there.layout().is_contiguous() && !x.layout().is_contiguous() {
            return Ok(Images { x: there, planes: n, inner: c, last: true });
        }
        Ok(Images { x: contiguous(x)?, planes: n * c, inner: 1, last: false })
    }

    /// The shape that a result of `shape` has in the order of memory.
    fn there(&self, shape: Shape) -> Shape {
        let mut dims = shape.dims().to_vec();
        if self.last {
            dims[1..].rotate_left(1);
        }
        dims.into()
    }

    /// What was computed in the order of memory, as `[n, c, spatial…]`.
    fn back(&self, y: Tensor) -> Tensor {
        let mut order: Vec<usize> = (0..y.rank()).collect();
        if self.last {
            order[1..].rotate_right(1);
        }
        let layout = y.layout().permute(&order);
        y.into_layout(layout)
    }
}

/// Rows of planes, cut into pieces for tasks.
struct Pieces {
    planes: usize,
    rows: usize,
    /// Rows of a piece.
    per_piece: usize,
    /// Pieces of a task.
    per_task: usize,
}

impl Pieces {
    /// Of rows for each of which so many elements are read or written.
    fn new(planes: usize, rows: usize, size: usize) -> Pieces {
        let per_piece = (TASK / size.max(1)).clamp(1, rows.max(1));
        Pieces { planes, rows, per_piece, per_task: (TASK / (per_piece * size.max(1))).max(1) }
    }

    /// Calls `f` with each task's pieces: a plane and rows of it.
    fn each_task(&self, f: impl Fn(&mut dyn Iterator<Item = (usize, Range<usize>)>) + Sync) {
        let of_plane = self.rows.div_ceil(self.per_piece);
        let count = self.planes * of_plane;
        parallel_for(count.div_ceil(self.per_task), |task| {
            let piece = |i: usize| {
                let first = i % of_plane * self.per_piece;
                (i / of_plane, first..self.rows.min(first + self.per_piece))
            };
            f(&mut (task * self.per_task..count.min((task + 1) * self.per_task)).map(piece));
        });
    }
}

/// The means of windows.
fn average(x: &Tensor, shape: Shape, axes: &[Axis; 3]) -> Result<Tensor> {
    let (images, isa) = (Images::new(x)?, isa());
    let means = &Means::new(axes, images.inner);
    let ([height, width], [rows, out]) = (means.input(), means.output());
    let y = match_float!("avg_pool", x.dtype(), T => filled_shape::<T>(images.there(shape), |y| {
        if y.is_empty() {
            return Ok(());
        }
        let (x, y) = (elements::<T>(&images.x), SharedMut::new(y));
        Pieces::new(images.planes, rows, out.max(height * width / rows)).each_task(|pieces| {
            let (mut wide_x, mut wide_y, mut room) = (Widened::<T>::new(), Widened::<T>::new(), vec![]);
            for (plane, part) in pieces {
                let sources = means.sources.span(part.clone());
                let start = sources.start;
                let [from, to] = [sources.start, sources.end].map(|row| (plane * height + row) * width);
                let x = wide_x.view(&x[from..to]);
                // SAFETY: each row of outputs belongs to one task.
                let y = unsafe { y.slice((plane * rows + part.start) * out..(plane * rows + part.end) * out) };
                wide_y.write(y, |y| {
                    Vectorised::vectorised(isa, Average { means, rows: part, start, x, room: &mut room, y });
                });
            }
        });
        Ok(())
    }))?;
    Ok(images.back(y))
}

/// The gradient of [`average`].
fn spread(grad: &Tensor, input: Shape, axes: &[Axis; 3]) -> Result<Tensor> {
    let (images, isa) = (Images::new(grad)?, isa());
    let means = &Means::new(axes, images.inner);
    let ([rows, width], [height, out]) = (means.input(), means.output());
    let dx = match_float!("avg_pool_backward", grad.dtype(), T => filled_shape::<T>(images.there(input), |dx| {
        if dx.is_empty() {
            return Ok(());
        }
        let (g, dx) = (elements::<T>(&images.x), SharedMut::new(dx));
        let shares = &Shares::<<T as Wide>::Acc>::new(means);
        Pieces::new(images.planes, rows, width.max(height * out / rows)).each_task(|pieces| {
            let (mut wide_g, mut wide_dx, mut room) = (Widened::<T>::new(), Widened::<T>::new(), vec![]);
            for (plane, part) in pieces {
                let sources = shares.sources.span(part.clone());
                let start = sources.start;
                let [from, to] = [sources.start, sources.end].map(|row| (plane * height + row) * out);
                let g = wide_g.view(&g[from..to]);
                // SAFETY: each row of the input belongs to one task.
                let dx = unsafe {
                    dx.slice((plane * rows + part.start) * width..(plane * rows + part.end) * width)
                };
                wide_dx.write(dx, |dx| {
                    Vectorised::vectorised(isa, Spread { shares, rows: part, start, g, room: &mut room, dx });
                });
            }
        });
        Ok(())
    }))?;
    Ok(images.back(dx))
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
