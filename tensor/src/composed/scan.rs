//! Running extremes and logarithms of sums, one element of the dim after the other.

use crate::op::ArgOp;
use crate::{DType, Result, Tensor};

/// The index of the extreme so far along `dim`: the last of equals, the last NaN if there is one.
pub fn arg_scan(op: ArgOp, x: &Tensor, dim: usize) -> Result<Tensor> {
    let (mut parts, mut best): (Vec<Tensor>, Option<Tensor>) = (vec![], None);
    for i in 0..x.dims()[dim] {
        let part = x.narrow(dim as isize, i, 1)?;
        let here = Tensor::full(part.shape(), i as i64, (DType::I64, x.device()))?;
        let (value, index) = match (best, parts.last()) {
            (Some(best), Some(index)) => {
                let as_far = match op {
                    ArgOp::ArgMax => part.ge(&best)?,
                    ArgOp::ArgMin => part.le(&best)?,
                };
                let wins = as_far.logical_or(&part.ne(&part)?)?;
                (wins.select_from(&part, &best)?, wins.select_from(&here, index)?)
            }
            _ => (part, here),
        };
        best = Some(value);
        parts.push(index);
    }
    joined(parts, dim, x, DType::I64)
}

/// `log Σ e^x` of the elements so far along `dim`.
pub fn logcumsumexp(x: &Tensor, dim: usize) -> Result<Tensor> {
    let wide = x.to_dtype(x.dtype().accumulator())?;
    let mut parts: Vec<Tensor> = vec![];
    for i in 0..x.dims()[dim] {
        let part = wide.narrow(dim as isize, i, 1)?;
        parts.push(match parts.last() {
            None => part,
            Some(sum) => {
                let (top, low) = (sum.maximum(&part)?, sum.minimum(&part)?);
                // ∞ - ∞ has no value.
                top.isinf()?.select_from(&top, &top.add(&low.sub(&top)?.exp()?.log1p()?)?)?
            }
        });
    }
    joined(parts, dim, &wide, wide.dtype())?.to_dtype(x.dtype())
}

fn joined(parts: Vec<Tensor>, dim: usize, x: &Tensor, dtype: DType) -> Result<Tensor> {
    match parts.is_empty() {
        true => Tensor::zeros(x.shape(), (dtype, x.device())),
        false => Tensor::cat(&parts, dim as isize),
    }
}
