//! Running totals along a dim.

use super::contiguous;
use crate::cpu::storage::{elements, filled_shape};
use crate::cpu::threads::{SharedMut, parallel_for};
use crate::cpu::walk::GRAIN;
use crate::op::{ReduceFormula, ReduceVisitor, ScanOp};
use crate::{Result, Scalar, Tensor, match_dtype};

/// Columns that are scanned side by side.
const COLUMNS: usize = 256;

/// Running totals along `dim`, kept in doubles for floats and in 64 bits for integers.
pub(crate) fn scan(op: ScanOp, x: &Tensor, dim: usize) -> Result<Tensor> {
    let (n, inner) = (x.dims()[dim], x.dims()[dim + 1..].iter().product());
    let x = contiguous(x)?;
    match_dtype!(x.dtype(), T => filled_shape::<T>(x.shape(), |y| {
        if !y.is_empty() {
            op.reduction().dispatch(Scan { x: elements::<T>(&x), y, n, inner });
        }
        Ok(())
    }))
}

/// `[outer, n, inner]`, scanned along `n`.
struct Scan<'a, T> {
    x: &'a [T],
    y: &'a mut [T],
    n: usize,
    inner: usize,
}

impl<T: Scalar> ReduceVisitor for Scan<'_, T> {
    type Output = ();

    fn visit<F: ReduceFormula>(self) {
        let Scan { x, y, n, inner } = self;
        let stretches = inner.div_ceil(COLUMNS);
        let count = y.len() / (n * inner) * stretches;
        let per_task = (GRAIN / (n * inner.min(COLUMNS))).max(1);
        let y = SharedMut::new(y);
        parallel_for(count.div_ceil(per_task), |task| {
            let (mut floats, mut ints) = ([0.0f64; COLUMNS], [0i64; COLUMNS]);
            for i in task * per_task..count.min((task + 1) * per_task) {
                let (outer, left) = (i / stretches, i % stretches * COLUMNS);
                let width = COLUMNS.min(inner - left);
                floats[..width].fill(F::init());
                ints[..width].fill(F::init_int());
                for row in 0..n {
                    let at = (outer * n + row) * inner + left;
                    // SAFETY: each stretch of columns belongs to one task.
                    let (x, y) = (&x[at..at + width], unsafe { y.slice(at..at + width) });
                    if T::DTYPE.is_float() {
                        for ((y, &x), total) in y.iter_mut().zip(x).zip(&mut floats) {
                            *total = F::combine(*total, x.to_f64());
                            *y = T::from_f64(*total);
                        }
                    } else {
                        for ((y, &x), total) in y.iter_mut().zip(x).zip(&mut ints) {
                            *total = F::combine_int(*total, x.to_i64());
                            *y = T::from_i64(*total);
                        }
                    }
                }
            }
        });
    }
}
