//! Stable sorting along a dim.

use crate::cpu::storage::{filled_shape, memory};
use crate::{Layout, Result, Scalar, Tensor, match_dtype};
use std::cmp::Ordering;

/// NaN is the largest, and all NaN are equal.
fn order<T: Scalar>(a: T, b: T) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| {
        let is_nan = |x: T| x.partial_cmp(&x).is_none();
        is_nan(a).cmp(&is_nan(b))
    })
}

/// Values in order along `dim`, and where each came from.
pub(crate) fn sort(x: &Tensor, dim: usize, descending: bool) -> Result<(Tensor, Tensor)> {
    let out = Layout::contiguous(x.shape());
    let n = x.dims()[dim];
    let row_starts = |l: &Layout| l.slice(dim, 0, 1.min(n), 1).positions();
    let (from, to) = (x.layout().strides()[dim], out.strides()[dim]);
    match_dtype!(x.dtype(), T => {
        let data = memory::<T>(x);
        let mut sorted: Vec<i64> = vec![0; x.numel()];
        let mut row: Vec<(T, i64)> = Vec::with_capacity(n);
        let values = filled_shape::<T>(x.shape(), |y| {
            for (x0, y0) in row_starts(x.layout()).zip(row_starts(&out)) {
                row.clear();
                row.extend((0..n).map(|j| (data[(x0 as isize + j as isize * from) as usize], j as i64)));
                match descending {
                    false => row.sort_by(|a, b| order(a.0, b.0)),
                    true => row.sort_by(|a, b| order(b.0, a.0)),
                }
                for (j, &(value, index)) in row.iter().enumerate() {
                    let at = (y0 as isize + j as isize * to) as usize;
                    y[at] = value;
                    sorted[at] = index;
                }
            }
            Ok(())
        })?;
        let indices = filled_shape::<i64>(x.shape(), |y| {
            y.copy_from_slice(&sorted);
            Ok(())
        })?;
        Ok((values, indices))
    })
}
