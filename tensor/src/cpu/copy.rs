//! Copies: to row-major order, to another dtype, into a part of another tensor; constants and ranges.

use crate::cpu::isa::{Isa, isa};
use crate::cpu::moves::{relocate, with_unit};
use crate::cpu::results::Results;
use crate::cpu::simd::half::Half;
use crate::cpu::storage::{elements, filled, filled_shape, memory, memory_mut};
use crate::cpu::threads::parallel_for;
use crate::cpu::walk::{GRAIN, Walk};
use crate::cpu::wide::dispatch;
use crate::{DType, Error, Kind, Layout, Number, Result, Scalar, Shape, Tensor, bf16, f16, match_dtype};
use bytemuck::{cast_slice, cast_slice_mut};

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
            return Ok(());
        }
        let y = Results::fresh(isa(), y);
        parallel_for(shape.numel().div_ceil(GRAIN), |task| {
            let grain = task * GRAIN..shape.numel().min((task + 1) * GRAIN);
            // SAFETY: each grain belongs to one task.
            unsafe { y.task().write_blocks(grain, GRAIN, |_, y| y.fill(value)) }
        });
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
    if x.dtype() == dtype {
        return copy_as(x, &layout);
    }
    let x = if x.layout().is_contiguous() { x.clone() } else { copy_as(x, &layout)? };
    let isa = isa();
    match_dtype!(x.dtype(), T => match_dtype!(dtype, U => filled::<U>(layout, |y| {
        let (x, y) = (elements::<T>(&x), Results::fresh(isa, y));
        parallel_for(x.len().div_ceil(GRAIN), |task| {
            let grain = task * GRAIN..x.len().min((task + 1) * GRAIN);
            // SAFETY: each grain belongs to one task.
            unsafe { y.task().write_blocks(grain, GRAIN, |at, y| convert(isa, &x[at], y)) }
        });
        Ok(())
    })))
}

/// A copy whose elements lie as `layout` says, which is dense and has the shape of `x`.
pub(crate) fn copy_as(x: &Tensor, layout: &Layout) -> Result<Tensor> {
    match_dtype!(x.dtype(), T => filled::<T>(*layout, |y| {
        let walk = Walk::new([layout, x.layout()]);
        with_unit!(T, U => relocate::<U>(&walk, cast_slice_mut(y), cast_slice(memory::<T>(x))));
        Ok(())
    }))
}

/// The tensors one after the other along `dim`, in a new one of `shape`.
pub(crate) fn cat(tensors: &[Tensor], dim: usize, shape: Shape) -> Result<Tensor> {
    let Some(first) = tensors.first() else { return Err(Error::argument("cat", "there is nothing to join")) };
    let whole = Layout::contiguous(shape);
    match_dtype!(first.dtype(), T => filled_shape::<T>(shape, |y| {
        let mut start = 0;
        for x in tensors {
            let part = whole.slice(dim, start, x.dims()[dim], 1);
            let walk = Walk::new([&part, x.layout()]);
            with_unit!(T, U => relocate::<U>(&walk, cast_slice_mut(y), cast_slice(memory::<T>(x))));
            start += x.dims()[dim];
        }
        Ok(())
    }))
}

/// Elements converted in two steps at a time: they stay in the first-level cache.
const BLOCK: usize = 512;

/// `y[i] = x[i]` in another type.
fn convert<T: Scalar, U: Scalar>(isa: Isa, x: &[T], y: &mut [U]) {
    use DType::{BF16, Bool, F16, F32, F64, I8, I32, I64, U8, U32};
    match (T::DTYPE, U::DTYPE) {
        (F32, F16) => Half::narrow_at(isa, cast_slice(x), cast_slice_mut::<U, f16>(y)),
        (F32, BF16) => Half::narrow_at(isa, cast_slice(x), cast_slice_mut::<U, bf16>(y)),
        (F16, F32) => Half::widen_at(isa, cast_slice::<T, f16>(x), cast_slice_mut(y)),
        (BF16, F32) => Half::widen_at(isa, cast_slice::<T, bf16>(x), cast_slice_mut(y)),
        // What `f32` holds exactly goes through it.
        (F16 | BF16, _) | (U8 | I8 | Bool, F16 | BF16) => {
            let mut wide = [0f32; BLOCK];
            for (x, y) in x.chunks(BLOCK).zip(y.chunks_mut(BLOCK)) {
                let wide = &mut wide[..x.len()];
                convert(isa, x, wide);
                convert(isa, wide, y);
            }
        }
        (F32, I64 | I32 | U32 | I8 | U8) => float_to_int(isa, cast_slice(x), y),
        (F32 | F64 | I64 | I32 | U32 | I8 | U8 | Bool, _) => cast_all(isa, x, y),
    }
}

dispatch! {
    /// `y[i] = x[i]` in another type.
    fn cast_all<T: Scalar, U: Scalar>(x: &[T], y: &mut [U]) {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = cast(x));
    }
}

dispatch! {
    /// `y[i] = x[i]` without its fraction: through 32 bits where all of a block fit.
    fn float_to_int<U: Scalar>(x: &[f32], y: &mut [U]) {
        const BLOCK: usize = 64;
        let mut whole = [0i32; BLOCK];
        for (x, y) in x.chunks(BLOCK).zip(y.chunks_mut(BLOCK)) {
            // False for NaN.
            let fit = x.iter().fold(true, |fit, x| fit & (x.abs() < 2_147_483_648.0));
            if !fit {
                y.iter_mut().zip(x).for_each(|(y, &x)| *y = cast(x));
                continue;
            }
            for (whole, x) in whole.iter_mut().zip(x) {
                // SAFETY: the number is finite and fits (checked above).
                *whole = unsafe { x.to_int_unchecked() };
            }
            y.iter_mut().zip(&whole).for_each(|(y, &whole)| *y = U::from_i64(i64::from(whole)));
        }
    }
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
            let (walk, y) = (Walk::new([at, x.layout()]), &mut y[..shape.numel()]);
            with_unit!(T, U => relocate::<U>(&walk, cast_slice_mut(y), cast_slice(memory::<T>(x))));
        }
    });
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::isa;
    use crate::{Bool, Device};

    #[test]
    fn every_conversion_is_that_of_single_elements() -> Result<()> {
        fn check<T: Scalar, U: Scalar>(values: &[f64]) -> Result<()> {
            for n in [0, 1, 63, 65, 700] {
                let x: Vec<T> = values.iter().cycle().take(n).map(|&x| T::from_f64(x)).collect();
                let expected: Vec<U> = x.iter().map(|&x| cast(x)).collect();
                for &level in isa::available() {
                    let mut y = vec![U::default(); n];
                    convert(level, &x, &mut y);
                    for i in 0..n {
                        let (y, e) = (y[i].to_f64(), expected[i].to_f64());
                        assert!(
                            y == e || (y.is_nan() && e.is_nan()),
                            "{} {} {level}: {y}, {e}",
                            T::DTYPE,
                            U::DTYPE
                        );
                    }
                }
            }
            Ok(())
        }
        let fine = [0.0, -1.5, 1.0, 2.5, 100.0, -100.9, 0.3, 65_504.0, 3e9, -3e9, 1e20];
        let all = [fine.as_slice(), &[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-40]].concat();
        let small = &fine[..7];
        macro_rules! pairs {
            ($($T:ty)+) => { $( pairs!(@ $T: f32 f64 f16 bf16 i64 i32 u32 i8 u8 Bool); )+ };
            (@ $T:ty: $($U:ty)+) => { $( for values in [small, &fine, &all] { check::<$T, $U>(values)?; } )+ };
        }
        pairs!(f32 f64 f16 bf16 i64 i32 u32 i8 u8 Bool);
        let x = Tensor::randn([33, 65], &Device::cpu())?.t()?;
        assert_eq!(copy(&x, DType::F64)?.to_vec::<f64>()?.len(), 33 * 65);
        Ok(())
    }
}
