//! The provided methods of [`Backend`](crate::Backend), made of required ones: correct everywhere, the measure of
//! every fused kernel, and what higher derivatives are taken through.

mod loss;
mod norm;
mod optim;
mod pool;
mod rnn;
mod scan;

pub use loss::cross_entropy;
pub(crate) use loss::out_of_range;
pub use norm::{group_norm, group_norm_backward, rms_norm, rms_norm_backward};
pub use optim::{adam_step, norms, sgd_step};
pub use pool::adaptive_max_pool;
pub use rnn::{rnn, rnn_backward};
pub use scan::{arg_scan, logcumsumexp};

use crate::backend::{DimMask, Distribution};
use crate::op::{BinaryOp, CompareOp, ReduceOp, UnaryOp};
use crate::{Conv, DType, Error, Layout, Number, Result, Shape, Tensor};

/// The larger of `x` and `low`, and the smaller of that and `high`.
pub fn clamp(x: &Tensor, low: Option<Number>, high: Option<Number>) -> Result<Tensor> {
    let low = low.map_or(Ok(x.clone()), |bound| x.binary_scalar(BinaryOp::Maximum, bound))?;
    high.map_or(Ok(low.clone()), |bound| low.binary_scalar(BinaryOp::Minimum, bound))
}

/// `grad`, and 0 wherever `x` is not within a bound.
pub fn clamp_backward(
    grad: &Tensor,
    x: &Tensor,
    low: Option<Number>,
    high: Option<Number>,
) -> Result<Tensor> {
    let within = |grad: &Tensor, op, bound| -> Result<Tensor> {
        let outside = x.compare_scalar(op, bound)?.logical_not()?;
        grad.masked_fill(&outside, 0.0)
    };
    let grad = low.map_or(Ok(grad.clone()), |bound| within(grad, CompareOp::Gt, bound))?;
    high.map_or(Ok(grad.clone()), |bound| within(&grad, CompareOp::Lt, bound))
}

/// `x / keep` where a number in `[0, 1)` that is drawn for it is below `keep`, else `x · 0`, and where that was.
pub fn dropout(x: &Tensor, keep: f64, seed: u64, offset: u64) -> Result<(Tensor, Tensor)> {
    let distribution = Distribution::Bernoulli { p: keep };
    let kept = x.backend().random(distribution, DType::Bool, x.shape(), seed, offset)?;
    Ok((dropout_backward(x, &kept, keep)?, kept))
}

/// `grad / keep` where `kept` is true, else `grad · 0`.
pub fn dropout_backward(grad: &Tensor, kept: &Tensor, keep: f64) -> Result<Tensor> {
    grad.mul(&kept.to_dtype(grad.dtype())?.mul_scalar(1.0 / keep)?)
}

/// The mean, and the squares of the distances from it.
pub fn var_mean(x: &Tensor, mask: &DimMask, correction: f64) -> Result<(Tensor, Tensor)> {
    let dims: Vec<isize> = (0..x.rank()).filter(|&d| mask[d]).map(|d| d as isize).collect();
    let n: usize = dims.iter().map(|&d| x.dims()[d as usize]).product();
    let wide = x.to_dtype(x.dtype().accumulator())?;
    let sum = |x: &Tensor| x.backend().reduce(ReduceOp::Sum, x, mask);
    let mean = sum(&wide)?.div_scalar(n as f64)?;
    let var = sum(&wide.sub(&mean)?.square()?)?.div_scalar((n as f64 - correction).max(0.0))?;
    Ok((var.to_dtype(x.dtype())?, mean.to_dtype(x.dtype())?))
}

/// The whole order, and the first `k` of it.
pub fn topk(x: &Tensor, dim: usize, k: usize, largest: bool) -> Result<(Tensor, Tensor)> {
    let dim = dim as isize;
    let (values, indices) = x.sort(dim, largest)?;
    Ok((values.narrow(dim, 0, k)?, indices.narrow(dim, 0, k)?))
}

/// Each tensor written to its place in a new one of `shape`.
pub fn cat(tensors: &[Tensor], dim: usize, shape: Shape) -> Result<Tensor> {
    let whole = Layout::contiguous(shape);
    let Some(first) = tensors.first() else { return Err(Error::argument("cat", "there is nothing to join")) };
    let mut out = first.backend().full(shape, first.dtype(), Number::Int(0))?;
    let mut start = 0;
    for t in tensors {
        out = t.backend().write(out, &whole.slice(dim, start, t.dims()[dim], 1), t)?;
        start += t.dims()[dim];
    }
    Ok(out)
}

/// `softmax` or its logarithm along `dim`.
pub fn softmax(x: &Tensor, dim: usize, log: bool) -> Result<Tensor> {
    if x.numel() == 0 {
        return Ok(x.clone());
    }
    let dim = dim as isize;
    let wide = x.to_dtype(x.dtype().accumulator())?;
    let shifted = wide.sub(&wide.amax(dim, true)?)?;
    let e = shifted.exp()?;
    let sum = e.sum(dim, true)?;
    let y = if log { shifted.sub(&sum.log()?)? } else { e.div(&sum)? };
    y.to_dtype(x.dtype())
}

/// From the result `y`: `y · (g - Σ g·y)`, or `g - e^y · Σ g` for the logarithm.
pub fn softmax_backward(grad: &Tensor, y: &Tensor, dim: usize, log: bool) -> Result<Tensor> {
    let dim = dim as isize;
    match log {
        true => grad.sub(&y.exp()?.mul(&grad.sum(dim, true)?)?),
        false => y.mul(&grad.sub(&grad.mul(y)?.sum(dim, true)?)?),
    }
}

/// The product of bytes in 32 bits.
pub fn int_mm(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.to_dtype(DType::I32)?.matmul(&b.to_dtype(DType::I32)?)
}

/// The last `dims` dims of `x`, counted from the end.
fn last(dims: usize) -> Vec<isize> {
    (1..=dims as isize).map(|d| -d).collect()
}

/// Layer normalisation and the statistics that its gradient needs.
pub fn layer_norm(
    x: &Tensor,
    dims: usize,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    let wide = x.to_dtype(x.dtype().accumulator())?;
    let mean = wide.mean(last(dims), true)?;
    let centred = wide.sub(&mean)?;
    let rstd = centred.square()?.mean(last(dims), true)?.add_scalar(eps)?.rsqrt()?;
    let mut y = centred.mul(&rstd)?;
    if let Some(weight) = weight {
        y = y.mul(&weight.to_dtype(y.dtype())?)?;
    }
    if let Some(bias) = bias {
        y = y.add(&bias.to_dtype(y.dtype())?)?;
    }
    Ok((y.to_dtype(x.dtype())?, mean, rstd))
}

/// With `z` the normalised input and `h = g · weight`: `rstd · (h - mean(h) - z · mean(h · z))`.
pub fn layer_norm_backward(
    grad: &Tensor,
    x: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    weight: Option<&Tensor>,
    dims: usize,
) -> Result<(Tensor, Tensor, Tensor)> {
    let wide = mean.dtype();
    let grad = grad.to_dtype(wide)?;
    let z = x.to_dtype(wide)?.sub(mean)?.mul(rstd)?;
    let h = weight.map_or(Ok(grad.clone()), |w| grad.mul(&w.to_dtype(wide)?))?;
    let pull = z.mul(&h.mul(&z)?.mean(last(dims), true)?)?;
    let dx = h.sub(&h.mean(last(dims), true)?)?.sub(&pull)?.mul(rstd)?;
    let affine = &x.dims()[x.rank() - dims..];
    let (dw, db) = (grad.mul(&z)?.sum_to(affine)?, grad.sum_to(affine)?);
    Ok((dx.to_dtype(x.dtype())?, dw.to_dtype(x.dtype())?, db.to_dtype(x.dtype())?))
}

/// Every dim but the channels of `[n, c, …]`.
fn but_channels(x: &Tensor) -> Vec<isize> {
    (0..x.rank() as isize).filter(|&d| d != 1).collect()
}

/// `[c]` as `[1, c, 1, …]`, to broadcast against `x`.
fn per_channel(t: &Tensor, x: &Tensor) -> Result<Tensor> {
    let mut shape = vec![1; x.rank()];
    shape[1] = t.numel();
    t.reshape(shape)
}

/// Mean and biased variance of each channel.
pub fn batch_norm_stats(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let wide = x.to_dtype(x.dtype().accumulator())?;
    let mean = wide.mean(but_channels(x), true)?;
    let var = wide.sub(&mean)?.square()?.mean(but_channels(x), false)?;
    Ok((mean.reshape([x.dims()[1]])?, var))
}

/// Normalises each channel with its own statistics: `(y, mean, biased variance, rstd)`.
pub fn batch_norm_training(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<(Tensor, Tensor, Tensor, Tensor)> {
    let (mean, var) = x.batch_norm_stats()?;
    let rstd = var.add_scalar(eps)?.rsqrt()?;
    Ok((x.batch_norm_apply(&mean, &rstd, weight, bias)?, mean, var, rstd))
}

/// Normalises each channel with given statistics.
pub fn batch_norm_apply(
    x: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let wide = x.to_dtype(mean.dtype())?;
    let mut y = wide.sub(&per_channel(mean, x)?)?.mul(&per_channel(rstd, x)?)?;
    if let Some(weight) = weight {
        y = y.mul(&per_channel(&weight.to_dtype(y.dtype())?, x)?)?;
    }
    if let Some(bias) = bias {
        y = y.add(&per_channel(&bias.to_dtype(y.dtype())?, x)?)?;
    }
    y.to_dtype(x.dtype())
}

/// As [`layer_norm_backward`], with means over each channel; without `training` the statistics are constants.
pub fn batch_norm_backward(
    grad: &Tensor,
    x: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    weight: Option<&Tensor>,
    training: bool,
) -> Result<(Tensor, Tensor, Tensor)> {
    let wide = mean.dtype();
    let g = grad.to_dtype(wide)?;
    let rstd = per_channel(rstd, x)?;
    let z = x.to_dtype(wide)?.sub(&per_channel(mean, x)?)?.mul(&rstd)?;
    let h = weight.map_or(Ok(g.clone()), |w| g.mul(&per_channel(&w.to_dtype(wide)?, x)?))?;
    let dx = match training {
        false => h.mul(&rstd)?,
        true => {
            let pull = z.mul(&h.mul(&z)?.mean(but_channels(x), true)?)?;
            h.sub(&h.mean(but_channels(x), true)?)?.sub(&pull)?.mul(&rstd)?
        }
    };
    let (dw, db) = (g.mul(&z)?.sum(but_channels(x), false)?, g.sum(but_channels(x), false)?);
    Ok((dx.to_dtype(x.dtype())?, dw.to_dtype(x.dtype())?, db.to_dtype(x.dtype())?))
}

/// `x · weightᵀ + bias`.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = x.matmul(&weight.t()?)?;
    bias.map_or(Ok(y.clone()), |b| y.binary_into(BinaryOp::Add, b))
}

/// The convolution, the sum with the residual, the activation.
pub fn conv_fused(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    conv: &Conv,
    residual: Option<&Tensor>,
    activation: Option<UnaryOp>,
) -> Result<Tensor> {
    finished(x.conv(weight, bias, conv)?, residual, activation)
}

/// The linear layer, the sum with the residual, the activation.
pub fn linear_fused(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
    activation: Option<UnaryOp>,
) -> Result<Tensor> {
    finished(x.linear(weight, bias)?, residual, activation)
}

fn finished(mut y: Tensor, residual: Option<&Tensor>, activation: Option<UnaryOp>) -> Result<Tensor> {
    if let Some(residual) = residual {
        y = y.binary_into(BinaryOp::Add, residual)?;
    }
    if let Some(op) = activation {
        y = y.unary_into(op)?;
    }
    Ok(y)
}
