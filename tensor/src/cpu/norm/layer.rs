//! Layer normalisation, and that by the root mean square: rows of the last dims.

use super::kernels::{PairBackward, RowBackward, RowSums};
use super::short::{ShortBackward, ShortForward};
use super::{Moments, kernels, parameter, tensor_of};
use crate::cpu::isa::isa;
use crate::cpu::reduce::{Kernel, contiguous};
use crate::cpu::results::Results;
use crate::cpu::short::{PARTS, SHORT};
use crate::cpu::simd::stream;
use crate::cpu::storage::{elements, filled_shape, memory_mut};
use crate::cpu::threads::{SharedMut, parallel_for};
use crate::cpu::vectors::Vectorised;
use crate::cpu::walk::GRAIN;
use crate::cpu::wide::{Wide, Widened};
use crate::op::{Real, ReduceOp};
use crate::{Result, Scalar, Shape, Tensor, composed, match_float};
use std::ops::Range;

/// Rows whose shares of the gradients of weight and bias are added up before those of blocks are.
const ROWS: usize = 64;

/// `[leading…]` and ones for the normalised dims.
fn stat_shape(shape: Shape, dims: usize) -> Shape {
    (shape.rank() - dims..shape.rank()).fold(shape, |s, d| s.with_dim(d, 1))
}

/// The length of parameters for rows of `n`: short ones are read by vectors beyond their end.
fn padded(n: usize) -> usize {
    if n <= SHORT { n.next_multiple_of(PARTS) } else { n }
}

/// `(y, mean, rstd)` over the last `dims` dims.
pub(crate) fn layer_norm(
    x: &Tensor,
    dims: usize,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    if x.numel() == 0 {
        return composed::layer_norm(x, dims, weight, bias, eps);
    }
    normalised(x, dims, weight, bias, eps, true)
}

/// `(y, rstd)` over the last `dims` dims.
pub(crate) fn rms_norm(
    x: &Tensor,
    dims: usize,
    weight: Option<&Tensor>,
    eps: f64,
) -> Result<(Tensor, Tensor)> {
    if x.numel() == 0 {
        return composed::rms_norm(x, dims, weight, eps);
    }
    let (y, _, rstd) = normalised(x, dims, weight, None, eps, false)?;
    Ok((y, rstd))
}

/// `(y, mean, rstd)`; unless `centred`, the mean is taken for 0.
fn normalised(
    x: &Tensor,
    dims: usize,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
    centred: bool,
) -> Result<(Tensor, Tensor, Tensor)> {
    let x = contiguous(x)?;
    let n: usize = x.dims()[x.rank() - dims..].iter().product();
    let (rows, stats, isa) = (x.numel() / n, stat_shape(x.shape(), dims), isa());
    match_float!("layer_norm", x.dtype(), T => {
        type A = <T as Wide>::Acc;
        let (mut w, mut b) = (parameter::<A>(weight, n, 1.0)?, parameter::<A>(bias, n, 0.0)?);
        [&mut w, &mut b].into_iter().for_each(|p| p.resize(padded(n), A::zero()));
        let (mut means, mut rstds) = (vec![A::default(); rows], vec![A::default(); rows]);
        let y = filled_shape::<T>(x.shape(), |y| {
            let (x, y) = (elements::<T>(&x), SharedMut::new(y));
            let (means, rstds) = (SharedMut::new(&mut means), SharedMut::new(&mut rstds));
            let per_task = (GRAIN / n).max(1);
            parallel_for(rows.div_ceil(per_task), |task| {
                let (mut input, mut output) = (Widened::<T>::new(), Widened::<T>::new());
                if n <= SHORT {
                    let at = task * per_task..rows.min((task + 1) * per_task);
                    let places = at.start * n..at.end * n;
                    let x = input.view(&x[places.clone()]);
                    // SAFETY: each row belongs to one task.
                    let (y, mean, rstd) = unsafe { (y.slice(places), means.slice(at.clone()), rstds.slice(at)) };
                    output.write(y, |y| {
                        A::vectorised(isa, ShortForward { centred, n, eps, x, w: &w, b: &b, y, mean, rstd });
                    });
                    return;
                }
                for row in task * per_task..rows.min((task + 1) * per_task) {
                    let x = input.view(&x[row * n..(row + 1) * n]);
                    let moments = Moments::of(isa, x);
                    let (mean, square) = match centred {
                        true => (moments.mean, moments.variance()),
                        false => (0.0, moments.variance() + moments.mean * moments.mean),
                    };
                    let (mean, rstd) = (A::from_f64(mean), A::from_f64((square + eps).sqrt().recip()));
                    // SAFETY: each row belongs to one task.
                    let (y, m, r) = unsafe {
                        (y.slice(row * n..(row + 1) * n), means.slice(row..row + 1), rstds.slice(row..row + 1))
                    };
                    (m[0], r[0]) = (mean, rstd);
                    output.write(y, |y| kernels::normalise_row(isa, x, mean, rstd, &w, &b, y));
                }
            });
            Ok(())
        })?;
        Ok((y, tensor_of(stats, &means)?, tensor_of(stats, &rstds)?))
    })
}

/// Gradients in `x`, `weight` and `bias`.
pub(crate) fn layer_norm_backward(
    grad: &Tensor,
    x: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    weight: Option<&Tensor>,
    dims: usize,
) -> Result<(Tensor, Tensor, Tensor)> {
    if x.numel() == 0 {
        return composed::layer_norm_backward(grad, x, mean, rstd, weight, dims);
    }
    backward(grad, x, Some(mean), rstd, weight, dims)
}

/// Gradients in `x` and `weight`.
pub(crate) fn rms_norm_backward(
    grad: &Tensor,
    x: &Tensor,
    rstd: &Tensor,
    weight: Option<&Tensor>,
    dims: usize,
) -> Result<(Tensor, Tensor)> {
    if x.numel() == 0 {
        return composed::rms_norm_backward(grad, x, rstd, weight, dims);
    }
    let (dx, dw, _) = backward(grad, x, None, rstd, weight, dims)?;
    Ok((dx, dw))
}

/// Gradients in `x`, `weight` and `bias`; without a mean, it is 0 and does not depend on `x`.
fn backward(
    grad: &Tensor,
    x: &Tensor,
    mean: Option<&Tensor>,
    rstd: &Tensor,
    weight: Option<&Tensor>,
    dims: usize,
) -> Result<(Tensor, Tensor, Tensor)> {
    let centred = mean.is_some();
    let (grad, x) = (contiguous(grad)?, contiguous(x)?);
    let affine = Shape::from(&x.dims()[x.rank() - dims..]);
    let n = affine.numel();
    let (rows, isa) = (x.numel() / n, isa());
    let (blocks, width) = (rows.div_ceil(ROWS), padded(n));
    match_float!("layer_norm", x.dtype(), T => {
        type A = <T as Wide>::Acc;
        let mut w = parameter::<A>(weight, n, 1.0)?;
        w.resize(width, A::zero());
        let (means, rstds) = (parameter::<A>(mean, rows, 0.0)?, parameter::<A>(Some(rstd), rows, 1.0)?);
        // [blocks, width] of each: memory of the allocator, as it is larger than what the system hands out without faults.
        let room = || filled_shape::<A>([blocks, width].into(), |_| Ok(()));
        let (mut dw, mut db) = (room()?, room()?);
        let [dw, db] = [&mut dw, &mut db].map(|t| memory_mut::<A>(t).expect("nobody else holds it"));
        let dx = filled_shape::<T>(x.shape(), |dx| {
            let (g, x) = (elements::<T>(&grad), elements::<T>(&x));
            let dx = if n <= SHORT { Results::new(dx) } else { Results::fresh(isa, dx) };
            let (dw, db) = (SharedMut::new(&mut dw[..blocks * width]), SharedMut::new(&mut db[..blocks * width]));
            parallel_for(blocks, |block| {
                let mut wide: [Widened<T>; 3] = std::array::from_fn(|_| Widened::new());
                let [wide_g, wide_x, wide_dx] = &mut wide;
                let share = block * width..(block + 1) * width;
                // SAFETY: each block of rows belongs to one task.
                let (dw, db) = unsafe { (dw.slice(share.clone()), db.slice(share)) };
                dw.fill(A::zero());
                db.fill(A::zero());
                let (mut to, w, mut row) = (dx.task(), &w, block * ROWS);
                let end = rows.min((block + 1) * ROWS);
                if n <= SHORT {
                    let (mean, rstd) = (&means[row..end], &rstds[row..end]);
                    let (g, x) = (wide_g.view(&g[row * n..end * n]), wide_x.view(&x[row * n..end * n]));
                    let write = |_, dx: &mut [T]| {
                        wide_dx.write(dx, |dx| {
                            A::vectorised(isa, ShortBackward { centred, n, g, x, w, mean, rstd, dx, dw, db });
                        });
                    };
                    // SAFETY: each row belongs to one block.
                    unsafe { to.write_blocks(row * n..end * n, ROWS * n, write) };
                    return;
                }
                while row < end {
                    // Past the caches one by one, while the next is on its way: two rows, and what they are read from, lie in
                    // the same places of the first cache where rows are powers of two apart.
                    let count = if dx.streams() || row + 1 == end { 1 } else { 2 };
                    let at = row * n..(row + count) * n;
                    let after = [&g[at.end..], &x[at.end..]];
                    let (g, x) = (wide_g.view(&g[at.clone()]), wide_x.view(&x[at.clone()]));
                    let (mean, rstd) = (&means[row..row + count], &rstds[row..row + count]);
                    row += count;
                    if count == 2 {
                        let write = |_, dx: &mut [T]| {
                            wide_dx.write(dx, |dx| {
                                A::vectorised(isa, PairBackward { centred, g, x, w, mean, rstd, dx, dw, db });
                            });
                        };
                        // SAFETY: each row belongs to one block. These two are not written in parts.
                        unsafe { to.write_blocks(at, 2 * n, write) };
                        continue;
                    }
                    let (mean, rstd) = (mean[0], rstd[0]);
                    let sums = A::vectorised(isa, RowSums { centred, g, x, w, mean, rstd });
                    let write = |part: Range<usize>, dx: &mut [T]| {
                        let part = part.start - at.start..part.end - at.start;
                        after.iter().for_each(|after| stream::prefetch(after, part.clone()));
                        let [g, x, w] = [g, x, w].map(|x| &x[part.clone()]);
                        let (dw, db) = (&mut dw[part.clone()], &mut db[part]);
                        wide_dx.write(dx, |dx| {
                            A::vectorised(isa, RowBackward { g, x, w, mean, rstd, sums, dx, dw, db });
                        });
                    };
                    // SAFETY: each row belongs to one block.
                    unsafe { to.write_blocks(at.clone(), n, write) };
                }
            });
            Ok(())
        })?;
        let sum = Kernel::<A>::new(ReduceOp::Sum, isa);
        let total = |parts: &mut [A]| {
            sum.tree(&mut parts[..blocks * width], width);
            tensor_of(affine, &parts[..n])?.to_dtype(x.dtype())
        };
        Ok((dx, total(dw)?, total(db)?))
    })
}
