//! Searches for the index of an extreme along a dim.

use super::{Kernel, contiguous};
use crate::cpu::isa::{Isa, isa};
use crate::cpu::storage::{elements, filled_shape};
use crate::cpu::threads::{SharedMut, parallel_chunks_mut, parallel_for};
use crate::cpu::walk::GRAIN;
use crate::cpu::wide::{Accumulator, Wide, Widened, dispatch};
use crate::op::{ArgOp, ReduceOp};
use crate::{Result, Tensor, match_dtype};

/// Columns searched side by side.
const COLUMNS: usize = 256;

/// The index of the extreme along `dim`, which stays with extent 1: the first of equals, the first NaN if there is one.
pub(crate) fn arg_reduce(op: ArgOp, x: &Tensor, dim: usize) -> Result<Tensor> {
    let (n, inner) = (x.dims()[dim], x.dims()[dim + 1..].iter().product());
    let x = contiguous(x)?;
    match_dtype!(x.dtype(), T => filled_shape::<i64>(x.shape().with_dim(dim, 1), |y| {
        match inner {
            _ if y.is_empty() || n == 0 => {}
            1 => rows(op, elements::<T>(&x), n, y),
            _ => columns(op, elements::<T>(&x), n, inner, y),
        }
        Ok(())
    }))
}

/// `[outer, n] -> [outer]`: the extreme first, then the place where it first stands.
fn rows<T: Wide>(op: ArgOp, x: &[T], n: usize, y: &mut [i64]) {
    let isa = isa();
    let extreme = match op {
        ArgOp::ArgMax => ReduceOp::Amax,
        ArgOp::ArgMin => ReduceOp::Amin,
    };
    let kernel = Kernel::<T::Acc>::new(extreme, isa);
    let per_task = (GRAIN / n).max(1);
    parallel_chunks_mut(y, per_task, |task, y| {
        let mut wide = Widened::<T>::new();
        let x = &x[task * per_task * n..][..y.len() * n];
        for (y, x) in y.iter_mut().zip(x.chunks_exact(n)) {
            let x = wide.view(x);
            *y = first(isa, x, kernel.fold(x)) as i64;
        }
    });
}

dispatch! {
    /// Where `value`, which may be NaN, first stands in `x`.
    fn first<A: Accumulator>(x: &[A], value: A) -> usize {
        let found = |x: A| (x == value) | (x.is_nan() & value.is_nan());
        for (i, chunk) in x.chunks(64).enumerate() {
            if chunk.iter().fold(false, |any, &x| any | found(x)) {
                return 64 * i + chunk.iter().position(|&x| found(x)).unwrap_or(0);
            }
        }
        0
    }
}

/// `[outer, n, inner] -> [outer, inner]`: the best so far of each column, row by row.
fn columns<T: Wide>(op: ArgOp, x: &[T], n: usize, inner: usize, y: &mut [i64]) {
    let isa: Isa = isa();
    let stretches = inner.div_ceil(COLUMNS);
    let count = y.len() / inner * stretches;
    let per_task = (GRAIN / (n * inner.min(COLUMNS))).max(1);
    let y = SharedMut::new(y);
    parallel_for(count.div_ceil(per_task), |task| {
        let mut wide = Widened::<T>::new();
        let mut best = [T::Acc::default(); COLUMNS];
        for i in task * per_task..count.min((task + 1) * per_task) {
            let (outer, left) = (i / stretches, i % stretches * COLUMNS);
            let width = COLUMNS.min(inner - left);
            // SAFETY: each stretch of columns belongs to one task.
            let y = unsafe { y.slice(outer * inner + left..outer * inner + left + width) };
            for row in 0..n {
                let x = wide.view(&x[(outer * n + row) * inner + left..][..width]);
                search(isa, op, row as i64, x, &mut best[..width], y);
            }
        }
    });
}

dispatch! {
    /// Takes one more row into the best so far; the first row is the best there is.
    fn search<A: Accumulator>(op: ArgOp, row: i64, x: &[A], best: &mut [A], index: &mut [i64]) {
        for ((&x, best), index) in x.iter().zip(best).zip(index) {
            if row == 0 || op.replaces(x, *best) {
                (*best, *index) = (x, row);
            }
        }
    }
}
