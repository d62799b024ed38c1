//! Copies: to row-major order, to another dtype, into a part of another tensor; constants and ranges.

use crate::cpu::storage::{elements, filled_shape, memory, memory_mut};
use crate::cpu::threads::{SharedMut, parallel_chunks_mut};
use crate::cpu::walk::{GRAIN, Walk};
use crate::{DType, Kind, Layout, Number, Result, Scalar, Shape, Tensor, match_dtype};

/// A row-major tensor of these bytes.
pub(crate) fn upload(bytes: &[u8], dtype: DType, shape: Shape) -> Result<Tensor> {
    match_dtype!(dtype, T => filled_shape::<T>(shape, |y| {
        bytemuck::cast_slice_mut::<T, u8>(y).copy_from_slice(bytes);
        Ok(())
    }))
}

/// The bytes of a tensor in row-major order.
pub(crate) fn download(x: &Tensor) -> Result<Vec<u8>> {
    let x = if x.layout().is_contiguous() { x.clone() } else { copy(x, x.dtype())? };
    Ok(match_dtype!(x.dtype(), T => bytemuck::cast_slice(elements::<T>(&x)).to_vec()))
}

/// Every element `value`.
pub(crate) fn full(shape: Shape, dtype: DType, value: Number) -> Result<Tensor> {
    match_dtype!(dtype, T => filled_shape::<T>(shape, |y| {
        let value = value.to_scalar::<T>();
        if y.len() <= GRAIN {
            y.fill(value);
        } else {
            parallel_chunks_mut(y, GRAIN, |_, y| y.fill(value));
        }
        Ok(())
    }))
}

/// `start + i · step`: in integers if all three are, else in doubles.
pub(crate) fn arange(n: usize, dtype: DType, start: Number, step: Number) -> Result<Tensor> {
    match_dtype!(dtype, T => filled_shape::<T>(n.into(), |y| {
        for (i, y) in y.iter_mut().enumerate() {
            *y = match (start, step, dtype.kind()) {
                (Number::Int(a), Number::Int(s), Kind::Int) => T::from_i64(a.wrapping_add(s.wrapping_mul(i as i64))),
                _ => T::from_f64(start.to_f64() + step.to_f64() * i as f64),
            };
        }
        Ok(())
    }))
}

/// Converts one element: through integers where both are, so that large ones stay exact.
#[inline(always)]
fn cast<T: Scalar, U: Scalar>(x: T) -> U {
    match (T::DTYPE.kind(), U::DTYPE.kind()) {
        (Kind::Float, Kind::Float | Kind::Bool) => U::from_f64(x.to_f64()),
        (Kind::Float, Kind::Int) => U::from_i64(x.to_i64()),
        (Kind::Int | Kind::Bool, _) => U::from_i64(x.to_i64()),
    }
}

/// A row-major copy as elements of `dtype`.
pub(crate) fn copy(x: &Tensor, dtype: DType) -> Result<Tensor> {
    let layout = Layout::contiguous(x.shape());
    match_dtype!(x.dtype(), T => match_dtype!(dtype, U => filled_shape::<U>(x.shape(), |y| {
        let (source, y) = (memory::<T>(x), SharedMut::new(y));
        Walk::new([&layout, x.layout()]).parallel_runs(|run| {
            let (to, from) = (run.at[0] as usize, run.at[1]);
            if run.step[0] != 1 {
                // The row-major result is written with gaps only where its innermost dim is 1 wide.
                for i in 0..run.len as isize {
                    let at = (to as isize + i * run.step[0]) as usize;
                    // SAFETY: the walk hands each element of the result to one task, once.
                    let y = unsafe { y.slice(at..at + 1) };
                    y[0] = cast(source[(from + i * run.step[1]) as usize]);
                }
                return;
            }
            // SAFETY: the walk hands each element of the result to one task, once.
            let y = unsafe { y.slice(to..to + run.len) };
            match run.step[1] {
                1 => y.iter_mut().zip(&source[from as usize..][..run.len]).for_each(|(y, &x)| *y = cast(x)),
                0 => y.fill(cast(source[from as usize])),
                s => y.iter_mut().enumerate().for_each(|(i, y)| *y = cast(source[(from + i as isize * s) as usize])),
            }
        });
        Ok(())
    })))
}

/// Writes `x` into the elements of `out` that `at` selects, in place if nobody else sees `out`.
pub(crate) fn write(out: Tensor, at: &Layout, x: &Tensor) -> Result<Tensor> {
    // A tensor with a layout of its own (an offset, other strides) is brought to row-major first: `at` counts from
    // there.
    let whole = out.layout().is_contiguous() && out.layout().offset() == 0;
    let mut out = if whole { out } else { copy(&out, out.dtype())? };
    if out.storage_mut().is_none() {
        out = copy(&out, out.dtype())?;
    }
    let shape = out.shape();
    match_dtype!(x.dtype(), T => {
        if let Some(y) = memory_mut::<T>(&mut out) {
            let (source, y) = (memory::<T>(x), SharedMut::new(&mut y[..shape.numel()]));
            Walk::new([at, x.layout()]).parallel_runs(|run| {
                if run.step == [1, 1] {
                    let to = run.at[0] as usize;
                    // SAFETY: no two elements of `at` coincide, and the walk hands each to one task, once.
                    let y = unsafe { y.slice(to..to + run.len) };
                    return y.copy_from_slice(&source[run.at[1] as usize..][..run.len]);
                }
                for i in 0..run.len as isize {
                    let to = (run.at[0] + i * run.step[0]) as usize;
                    // SAFETY: as above.
                    let y = unsafe { y.slice(to..to + 1) };
                    y[0] = source[(run.at[1] + i * run.step[1]) as usize];
                }
            });
        }
    });
    Ok(out)
}
