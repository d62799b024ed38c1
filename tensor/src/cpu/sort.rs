//! Stable sorting along a dim, and the first few of the order.

use crate::cpu::storage::{filled_shape, memory};
use crate::cpu::threads::{SharedMut, parallel_for};
use crate::cpu::walk::{GRAIN, Walk};
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
    match_dtype!(x.dtype(), T => rows::<T>(x, dim, x.dims()[dim], |row| match descending {
        false => row.sort_by(|a, b| order(a.0, b.0)),
        true => row.sort_by(|a, b| order(b.0, a.0)),
    }))
}

/// Up to here the first few are found by going through the row once.
const FEW: usize = 64;

/// The first `k` of what [`sort`] gives.
pub(crate) fn topk(x: &Tensor, dim: usize, k: usize, largest: bool) -> Result<(Tensor, Tensor)> {
    match_dtype!(x.dtype(), T => rows::<T>(x, dim, k, |row| {
        // Equal values stay in the order of their indices.
        let compare = |a: &(T, i64), b: &(T, i64)| {
            let values = if largest { order(b.0, a.0) } else { order(a.0, b.0) };
            values.then(a.1.cmp(&b.1))
        };
        if k == 0 {
        } else if k <= FEW && k < row.len() {
            row[..k].sort_unstable_by(compare);
            for i in k..row.len() {
                let next = row[i];
                if compare(&next, &row[k - 1]).is_lt() {
                    let at = row[..k].partition_point(|best| compare(best, &next).is_lt());
                    row.copy_within(at..k - 1, at + 1);
                    row[at] = next;
                }
            }
        } else {
            if k < row.len() {
                row.select_nth_unstable_by(k - 1, compare);
            }
            row[..k].sort_unstable_by(compare);
        }
    }))
}

/// Lets `f` order each line along `dim`, given as pairs of value and index, and keeps its first `k`.
fn rows<T: Scalar>(
    x: &Tensor,
    dim: usize,
    k: usize,
    f: impl Fn(&mut [(T, i64)]) + Sync,
) -> Result<(Tensor, Tensor)> {
    let (n, shape) = (x.dims()[dim], x.shape().with_dim(dim, k));
    let out = Layout::contiguous(shape);
    let (from, to) = (x.layout().strides()[dim], out.strides()[dim]);
    let starts = Walk::over(x.shape().with_dim(dim, 1), [0, x.layout().offset() as isize], |d| {
        [out.strides()[d], x.layout().strides()[d]]
    });
    let data = memory::<T>(x);
    let mut indices = None;
    let values = filled_shape::<T>(shape, |values| {
        indices = Some(filled_shape::<i64>(shape, |indices| {
            let (values, indices) = (SharedMut::new(values), SharedMut::new(indices));
            let per_task = (GRAIN / n.max(1)).max(1);
            let lines = if n * k == 0 { 0 } else { starts.numel() };
            parallel_for(lines.div_ceil(per_task), |task| {
                let mut row: Vec<(T, i64)> = Vec::with_capacity(n);
                starts.runs(task * per_task, lines.min((task + 1) * per_task), |run| {
                    for i in 0..run.len as isize {
                        let [y0, x0] = std::array::from_fn(|k| run.at[k] + i * run.step[k]);
                        row.clear();
                        row.extend((0..n as isize).map(|j| (data[(x0 + j * from) as usize], j as i64)));
                        f(&mut row);
                        for (j, &(value, index)) in row[..k].iter().enumerate() {
                            let at = (y0 + j as isize * to) as usize;
                            // SAFETY: a line of the results belongs to one task.
                            let (v, at) = unsafe { (values.slice(at..at + 1), indices.slice(at..at + 1)) };
                            (v[0], at[0]) = (value, index);
                        }
                    }
                });
            });
            Ok(())
        })?);
        Ok(())
    })?;
    Ok((values, indices.expect("both are filled together")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::threads::with_num_threads;
    use crate::{DType, Device};

    #[test]
    fn the_first_few_are_those_of_the_whole_order_whatever_the_threads() -> Result<()> {
        let cpu = Device::cpu();
        // Few different values, so that many are equal, and NaN among them.
        let x = Tensor::randint(-4, 5, [30, 150, 6], &cpu)?.to_dtype(DType::F32)?;
        let x = x.masked_fill(&x.ge(&x.full_like(4)?)?, f64::NAN)?;
        for x in [x.clone(), x.t()?, x.to_dtype(DType::BF16)?] {
            for dim in 0..3 {
                for (largest, k) in [true, false].into_iter().flat_map(|l| [0, 1, 5, 70, 150].map(|k| (l, k)))
                {
                    let k = k.min(x.dims()[dim]);
                    let (values, indices) = sort(&x, dim, largest)?;
                    let expected = (values.narrow(dim as isize, 0, k)?, indices.narrow(dim as isize, 0, k)?);
                    for threads in [1, 3] {
                        let (v, i) = with_num_threads(threads, || topk(&x, dim, k, largest))?;
                        assert_eq!(i.to_vec::<i64>()?, expected.1.to_vec::<i64>()?, "{k} along {dim}");
                        let bits = |t: &Tensor| t.backend().download(t);
                        assert_eq!(bits(&v)?, bits(&expected.0)?, "{k} along {dim}");
                    }
                }
            }
        }
        Ok(())
    }
}
