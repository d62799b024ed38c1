//! Matrix products of tensors: batches, and the linear layer.

use crate::cpu::copy::copy;
use crate::cpu::gemm::{BatchMut, BatchRef, Beta, Bias, Epilogue, GemmElement, gemm_batched};
use crate::cpu::storage::{elements, filled_shape, memory};
use crate::{DType, Error, Layout, Result, Scalar, Shape, Tensor, bf16, f16};

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

/// The product, with one bias per column.
fn product<T: Scalar + GemmElement>(a: &Tensor, b: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let rank = a.rank();
    let (m, k, n) = (a.dims()[rank - 2], a.dims()[rank - 1], b.dims()[rank - 1]);
    let shape = a.shape().with_dim(rank - 1, n);
    let batch = Shape::from(&a.dims()[..rank - 2]).numel();
    let ((a, a_step), (b, b_step)) = (mergeable(a)?, mergeable(b)?);
    let strides = |x: &Tensor, step| [step, x.layout().strides()[rank - 2], x.layout().strides()[rank - 1]];
    filled_shape::<T>(shape, |y| {
        let left = BatchRef::new(memory::<T>(&a), a.layout().offset(), [batch, m, k], strides(&a, a_step));
        let right = BatchRef::new(memory::<T>(&b), b.layout().offset(), [batch, k, n], strides(&b, b_step));
        let out = BatchMut::new(y, 0, [batch, m, n], [(m * n) as isize, n as isize, 1]);
        let bias = bias.map_or(Bias::None, |b| Bias::PerCol(elements::<T>(b)));
        gemm_batched(left, right, out, Beta::Zero, Epilogue { bias, ..Epilogue::default() });
        Ok(())
    })
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
    fn a_linear_layer_without_inputs_is_its_bias() -> Result<()> {
        let cpu = Device::cpu();
        let (x, w, b) =
            (Tensor::ones([2, 3, 0], &cpu)?, Tensor::ones([2, 0], &cpu)?, Tensor::ones([2], &cpu)?);
        assert_eq!(linear(&x, &w, Some(&b))?.to_vec::<f32>()?, [1.0; 12]);
        Ok(())
    }
}
