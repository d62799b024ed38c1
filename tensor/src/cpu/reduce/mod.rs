//! Reductions over dims.
//!
//! A tensor is seen as `[outer, r, inner]` with `r` reduced, once for each group of neighbouring reduced dims, the innermost in
//! memory first: extremes of transposed and permuted tensors, and sums of integers, are taken where they are. What is combined with what
//! follows from the shape: neither the number of threads nor the layout changes a bit of the result. Sums are taken pairwise over
//! leaves of bounded length, so that their error grows with the logarithm of the number of elements.

mod arg;
mod kernels;
mod moments;
#[cfg(test)]
mod naive;
mod scan;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use arg::arg_reduce;
pub(crate) use kernels::Kernel;
pub(crate) use moments::{Moments, var_mean};
pub(crate) use scan::{arg_scan, logcumsumexp, scan};

use crate::backend::DimMask;
use crate::cpu::copy::copy;
use crate::cpu::isa::isa;
use crate::cpu::storage::{elements, filled_shape, memory};
use crate::cpu::threads::{SharedMut, parallel_chunks_mut, parallel_for};
use crate::cpu::walk::GRAIN;
use crate::cpu::wide::{Wide, Widened};
use crate::op::ReduceOp;
use crate::{Result, Scalar, Shape, Tensor, match_dtype};
use view::{Stage, View};

/// Elements of a run that are combined before runs are.
pub(crate) const LEAF: usize = 4096;

/// Rows that are combined before blocks of rows are, and columns that are taken at a time.
const ROWS: usize = 64;
const COLUMNS: usize = 1024;

/// Reduces the dims in `mask`, which stay with extent 1.
pub(crate) fn reduce(op: ReduceOp, x: &Tensor, mask: &DimMask) -> Result<Tensor> {
    if let Some(y) = few(op, x, mask) {
        return y;
    }
    let rounds = x.dtype().is_float() && matches!(op, ReduceOp::Sum | ReduceOp::Prod);
    let mut view = View::new(x, mask, !rounds)?;
    while let Some(stage) = view.stage() {
        let y = reduce_stage(op, &view.x, stage)?;
        view.reduced(y);
    }
    let order = view.order;
    let y = if view.x.dtype() == x.dtype() { view.x } else { copy(&view.x, x.dtype())? };
    Ok(view::result(order, y, x, mask))
}

/// All of a few elements, where they lie together and need no wider type: what the stages would do, without the way there.
fn few(op: ReduceOp, x: &Tensor, mask: &DimMask) -> Option<Result<Tensor>> {
    let all = x.dims().iter().zip(mask).all(|(&n, &reduced)| reduced || n == 1);
    if !all || !x.layout().is_contiguous() || !(1..=LEAF).contains(&x.numel()) {
        return None;
    }
    match_dtype!(x.dtype(), T => (<T as Wide>::Acc::DTYPE == T::DTYPE).then(|| {
        filled_shape::<<T as Wide>::Acc>(Shape::ones(x.rank()), |y| {
            y[0] = Kernel::<<T as Wide>::Acc>::new(op, isa()).fold(Widened::<T>::new().view(elements(x)));
            Ok(())
        })
    }))
}

/// Row-major, copied if need be.
pub(crate) fn contiguous(x: &Tensor) -> Result<Tensor> {
    if x.layout().is_contiguous() { Ok(x.clone()) } else { copy(x, x.dtype()) }
}

/// One stage, in the accumulator's dtype.
fn reduce_stage(op: ReduceOp, x: &Tensor, stage: Stage) -> Result<Tensor> {
    match_dtype!(x.dtype(), T => {
        let kernel = Kernel::<<T as Wide>::Acc>::new(op, isa());
        filled_shape::<<T as Wide>::Acc>([stage.outer(), stage.inner].into(), |y| {
            match (stage.r, stage.inner) {
                _ if y.is_empty() => {}
                (0, _) => y.fill(kernel.init()),
                (_, 1) => rows(kernel, memory::<T>(x), stage, y),
                _ => columns(kernel, memory::<T>(x), stage, y),
            }
            Ok(())
        })
    })
}

/// `[outer, r]`, each row reduced.
fn rows<T: Wide>(kernel: Kernel<T::Acc>, x: &[T], stage: Stage, y: &mut [T::Acc]) {
    let r = stage.r;
    let leaves = r.div_ceil(LEAF);
    if leaves == 1 {
        let per_task = (GRAIN / r).max(1);
        return parallel_chunks_mut(y, per_task, |task, y| {
            let mut wide = Widened::<T>::new();
            for (i, y) in y.iter_mut().enumerate() {
                *y = kernel.fold(wide.view(&x[stage.start(task * per_task + i)..][..r]));
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
            *part = kernel.fold(wide.view(&x[stage.start(row)..][start..end]));
        }
    });
    for (y, parts) in y.iter_mut().zip(parts.chunks_exact_mut(leaves)) {
        kernel.tree(parts, 1);
        *y = parts[0];
    }
}

/// `[outer, r, inner]`, each column reduced: vectors of columns are accumulated over blocks of rows.
fn columns<T: Wide>(kernel: Kernel<T::Acc>, x: &[T], stage: Stage, y: &mut [T::Acc]) {
    let Stage { r, inner, .. } = stage;
    // Narrow rows are joined, so that a block holds enough of them to be worth a call.
    let block = ROWS.max(LEAF / inner);
    let blocks = r.div_ceil(block);
    if blocks == 1 {
        return column_blocks(kernel, x, stage, block, y);
    }
    let mut parts = vec![T::Acc::default(); y.len() * blocks];
    column_blocks(kernel, x, stage, block, &mut parts);
    for (y, parts) in y.chunks_exact_mut(inner).zip(parts.chunks_exact_mut(blocks * inner)) {
        kernel.tree(parts, inner);
        y.copy_from_slice(&parts[..inner]);
    }
}

/// The reduction of each block of rows: `parts` is `[outer, blocks, inner]`.
fn column_blocks<T: Wide>(kernel: Kernel<T::Acc>, x: &[T], stage: Stage, block: usize, parts: &mut [T::Acc]) {
    let Stage { r, step, inner, .. } = stage;
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
            let x = &x[stage.start(outer) + first * step..][left..(rows - 1) * step + right];
            if T::as_wide(x).is_some() {
                kernel.columns(wide.view(x), step, acc);
            } else if right - left == step {
                // Widened pieces are of whole rows.
                let piece = (LEAF / inner).max(1) * inner;
                x.chunks(piece).for_each(|x| kernel.columns(wide.view(x), inner, acc));
            } else {
                for x in x.chunks(step) {
                    kernel.columns(wide.view(&x[..right - left]), right - left, acc);
                }
            }
        }
    });
}
