//! Normalisation by the root mean square, and of groups of channels.

use super::{but_channels, last, per_channel};
use crate::{Result, Tensor};

/// `x / √(mean(x²) + eps) · weight`, and what is multiplied by.
pub fn rms_norm(x: &Tensor, dims: usize, weight: Option<&Tensor>, eps: f64) -> Result<(Tensor, Tensor)> {
    let wide = x.to_dtype(x.dtype().accumulator())?;
    let rstd = wide.square()?.mean(last(dims), true)?.add_scalar(eps)?.rsqrt()?;
    let mut y = wide.mul(&rstd)?;
    if let Some(weight) = weight {
        y = y.mul(&weight.to_dtype(y.dtype())?)?;
    }
    Ok((y.to_dtype(x.dtype())?, rstd))
}

/// With `z = x · rstd` and `h = g · weight`: `rstd · (h - z · mean(h · z))`.
pub fn rms_norm_backward(
    grad: &Tensor,
    x: &Tensor,
    rstd: &Tensor,
    weight: Option<&Tensor>,
    dims: usize,
) -> Result<(Tensor, Tensor)> {
    let wide = rstd.dtype();
    let (grad, z) = (grad.to_dtype(wide)?, x.to_dtype(wide)?.mul(rstd)?);
    let h = weight.map_or(Ok(grad.clone()), |w| grad.mul(&w.to_dtype(wide)?))?;
    let dx = h.sub(&z.mul(&h.mul(&z)?.mean(last(dims), true)?)?)?.mul(rstd)?;
    let dw = grad.mul(&z)?.sum_to(&x.dims()[x.rank() - dims..])?;
    Ok((dx.to_dtype(x.dtype())?, dw.to_dtype(x.dtype())?))
}

/// `[n, groups, …]` with all elements of a group in the last dim.
fn grouped(x: &Tensor, [n, groups]: [usize; 2]) -> Result<Tensor> {
    x.reshape([n, groups, x.numel() / (n * groups).max(1)])
}

/// Normalises each group of channels of every element of a batch, and tells its mean and `1 / √(var + eps)`.
pub fn group_norm(
    x: &Tensor,
    groups: usize,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    let stats = [x.dims()[0], groups];
    let wide = grouped(&x.to_dtype(x.dtype().accumulator())?, stats)?;
    let (z, mean, rstd) = super::layer_norm(&wide, 1, None, None, eps)?;
    let mut y = z.reshape(x.shape())?;
    if let Some(weight) = weight {
        y = y.mul(&per_channel(&weight.to_dtype(y.dtype())?, x)?)?;
    }
    if let Some(bias) = bias {
        y = y.add(&per_channel(&bias.to_dtype(y.dtype())?, x)?)?;
    }
    Ok((y.to_dtype(x.dtype())?, mean.reshape(stats)?, rstd.reshape(stats)?))
}

/// As [`layer_norm_backward`](super::layer_norm_backward), with means over each group.
pub fn group_norm_backward(
    grad: &Tensor,
    x: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    weight: Option<&Tensor>,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (wide, stats) = (mean.dtype(), [x.dims()[0], mean.dims()[1]]);
    let (mean, rstd) = (grouped(mean, stats)?, grouped(rstd, stats)?);
    let g = grad.to_dtype(wide)?;
    let z = grouped(&x.to_dtype(wide)?, stats)?.sub(&mean)?.mul(&rstd)?;
    let h = weight.map_or(Ok(g.clone()), |w| g.mul(&per_channel(&w.to_dtype(wide)?, x)?))?;
    let h = grouped(&h, stats)?;
    let pull = z.mul(&h.mul(&z)?.mean(-1, true)?)?;
    let dx = h.sub(&h.mean(-1, true)?)?.sub(&pull)?.mul(&rstd)?.reshape(x.shape())?;
    let dw = g.mul(&z.reshape(x.shape())?)?.sum(but_channels(x), false)?;
    let db = g.sum(but_channels(x), false)?;
    Ok((dx.to_dtype(x.dtype())?, dw.to_dtype(x.dtype())?, db.to_dtype(x.dtype())?))
}
