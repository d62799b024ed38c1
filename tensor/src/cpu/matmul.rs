//! Matrix products of tensors: batches, and the linear layer.

use crate::cpu::copy::copy;
use crate::cpu::gemm::{
    self, BatchMut, BatchRef, Beta, Bias, Byte, Epilogue, GemmElement, MatMut, MatRef, Operand, Packed, Rows,
    gemm_batched, gemm_bytes, gemm_with,
};
use crate::cpu::storage::{derived, elements, filled_shape, memory};
use crate::{DType, Error, Layout, Result, Scalar, Shape, Tensor, bf16, f16};
use std::sync::Arc;

/// The dims before the last two as one, with one stride between matrices, or `None` if they do not merge.
fn batch_stride(x: &Layout) -> Option<isize> {
    let lead = x.rank() - 2;
    let mut merged: Option<(usize, isize)> = None;
    for d in (0..lead).filter(|&d| x.dims()[d] != 1) {
        let (n, s) = (x.dims()[d], x.strides()[d]);
        merged = match merged {
            Some((_, outer)) if outer != s.checked_mul(n as isize)? => return None,
            _ => Some((n, s)),
        };
    }
    Some(merged.map_or(0, |(_, s)| s))
}

/// A tensor whose leading dims merge: itself, or a copy.
fn mergeable(x: &Tensor) -> Result<(Tensor, isize)> {
    match batch_stride(x.layout()) {
        Some(stride) => Ok((x.clone(), stride)),
        None => {
            let x = copy(x, x.dtype())?;
            let stride = batch_stride(x.layout()).unwrap_or(0);
            Ok((x, stride))
        }
    }
}

/// `[…, m, k] · […, k, n] -> […, m, n]`.
pub(crate) fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match a.dtype() {
        DType::F32 => product::<f32>(a, b, None),
        DType::F64 => product::<f64>(a, b, None),
        DType::F16 => product::<f16>(a, b, None),
        DType::BF16 => product::<bf16>(a, b, None),
        DType::I64 => product::<i64>(a, b, None),
        DType::I32 => product::<i32>(a, b, None),
        DType::I8 => product::<i8>(a, b, None),
        DType::U8 => product::<u8>(a, b, None),
        DType::U32 => product::<u32>(a, b, None),
        DType::Bool => Err(Error::dtype("matmul", DType::Bool, "numbers")),
    }
}

/// `[…, in] · [out, in]ᵀ (+ [out]) -> […, out]`: one product over all rows, the bias added as results are stored.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (inputs, outputs) = (weight.dims()[1], weight.dims()[0]);
    let rows = x.reshape([x.numel() / inputs.max(1), inputs]);
    // Without inputs the number of rows is that of the leading dims.
    let lead: Shape = x.dims()[..x.rank() - 1].into();
    let rows = if inputs == 0 { x.reshape([lead.numel(), 0])? } else { rows? };
    let transposed = weight.t()?;
    let bias = bias.map(|b| b.contiguous()).transpose()?;
    let y = match x.dtype() {
        DType::F32 => product::<f32>(&rows, &transposed, bias.as_ref()),
        DType::F64 => product::<f64>(&rows, &transposed, bias.as_ref()),
        DType::F16 => product::<f16>(&rows, &transposed, bias.as_ref()),
        DType::BF16 => product::<bf16>(&rows, &transposed, bias.as_ref()),
        dtype => Err(Error::dtype("linear", dtype, "floats")),
    }?;
    y.reshape([lead.dims(), &[outputs]].concat())
}

/// `[m, k] · [k, n]` of bytes in `int32`.
pub(crate) fn int_mm(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match (a.dtype(), b.dtype()) {
        (DType::I8, DType::I8) => byte_product::<i8, i8>(a, b),
        (DType::I8, DType::U8) => byte_product::<i8, u8>(a, b),
        (DType::U8, DType::I8) => byte_product::<u8, i8>(a, b),
        (DType::U8, DType::U8) => byte_product::<u8, u8>(a, b),
        (DType::I8 | DType::U8, dtype) | (dtype, _) => Err(Error::dtype("int_mm", dtype, "int8 or uint8")),
    }
}

fn byte_product<A: Scalar + Byte, B: Scalar + Byte>(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (m, n) = (a.dims()[0], b.dims()[1]);
    filled_shape::<i32>([m, n].into(), |y| {
        gemm_bytes(matrix::<A>(a), matrix::<B>(b), MatMut::row_major(y, m, n));
        Ok(())
    })
}

/// The product, with one bias per column.
fn product<T: Scalar + GemmElement>(a: &Tensor, b: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let rank = a.rank();
    let (m, k, n) = (a.dims()[rank - 2], a.dims()[rank - 1], b.dims()[rank - 1]);
    let epilogue = || {
        let bias = bias.map_or(Bias::None, |b| Bias::PerCol(elements::<T>(b)));
        Epilogue { bias, ..Epilogue::default() }
    };
    if rank == 2 {
        let packed = packed_for::<T>(m, b);
        return filled_shape::<T>([m, n].into(), |y| {
            let (left, out) = (matrix::<T>(a), MatMut::row_major(y, m, n));
            match &packed {
                Some(packed) => {
                    let (left, packed) = (Rows(left), Operand::Packed(packed));
                    gemm_with(Operand::Source(&left), packed, out, Beta::Zero, epilogue());
                }
                None => gemm::gemm(left, matrix(b), out, Beta::Zero, epilogue()),
            }
            Ok(())
        });
    }
    let shape = a.shape().with_dim(rank - 1, n);
    let batch = Shape::from(&a.dims()[..rank - 2]).numel();
    let ((a, a_step), (b, b_step)) = (mergeable(a)?, mergeable(b)?);
    let strides = |x: &Tensor, step| [step, x.layout().strides()[rank - 2], x.layout().strides()[rank - 1]];
    let packed = packed_for::<T>(batch * m, &b);
    filled_shape::<T>(shape, |y| {
        if let (Some(packed), Some(rows)) = (&packed, stacked(&a, a_step)) {
            let left = MatRef::new(memory::<T>(&a), a.layout().offset(), [batch * m, k], rows);
            let out = MatMut::row_major(y, batch * m, n);
            gemm_with(Operand::Source(&Rows(left)), Operand::Packed(packed), out, Beta::Zero, epilogue());
            return Ok(());
        }
        let left = BatchRef::new(memory::<T>(&a), a.layout().offset(), [batch, m, k], strides(&a, a_step));
        let right = BatchRef::new(memory::<T>(&b), b.layout().offset(), [batch, k, n], strides(&b, b_step));
        let out = BatchMut::new(y, 0, [batch, m, n], [(m * n) as isize, n as isize, 1]);
        gemm_batched(left, right, out, Beta::Zero, epilogue());
        Ok(())
    })
}

/// The right operand of a product with `rows` rows as panels that were packed for an earlier one, if it is a single matrix
/// that has not changed since, and packing is a good part of the work.
fn packed_for<T: Scalar + GemmElement>(rows: usize, b: &Tensor) -> Option<Arc<Packed<T::Acc>>> {
    let [lead @ .., k, n] = b.dims() else { return None };
    let single = lead.iter().zip(b.layout().strides()).all(|(&dim, &step)| dim == 1 || step == 0);
    (single && gemm::keeps_right::<T>(rows, *n, *k)).then(|| packed_right::<T>(b)).flatten()
}

/// The last two dims of `b` as a packed right operand: kept with its memory, made at the second use without a change in between.
pub(crate) fn packed_right<T: Scalar + GemmElement>(b: &Tensor) -> Option<Arc<Packed<T::Acc>>> {
    let (layout, lead) = (b.layout(), b.rank() - 2);
    let view = Layout::strided(&b.dims()[lead..], &layout.strides()[lead..], layout.offset()).ok()?;
    derived(b, "right operand", &view, || Ok(Packed::b(matrix::<T>(b))))
}

/// The last two dims of a tensor, at the first index of the others.
fn matrix<T: Scalar>(x: &Tensor) -> MatRef<'_, T> {
    let (layout, lead) = (x.layout(), x.rank() - 2);
    let (dims, strides) = (&x.dims()[lead..], &layout.strides()[lead..]);
    MatRef::new(memory(x), layout.offset(), [dims[0], dims[1]], [strides[0], strides[1]])
}

/// The strides of all matrices of `x` as one with their rows in a row, if they lie so; `step` is that from one to the next.
fn stacked(x: &Tensor, step: isize) -> Option<[isize; 2]> {
    let lead = x.rank() - 2;
    let (rows, strides) = (x.dims()[lead], &x.layout().strides()[lead..]);
    let batch = Shape::from(&x.dims()[..lead]).numel();
    (batch == 1 || step == rows as isize * strides[0]).then(|| [strides[0], strides[1]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;

    /// Sums of products in doubles, one after the other.
    fn naive(a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
        let (m, k, n) = (a.dims()[a.rank() - 2], a.dims()[a.rank() - 1], b.dims()[b.rank() - 1]);
        let (x, y) = (a.to_dtype(DType::F64)?.to_vec::<f64>()?, b.to_dtype(DType::F64)?.to_vec::<f64>()?);
        let batch = Shape::from(&a.dims()[..a.rank() - 2]).numel();
        let at = |z: usize, i: usize, j: usize| {
            (0..k).map(|p| x[(z * m + i) * k + p] * y[(z * k + p) * n + j]).sum()
        };
        Ok((0..batch * m * n).map(|f| at(f / (m * n), f / n % m, f % n)).collect())
    }

    #[test]
    fn products_of_views_are_products_of_copies() -> Result<()> {
        let cpu = Device::cpu();
        let x = Tensor::randn([3, 4, 5, 6], &cpu)?;
        let y = Tensor::randn([3, 4, 6, 7], &cpu)?;
        let cases = [
            (x.clone(), y.clone()),
            (x.transpose(0, 1)?, y.transpose(0, 1)?),
            (x.narrow(1, 1, 2)?, y.narrow(1, 1, 2)?),
            (x.flip([0, 3])?, y.flip([1, 2])?),
            (x.transpose(2, 3)?.narrow(2, 0, 5)?.narrow(3, 0, 4)?, y.narrow(2, 0, 4)?),
            (x.select(0, 0)?.unsqueeze(0)?.broadcast_to([3, 4, 5, 6])?, y.clone()),
            (x.narrow(0, 0, 0)?, y.narrow(0, 0, 0)?),
            (x.narrow(3, 0, 0)?, y.narrow(2, 0, 0)?),
        ];
        for (a, b) in cases {
            let got = matmul(&a, &b)?.to_dtype(DType::F64)?.to_vec::<f64>()?;
            let want = naive(&a, &b)?;
            assert_eq!(got.len(), want.len());
            // Six products of normal numbers: a few units in the last place of their sum of magnitudes.
            assert!(
                got.iter().zip(&want).all(|(g, w)| (g - w).abs() < 1e-5),
                "{:?} {:?}",
                a.shape(),
                b.shape()
            );
        }
        Ok(())
    }

    #[test]
    fn a_weight_used_again_gives_the_same_bits_and_a_changed_one_others() -> Result<()> {
        let cpu = Device::cpu();
        for dtype in [DType::F32, DType::F64, DType::BF16, DType::I32] {
            for (rows, inputs, outputs) in [(33, 400, 130), (16, 770, 65)] {
                let x = Tensor::randn([rows, inputs], &cpu)?.mul_scalar(8.0)?.to_dtype(dtype)?;
                let weights = || Tensor::randn([outputs, inputs], &cpu)?.mul_scalar(8.0)?.to_dtype(dtype);
                let (mut weight, other) = (weights()?, weights()?);
                let bits = |x: &Tensor, w: &Tensor| matmul(x, &w.t()?)?.to_dtype(DType::F64)?.to_vec::<f64>();
                let first = bits(&x, &weight)?;
                for _ in 0..3 {
                    assert_eq!(bits(&x, &weight)?, first);
                    // The same weight in other views has panels of its own.
                    let (half, narrow) = (x.narrow(1, 0, inputs / 2)?, weight.narrow(1, 0, inputs / 2)?);
                    assert_eq!(bits(&half, &narrow)?, bits(&half, &narrow.copy()?)?);
                }
                weight = crate::cpu::copy::write(weight, &Layout::contiguous(other.shape()), &other)?;
                for _ in 0..3 {
                    assert_eq!(bits(&x, &weight)?, bits(&x, &other.copy()?)?);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn panels_are_made_at_the_second_use_and_freed_with_the_weight() -> Result<()> {
        let cpu = Device::cpu();
        let (x, weight) = (Tensor::ones([32, 512], &cpu)?, Tensor::ones([512, 512], &cpu)?);
        let kept = |weight: &Tensor| packed_for::<f32>(32, weight).map(|packed| Arc::downgrade(&packed));
        assert!(kept(&weight).is_none(), "the first use leaves a note only");
        matmul(&x, &weight)?;
        let packed = kept(&weight).expect("the second use made it");
        assert!(packed.upgrade().is_some());
        drop(weight);
        assert!(packed.upgrade().is_none());
        Ok(())
    }

    #[test]
    fn products_of_bytes_are_those_of_integers_in_every_view() -> Result<()> {
        let cpu = Device::cpu();
        let bytes =
            |shape: [usize; 2], dtype| Tensor::randn(shape, &cpu)?.mul_scalar(40.0)?.abs()?.to_dtype(dtype);
        for (left, right) in [(DType::I8, DType::I8), (DType::U8, DType::I8), (DType::I8, DType::U8)] {
            let (a, b) = (bytes([9, 21], left)?, bytes([21, 18], right)?);
            for (a, b) in [
                (a.clone(), b.clone()),
                (b.t()?, a.t()?),
                (a.narrow(1, 3, 5)?, b.narrow(0, 2, 5)?),
                (a.flip([0, 1])?, b.flip([1])?),
                (a.narrow(1, 0, 0)?, b.narrow(0, 0, 0)?),
                (a.narrow(0, 0, 0)?, b.clone()),
            ] {
                let exact = crate::composed::int_mm(&a, &b)?.to_vec::<i32>()?;
                assert_eq!(a.int_mm(&b)?.to_vec::<i32>()?, exact, "{a:?} {b:?}");
            }
            assert!(a.int_mm(&a).is_err() && a.int_mm(&b.to_dtype(DType::I32)?).is_err());
        }
        Ok(())
    }

    #[test]
    fn a_linear_layer_without_inputs_is_its_bias() -> Result<()> {
        let cpu = Device::cpu();
        let (x, w, b) =
            (Tensor::ones([2, 3, 0], &cpu)?, Tensor::ones([2, 0], &cpu)?, Tensor::ones([2], &cpu)?);
        assert_eq!(linear(&x, &w, Some(&b))?.to_vec::<f32>()?, [1.0; 12]);
        Ok(())
    }
}
