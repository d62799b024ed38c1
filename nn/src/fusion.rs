//! Layers folded into others, for inference.

use crate::{BatchNorm, Conv2d, Param};
use tensor::{Error, Result};

/// One convolution that gives what `conv` and then `norm` in evaluation give, as PyTorch's
/// `torch.nn.utils.fusion.fuse_conv_bn_eval`: normalising by running statistics is linear, so it moves into the weights.
///
/// ```text
/// s = γ / √(var + eps)        weight' = weight · s        bias' = (bias - mean) · s + β
/// ```
///
/// The result has parameters of its own; those of `conv` and `norm` stay as they are.
///
/// # Errors
/// If `norm` has other channels than the results of `conv`.
pub fn fuse_conv_bn_eval(conv: &Conv2d, norm: &BatchNorm) -> Result<Conv2d> {
    let weight = conv.weight.value();
    if weight.dims()[..1] != *norm.weight.shape().dims() {
        return Err(Error::shapes("fuse_conv_bn_eval", weight.shape(), norm.weight.shape()));
    }
    let dtype = weight.dtype();
    let [mean, var] = [&norm.running_mean, &norm.running_var].map(|buffer| buffer.value().to_dtype(dtype));
    let scale = norm.weight.value().to_dtype(dtype)?.div(&var?.add_scalar(norm.eps)?.sqrt()?)?;
    let offset = match &conv.bias {
        Some(bias) => bias.value().sub(&mean?)?,
        None => mean?.neg()?,
    };
    let bias = offset.mul(&scale)?.add(&norm.bias.value().to_dtype(dtype)?)?;
    let per_output = scale.reshape([scale.numel(), 1, 1, 1])?;
    Ok(Conv2d { weight: Param::new(weight.mul(&per_output)?), bias: Some(Param::new(bias)), conv: conv.conv })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Forward, Init, Module};
    use tensor::{Device, Tensor};

    #[test]
    fn the_fused_layer_gives_what_both_gave() -> Result<()> {
        let cpu = Device::cpu();
        let init = &mut Init::new(1);
        let norm = BatchNorm::new(4, init)?;
        norm.running_mean.set(Tensor::from_slice(&[0.5f32, -1.0, 0.0, 2.0], [4], &cpu)?)?;
        norm.running_var.set(Tensor::from_slice(&[1.0f32, 0.25, 4.0, 9.0], [4], &cpu)?)?;
        norm.weight.set(Tensor::from_slice(&[1.0f32, 2.0, -1.0, 0.5], [4], &cpu)?)?;
        norm.bias.set(Tensor::from_slice(&[0.0f32, 1.0, -2.0, 3.0], [4], &cpu)?)?;
        norm.eval();
        let x = Tensor::randn([2, 3, 6, 5], &cpu)?.into();
        let conv = Conv2d::new(3, 4, 3, init)?.padding(1);
        for conv in [conv.clone(), conv.no_bias()] {
            let both = norm.forward(&conv.forward(&x)?)?;
            let fused = fuse_conv_bn_eval(&conv, &norm)?.forward(&x)?;
            assert!(fused.value().all_close(both.value(), 1e-5, 1e-5)?);
        }
        assert!(fuse_conv_bn_eval(&Conv2d::new(3, 5, 3, init)?, &norm).is_err());
        Ok(())
    }
}
