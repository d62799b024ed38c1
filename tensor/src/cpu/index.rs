//! Gathering and scattering by index.

use crate::backend::ScatterMode;
use crate::cpu::copy;
use crate::cpu::isa::isa;
use crate::cpu::reduce::{Kernel, contiguous};
use crate::cpu::storage::{elements, filled_shape, memory, memory_mut};
use crate::cpu::threads::{SharedMut, parallel_for};
use crate::cpu::walk::{GRAIN, Walk};
use crate::cpu::wide::{Wide, Widened};
use crate::op::ReduceOp;
use crate::{Error, Kind, Layout, Result, Scalar, Tensor, match_dtype};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The indices as plain numbers, checked against the extent of the dim they point into.
fn checked<'a>(
    op: &'static str,
    index: &'a Tensor,
    size: usize,
) -> Result<impl Fn(usize) -> usize + Sync + 'a> {
    let data = memory::<i64>(index);
    let outside = AtomicBool::new(false);
    Walk::new([index.layout()]).parallel_runs(|run| {
        let bad = |&i: &i64| i as u64 >= size as u64;
        let found = match run.step {
            // Without a way out, so that the loop is one of vectors.
            [1] => data[run.at[0] as usize..][..run.len].iter().fold(false, |any, i| any | bad(i)),
            [step] => (0..run.len as isize).any(|i| bad(&data[(run.at[0] + i * step) as usize])),
        };
        if found {
            outside.store(true, Relaxed);
        }
    });
    if outside.into_inner() {
        let first = index.layout().positions().map(|at| data[at]).find(|&i| i < 0 || i >= size as i64);
        return Err(Error::index(op, first.unwrap_or(-1), size));
    }
    Ok(move |at: usize| data[at] as usize)
}

/// The strides of a layout without that of `dim`.
fn strides_but(layout: &Layout, dim: usize) -> impl Fn(usize) -> isize + '_ {
    move |d| if d == dim { 0 } else { layout.strides()[d] }
}

/// `out[…, j, …] = x[…, index[…, j, …], …]`.
pub(crate) fn gather(x: &Tensor, dim: usize, index: &Tensor) -> Result<Tensor> {
    let pick = checked("gather", index, x.dims()[dim])?;
    match_dtype!(x.dtype(), T => filled_shape::<T>(index.shape(), |y| {
        let (data, out) = (memory::<T>(x), Layout::contiguous(index.shape()));
        let along = x.layout().strides()[dim];
        let rest = strides_but(x.layout(), dim);
        // The third operand stands at the start of each element's slice of `x`.
        let offsets = [0, index.layout().offset() as isize, x.layout().offset() as isize];
        let walk = Walk::over(index.shape(), offsets, |d| [out.strides()[d], index.layout().strides()[d], rest(d)]);
        let y = SharedMut::new(y);
        walk.parallel_runs(|run| {
            for i in 0..run.len as isize {
                let [to, at, from] = std::array::from_fn(|k| run.at[k] + i * run.step[k]);
                // SAFETY: the walk hands each element of the result to one task, once.
                let y = unsafe { y.slice(to as usize..to as usize + 1) };
                y[0] = data[(from + pick(at as usize) as isize * along) as usize];
            }
        });
        Ok(())
    }))
}

/// Adds as the dtype does: integers wrap.
#[inline(always)]
fn add<T: Scalar>(a: T, b: T) -> T {
    match T::DTYPE.kind() {
        Kind::Float => T::from_f64(a.to_f64() + b.to_f64()),
        Kind::Int | Kind::Bool => T::from_i64(a.to_i64().wrapping_add(b.to_i64())),
    }
}

/// `out[…, index[…, j, …], …] (=|+=) src[…, j, …]`, from a copy of `x`.
///
/// Only elements that differ in nothing but `j` can meet: those of a line along `dim` stay with one task, in the order of `j`.
pub(crate) fn scatter(
    x: &Tensor,
    dim: usize,
    index: &Tensor,
    src: &Tensor,
    mode: ScatterMode,
) -> Result<Tensor> {
    let pick = checked("scatter", index, x.dims()[dim])?;
    if index.dims().iter().zip(x.dims()).enumerate().any(|(d, (i, n))| d != dim && i > n) {
        return Err(Error::shapes("scatter", x.shape(), index.shape()));
    }
    let mut out = copy::copy(x, x.dtype())?;
    let (to, n) = (Layout::contiguous(x.shape()), index.dims()[dim]);
    let along = to.strides()[dim];
    let steps = [index.layout().strides()[dim], src.layout().strides()[dim]];
    let offsets = [0, index.layout().offset() as isize, src.layout().offset() as isize];
    let lines = Walk::over(index.shape().with_dim(dim, 1), offsets, |d| {
        [to.strides()[d], index.layout().strides()[d], src.layout().strides()[d]]
    });
    // Lines side by side go through memory together where `dim` is an outer one.
    let abreast = if index.layout().strides()[dim].unsigned_abs() <= 1 { 1 } else { 256 };
    match_dtype!(x.dtype(), T => if let Some(y) = memory_mut::<T>(&mut out) {
        let (data, y) = (memory::<T>(src), SharedMut::new(&mut y[..x.numel()]));
        let per_task = (GRAIN / n.max(1)).max(abreast);
        parallel_for(lines.numel().div_ceil(per_task), |task| {
            let end = lines.numel().min((task + 1) * per_task);
            for start in (task * per_task..end).step_by(abreast) {
                lines.runs(start, end.min(start + abreast), |run| for j in 0..n as isize {
                    for i in 0..run.len as isize {
                        let [to, mut at, mut from] = std::array::from_fn(|k| run.at[k] + i * run.step[k]);
                        (at, from) = (at + j * steps[0], from + j * steps[1]);
                        let to = (to + pick(at as usize) as isize * along) as usize;
                        // SAFETY: a line belongs to one task.
                        let y = unsafe { y.slice(to..to + 1) };
                        y[0] = match mode {
                            ScatterMode::Set => data[from as usize],
                            ScatterMode::Add => add(y[0], data[from as usize]),
                        };
                    }
                });
            }
        });
    });
    Ok(out)
}

/// `out[…, j, …] = x[…, index[j], …]`.
pub(crate) fn index_select(x: &Tensor, dim: usize, index: &Tensor) -> Result<Tensor> {
    let pick = checked("index_select", index, x.dims()[dim])?;
    let (i0, at, n) = (index.layout().offset() as isize, index.layout().strides()[0], index.numel());
    // Slices behind `dim` are copied whole.
    let x = contiguous(x)?;
    let size = x.dims()[dim];
    let inner: usize = x.dims()[dim + 1..].iter().product();
    match_dtype!(x.dtype(), T => filled_shape::<T>(x.shape().with_dim(dim, n), |y| {
        let data = elements::<T>(&x);
        if inner == 0 || n == 0 || y.is_empty() {
            return Ok(());
        }
        let rows_per_task = (4096 / inner).max(1);
        let rows = y.len() / inner;
        let y = SharedMut::new(y);
        parallel_for(rows.div_ceil(rows_per_task), |task| {
            for row in task * rows_per_task..((task + 1) * rows_per_task).min(rows) {
                let from = (row / n) * size + pick((i0 + (row % n) as isize * at) as usize);
                // SAFETY: each row of the result belongs to one task.
                let y = unsafe { y.slice(row * inner..(row + 1) * inner) };
                y.copy_from_slice(&data[from * inner..(from + 1) * inner]);
            }
        });
        Ok(())
    }))
}

/// `out[…, index[j], …] += src[…, j, …]`, from a copy of `x`, in order of `j`.
///
/// The slices of `src` are sorted by where they go, so that each target belongs to one task and is read and rounded once,
/// however many slices it takes: the gradient of an embedding.
pub(crate) fn index_add(x: &Tensor, dim: usize, index: &Tensor, src: &Tensor) -> Result<Tensor> {
    let pick = checked("index_add", index, x.dims()[dim])?;
    let (i0, at, n) = (index.layout().offset() as isize, index.layout().strides()[0], index.numel());
    let src = contiguous(src)?;
    let size = x.dims()[dim];
    let inner: usize = x.dims()[dim + 1..].iter().product();
    let outer: usize = x.dims()[..dim].iter().product();
    let mut out = copy::copy(x, x.dtype())?;
    if n * inner * outer == 0 {
        return Ok(out);
    }
    // (target, slice), by target and then by slice.
    let mut moves: Vec<(usize, usize)> = (0..n).map(|j| (pick((i0 + j as isize * at) as usize), j)).collect();
    moves.sort_unstable();
    let targets: Vec<&[(usize, usize)]> = moves.chunk_by(|a, b| a.0 == b.0).collect();
    let isa = isa();
    match_dtype!(x.dtype(), T => if let Some(y) = memory_mut::<T>(&mut out) {
        let sum = Kernel::<<T as Wide>::Acc>::new(ReduceOp::Sum, isa);
        let (data, y) = (elements::<T>(&src), SharedMut::new(&mut y[..outer * size * inner]));
        let per_task = (GRAIN / inner / (n / targets.len()).max(1)).max(1);
        let tasks = targets.len().div_ceil(per_task);
        parallel_for(outer * tasks, |task| {
            let (o, task) = (task / tasks, task % tasks);
            let (mut wide, mut total) = (Widened::<T>::new(), Vec::new());
            for group in &targets[task * per_task..targets.len().min((task + 1) * per_task)] {
                let to = (o * size + group[0].0) * inner;
                // SAFETY: each target belongs to one task.
                let y = unsafe { y.slice(to..to + inner) };
                total.clear();
                total.extend_from_slice(wide.view(y));
                for &(_, j) in *group {
                    let from = (o * n + j) * inner;
                    sum.columns(wide.view(&data[from..from + inner]), inner, &mut total);
                }
                T::narrow(&total, y);
            }
        });
    });
    Ok(out)
}

/// Positions of non-zero elements in row-major order, `[count, rank]`.
pub(crate) fn nonzero(x: &Tensor) -> Result<Tensor> {
    let rank = x.rank();
    let mut found: Vec<i64> = vec![];
    match_dtype!(x.dtype(), T => {
        let data = memory::<T>(x);
        for (flat, at) in x.layout().positions().enumerate() {
            if data[at] != T::default() {
                let mut rest = flat;
                let start = found.len();
                found.resize(start + rank, 0);
                for d in (0..rank).rev() {
                    found[start + d] = (rest % x.dims()[d]) as i64;
                    rest /= x.dims()[d];
                }
            }
        }
    });
    let count = match rank {
        0 => (x.item()? != 0.0) as usize,
        _ => found.len() / rank,
    };
    filled_shape::<i64>([count, rank].into(), |y| {
        y.copy_from_slice(&found);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::threads::with_num_threads;
    use crate::{DType, Device};

    #[test]
    fn gathering_and_scattering_go_element_by_element_whatever_the_threads() -> Result<()> {
        let cpu = Device::cpu();
        for (shape, picks, dim) in
            [([40, 7, 90], [40, 300, 90], 1), ([5, 300, 33], [4, 200, 70], 2), ([600, 9, 8], [90, 9, 7], 0)]
        {
            let x = Tensor::randn(shape, &cpu)?;
            let index = Tensor::randint(0, shape[dim] as i64, picks, &cpu)?;
            let src = Tensor::randn(picks, &cpu)?;
            for (x, index, src) in [
                (x.clone(), index.clone(), src.clone()),
                (x.t()?.copy()?.t()?, index.t()?.copy()?.t()?, src.t()?.copy()?.t()?),
            ] {
                let run = |threads| {
                    with_num_threads(threads, || -> Result<_> {
                        let inside = x.with_layout(
                            (0..3).filter(|&d| d != dim).fold(*x.layout(), |l, d| l.slice(d, 0, picks[d], 1)),
                        );
                        let all = [
                            gather(&inside, dim, &index)?,
                            scatter(&x, dim, &index, &src, ScatterMode::Set)?,
                            scatter(&x, dim, &index, &src, ScatterMode::Add)?,
                        ];
                        all.iter().map(|t| t.to_vec::<f32>()).collect::<Result<Vec<_>>>()
                    })
                };
                let (got, i) = (run(1)?, index.to_vec::<i64>()?);
                assert_eq!(got, run(3)?);
                let (data, s) = (x.to_vec::<f32>()?, src.to_vec::<f32>()?);
                let mut expected = [vec![], data.clone(), data.clone()];
                for (k, &pick) in i.iter().enumerate() {
                    let mut at = [k / (picks[1] * picks[2]), k / picks[2] % picks[1], k % picks[2]];
                    at[dim] = pick as usize;
                    let at = (at[0] * shape[1] + at[1]) * shape[2] + at[2];
                    expected[0].push(data[at]);
                    expected[1][at] = s[k];
                    expected[2][at] += s[k];
                }
                assert_eq!(got, expected);
            }
        }
        Ok(())
    }

    #[test]
    fn index_add_sums_in_order_whatever_the_threads() -> Result<()> {
        let cpu = Device::cpu();
        for (shape, dim, n) in
            [([7, 5, 3], 0, 100), ([2, 9, 130], 1, 40), ([3, 4, 5], 2, 0), ([1, 2000, 70], 1, 900)]
        {
            for dtype in [DType::F32, DType::BF16, DType::I64, DType::U8, DType::Bool] {
                let x = Tensor::randint(0, 9, shape, &cpu)?.to_dtype(dtype)?;
                let mut from = shape;
                from[dim] = n;
                let src = Tensor::randint(0, 9, from, &cpu)?.to_dtype(dtype)?;
                let index = Tensor::randint(0, shape[dim] as i64, [n], &cpu)?;
                let run = |threads| with_num_threads(threads, || index_add(&x, dim, &index, &src));
                let y = run(1)?.to_dtype(DType::F64)?.to_vec::<f64>()?;
                assert_eq!(y, run(3)?.to_dtype(DType::F64)?.to_vec::<f64>()?);
                // Small integers add up exactly in all of these but bfloat16.
                let mut expected = x.to_dtype(DType::I64)?.to_vec::<i64>()?;
                let (index, src) = (index.to_vec::<i64>()?, src.to_dtype(DType::I64)?.to_vec::<i64>()?);
                let inner: usize = shape[dim + 1..].iter().product();
                for (k, s) in src.iter().enumerate() {
                    let (o, j, i) = (k / (n * inner), k / inner % n, k % inner);
                    expected[(o * shape[dim] + index[j] as usize) * inner + i] += s;
                }
                for (y, e) in y.iter().zip(expected) {
                    let e = match dtype {
                        DType::U8 => e as u8 as f64,
                        DType::Bool => (e != 0) as u8 as f64,
                        _ => e as f64,
                    };
                    assert!(
                        (y - e).abs() <= if dtype == DType::BF16 { e / 256.0 } else { 0.0 },
                        "{dtype}: {y} {e}"
                    );
                }
            }
        }
        Ok(())
    }
}
