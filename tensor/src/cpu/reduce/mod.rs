//! Reductions over dims.
//!
//! A tensor is seen as `[outer, r, inner]` with `r` reduced, once for each group of neighbouring reduced dims, the innermost
//! first. What is combined with what follows from the shape alone: neither the number of threads nor the strides
//! change a bit of the result. Sums are taken pairwise over leaves of bounded length, so that their error grows with the
//! logarithm of the number of elements.

mod arg;
mod kernels;
#[cfg(test)]
mod naive;
mod scan;
#[cfg(test)]
mod tests;

pub(crate) use arg::arg_reduce;
pub(crate) use kernels::Kernel;
pub(crate) use scan::scan;

use crate::backend::DimMask;
use crate::cpu::copy::copy;
use crate::cpu::isa::isa;
use crate::cpu::storage::{elements, filled_shape};
use crate::cpu::threads::{SharedMut, parallel_chunks_mut, parallel_for};
use crate::cpu::walk::GRAIN;
use crate::cpu::wide::{Wide, Widened};
use crate::op::ReduceOp;
use crate::{Layout, Result, Shape, Tensor, match_dtype};

/// Elements of a run that are combined before runs are.
pub(crate) const LEAF: usize = 4096;

/// Rows that are combined before blocks of rows are, and columns that are taken at a time.
const ROWS: usize = 64;
const COLUMNS: usize = 1024;

/// Reduces the dims in `mask`, which stay with extent 1.
pub(crate) fn reduce(op: ReduceOp, x: &Tensor, mask: &DimMask) -> Result<Tensor> {
    let dtype = x.dtype();
    let out = (0..x.rank()).fold(x.shape(), |s, d| if mask[d] { s.with_dim(d, 1) } else { s });
    let (groups, count) = groups(x.shape(), mask);
    let mut x = contiguous(x)?;
    let mut inner = 1;
    for (i, &(n, reduced)) in groups[..count].iter().enumerate().rev() {
        match reduced {
            true => x = stage(op, &x, [groups[..i].iter().map(|g| g.0).product(), n, inner])?,
            false => inner *= n,
        }
    }
    let x = if x.dtype() == dtype { x } else { copy(&x, dtype)? };
    Ok(x.with_layout(Layout::contiguous(out)))
}

/// Row-major, copied if need be.
pub(crate) fn contiguous(x: &Tensor) -> Result<Tensor> {
    if x.layout().is_contiguous() { Ok(x.clone()) } else { copy(x, x.dtype()) }
}

/// Neighbouring dims of one sort merged: their extents and whether they are reduced. There is at least one that is.
fn groups(shape: Shape, mask: &DimMask) -> ([(usize, bool); crate::MAX_RANK + 1], usize) {
    let mut groups = [(1, true); crate::MAX_RANK + 1];
    let mut count = 0;
    for (&n, &reduced) in shape.dims().iter().zip(mask) {
        match count > 0 && groups[count - 1].1 == reduced {
            true => groups[count - 1].0 *= n,
            false if n == 1 => continue,
            false => {
                groups[count] = (n, reduced);
                count += 1;
            }
        }
    }
    let none = groups[..count].iter().all(|g| !g.1);
    (groups, count + usize::from(none))
}

/// `[outer, r, inner] -> [outer, inner]` in the accumulator's dtype, of a contiguous tensor.
fn stage(op: ReduceOp, x: &Tensor, [outer, r, inner]: [usize; 3]) -> Result<Tensor> {
    match_dtype!(x.dtype(), T => {
        let kernel = Kernel::<<T as Wide>::Acc>::new(op, isa());
        filled_shape::<<T as Wide>::Acc>([outer, inner].into(), |y| {
            match (r, inner) {
                _ if y.is_empty() => {}
                (0, _) => y.fill(kernel.init()),
                (_, 1) => rows(kernel, elements::<T>(x), r, y),
                _ => columns(kernel, elements::<T>(x), r, inner, y),
            }
            Ok(())
        })
    })
}

/// `[outer, r]`, each row reduced.
fn rows<T: Wide>(kernel: Kernel<T::Acc>, x: &[T], r: usize, y: &mut [T::Acc]) {
    let leaves = r.div_ceil(LEAF);
    if leaves == 1 {
        let per_task = (GRAIN / r).max(1);
        return parallel_chunks_mut(y, per_task, |task, y| {
            let mut wide = Widened::<T>::new();
            let x = &x[task * per_task * r..][..y.len() * r];
            for (y, x) in y.iter_mut().zip(x.chunks_exact(r)) {
                *y = kernel.fold(wide.view(x));
            }
        });
    }
    let mut parts = vec![kernel.init(); y.len() * leaves];
    let per_task = 4 * GRAIN / LEAF;
    parallel_chunks_mut(&mut parts, per_task, |task, parts| {
        let mut wide = Widened::<T>::new();
        for (i, part) in parts.iter_mut().enumerate() {
            let (row, leaf) = ((task * per_task + i) / leaves, (task * per_task + i) % leaves);
            let (start, end) = (leaf * LEAF, r.min((leaf + 1) * LEAF));
            *part = kernel.fold(wide.view(&x[row * r + start..row * r + end]));
        }
    });
    for (y, parts) in y.iter_mut().zip(parts.chunks_exact_mut(leaves)) {
        kernel.tree(parts, 1);
        *y = parts[0];
    }
}

/// `[outer, r, inner]`, each column reduced: vectors of columns are accumulated over blocks of rows.
fn columns<T: Wide>(kernel: Kernel<T::Acc>, x: &[T], r: usize, inner: usize, y: &mut [T::Acc]) {
    // Narrow rows are joined, so that a block holds enough of them to be worth a call.
    let block = ROWS.max(LEAF / inner);
    let blocks = r.div_ceil(block);
    if blocks == 1 {
        return column_blocks(kernel, x, r, inner, block, y);
    }
    let mut parts = vec![T::Acc::default(); y.len() * blocks];
    column_blocks(kernel, x, r, inner, block, &mut parts);
    for (y, parts) in y.chunks_exact_mut(inner).zip(parts.chunks_exact_mut(blocks * inner)) {
        kernel.tree(parts, inner);
        y.copy_from_slice(&parts[..inner]);
    }
}

/// The reduction of each block of rows: `parts` is `[outer, blocks, inner]`.
fn column_blocks<T: Wide>(
    kernel: Kernel<T::Acc>,
    x: &[T],
    r: usize,
    inner: usize,
    block: usize,
    parts: &mut [T::Acc],
) {
    let (blocks, stretches) = (r.div_ceil(block), inner.div_ceil(COLUMNS));
    let count = parts.len() / inner * stretches;
    let per_task = (GRAIN / (block.min(r) * inner.min(COLUMNS))).max(1);
    let parts = SharedMut::new(parts);
    parallel_for(count.div_ceil(per_task), |task| {
        let mut wide = Widened::<T>::new();
        for i in task * per_task..count.min((task + 1) * per_task) {
            let (part, stretch) = (i / stretches, i % stretches);
            let (outer, first) = (part / blocks, part % blocks * block);
            let rows = block.min(r - first);
            let (left, right) = (stretch * COLUMNS, inner.min((stretch + 1) * COLUMNS));
            // SAFETY: each stretch of each part belongs to one task.
            let acc = unsafe { parts.slice(part * inner + left..part * inner + right) };
            acc.fill(kernel.init());
            let x = &x[(outer * r + first) * inner..][left..(rows - 1) * inner + right];
            if T::as_wide(x).is_some() || right - left == inner {
                // Widened pieces are of whole rows.
                let piece = if T::as_wide(x).is_some() { x.len() } else { (LEAF / inner).max(1) * inner };
                x.chunks(piece).for_each(|x| kernel.columns(wide.view(x), inner, acc));
            } else {
                for x in x.chunks(inner) {
                    kernel.columns(wide.view(&x[..right - left]), right - left, acc);
                }
            }
        }
    });
}
