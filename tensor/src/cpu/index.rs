//! Gathering and scattering by index.

use crate::backend::ScatterMode;
use crate::cpu::copy;
use crate::cpu::storage::{elements, filled_shape, memory, memory_mut};
use crate::cpu::threads::{SharedMut, parallel_for};
use crate::{Error, Kind, Layout, Result, Scalar, Tensor, match_dtype};

/// The indices as plain numbers, checked against the extent of the dim they point into.
fn checked<'a>(
    op: &'static str,
    index: &'a Tensor,
    size: usize,
) -> Result<impl Fn(usize) -> usize + Sync + 'a> {
    let data = memory::<i64>(index);
    for at in index.layout().positions() {
        if data[at] < 0 || data[at] >= size as i64 {
            return Err(Error::index(op, data[at], size));
        }
    }
    Ok(move |at: usize| data[at] as usize)
}

/// The layout with one element along `dim`: where rows start.
fn starts(layout: &Layout, dim: usize) -> Layout {
    layout.slice(dim, 0, 1.min(layout.dims()[dim]), 1)
}

/// `out[…, j, …] = x[…, index[…, j, …], …]`.
pub(crate) fn gather(x: &Tensor, dim: usize, index: &Tensor) -> Result<Tensor> {
    let pick = checked("gather", index, x.dims()[dim])?;
    let n = index.dims()[dim];
    match_dtype!(x.dtype(), T => filled_shape::<T>(index.shape(), |y| {
        let (data, out) = (memory::<T>(x), Layout::contiguous(index.shape()));
        let (from, at, to) = (x.layout().strides()[dim], index.layout().strides()[dim], out.strides()[dim]);
        let rows = starts(x.layout(), dim).positions().zip(starts(index.layout(), dim).positions());
        for ((x0, i0), y0) in rows.zip(starts(&out, dim).positions()) {
            for j in 0..n as isize {
                let i = pick((i0 as isize + j * at) as usize) as isize;
                y[(y0 as isize + j * to) as usize] = data[(x0 as isize + i * from) as usize];
            }
        }
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
pub(crate) fn scatter(
    x: &Tensor,
    dim: usize,
    index: &Tensor,
    src: &Tensor,
    mode: ScatterMode,
) -> Result<Tensor> {
    let pick = checked("scatter", index, x.dims()[dim])?;
    let mut out = copy::copy(x, x.dtype())?;
    let to = Layout::contiguous(x.shape());
    // Row-major order of the index decides which write stays: positions are walked in that order.
    let mut targets = to;
    for d in (0..x.rank()).filter(|&d| d != dim) {
        targets = targets.slice(d, 0, index.dims()[d], 1);
    }
    let targets = starts(&targets, dim).broadcast_to(index.shape());
    let targets = targets.ok_or_else(|| Error::shapes("scatter", x.shape(), index.shape()))?;
    match_dtype!(x.dtype(), T => if let Some(y) = memory_mut::<T>(&mut out) {
        let data = memory::<T>(src);
        let places = targets.positions().zip(index.layout().positions()).zip(src.layout().positions());
        for ((y0, i0), from) in places {
            let y = &mut y[(y0 as isize + pick(i0) as isize * to.strides()[dim]) as usize];
            *y = match mode {
                ScatterMode::Set => data[from],
                ScatterMode::Add => add(*y, data[from]),
            };
        }
    });
    Ok(out)
}

/// `out[…, j, …] = x[…, index[j], …]`.
pub(crate) fn index_select(x: &Tensor, dim: usize, index: &Tensor) -> Result<Tensor> {
    let pick = checked("index_select", index, x.dims()[dim])?;
    let (i0, at, n) = (index.layout().offset() as isize, index.layout().strides()[0], index.numel());
    // Slices behind `dim` are copied whole.
    let x = if x.layout().is_contiguous() { x.clone() } else { copy::copy(x, x.dtype())? };
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
pub(crate) fn index_add(x: &Tensor, dim: usize, index: &Tensor, src: &Tensor) -> Result<Tensor> {
    let pick = checked("index_add", index, x.dims()[dim])?;
    let (i0, at, n) = (index.layout().offset() as isize, index.layout().strides()[0], index.numel());
    let src = if src.layout().is_contiguous() { src.clone() } else { copy::copy(src, src.dtype())? };
    let size = x.dims()[dim];
    let inner: usize = x.dims()[dim + 1..].iter().product();
    let outer: usize = x.dims()[..dim].iter().product();
    let mut out = copy::copy(x, x.dtype())?;
    match_dtype!(x.dtype(), T => if let Some(y) = memory_mut::<T>(&mut out) {
        let data = elements::<T>(&src);
        for o in 0..outer {
            for j in 0..n {
                let to = (o * size + pick((i0 + j as isize * at) as usize)) * inner;
                let from = (o * n + j) * inner;
                let row = y[to..to + inner].iter_mut().zip(&data[from..from + inner]);
                row.for_each(|(y, &s)| *y = add(*y, s));
            }
        }
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
