//! Layers folded into others, for inference.

use crate::located::Located;
use crate::{BatchNorm, Conv2d, Forward, Param, module};
use autograd::Var;
use tensor::op::UnaryOp;
use tensor::{Error, Result};

/// A convolution and the activation after it in one pass over the result, where no gradient is recorded.
///
/// [`Sequential::fuse_eval`](crate::Sequential::fuse_eval) makes them.
#[derive(Clone, Debug)]
pub struct FusedConv2d {
    /// The convolution.
    pub conv: Conv2d,
    /// Applied to its result.
    pub activation: Option<UnaryOp>,
}
module!(FusedConv2d { conv });

impl FusedConv2d {
    /// `activation(conv(x) + residual)`: the end of a residual block. The residual has the shape of the result.
    pub fn forward_residual(&self, x: &Var, residual: &Var) -> Result<Var> {
        self.apply(x, Some(residual))
    }

    fn apply(&self, x: &Var, residual: Option<&Var>) -> Result<Var> {
        if x.rank() == 3 {
            let residual = residual.map(|r| r.unsqueeze(0)).transpose()?;
            return self.apply(&x.unsqueeze(0)?, residual.as_ref())?.squeeze(0);
        }
        let Conv2d { weight, bias, conv } = &self.conv;
        let bias = bias.as_ref().map(Param::var);
        x.conv_fused(&weight.var(), bias.as_ref(), conv, residual, self.activation)
            .located(weight, "FusedConv2d")
    }
}

impl Forward for FusedConv2d {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.apply(x, None)
    }
}

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
    use crate::{BatchNorm2d, Gelu, Init, MaxPool2d, Module, Relu, Sequential};
    use autograd::no_grad;
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

    fn network(init: &mut Init) -> Result<Sequential> {
        let norm = BatchNorm2d::new(8, init)?;
        norm.running_mean.set(Tensor::randn([8], &Device::cpu())?)?;
        norm.running_var.set(Tensor::rand([8], &Device::cpu())?.add_scalar(0.5)?)?;
        Ok(Sequential::new()
            .add(Conv2d::new(3, 8, 3, init)?.padding(1).no_bias())
            .add(norm)
            .add(Relu)
            .add(MaxPool2d::new(2))
            .add(Conv2d::new(8, 8, 1, init)?)
            .add(Gelu)
            .add(BatchNorm2d::new(8, init)?)
            .add(Conv2d::new(8, 4, 3, init)?))
    }

    #[test]
    fn a_fused_network_gives_what_it_gave_with_a_graph_and_without() -> Result<()> {
        let network = network(&mut Init::new(2))?;
        network.eval();
        let x: Var = Tensor::randn([2, 3, 12, 10], &Device::cpu())?.into();
        let expected = network.forward(&x)?;
        let fused = network.fuse_eval()?;
        assert_eq!(fused.len(), 5);
        let close = |y: &Var, expected: &Var| y.value().all_close(expected.value(), 1e-5, 1e-5);
        assert!(close(&fused.forward(&x)?, &expected)?);
        assert!(close(&no_grad(|| fused.forward(&x))?, &expected)?);
        assert!(fused.forward(&x)?.requires_grad(), "parameters are still trained");
        Ok(())
    }

    #[test]
    fn a_residual_is_added_before_the_activation() -> Result<()> {
        let conv = Conv2d::new(3, 5, 3, &mut Init::new(3))?.padding(1);
        let x: Var = Tensor::randn([2, 3, 6, 7], &Device::cpu())?.into();
        let r: Var = Tensor::randn([2, 5, 6, 7], &Device::cpu())?.into();
        let expected = conv.forward(&x)?.add(&r)?.relu()?;
        let fused = FusedConv2d { conv, activation: Some(UnaryOp::Relu) };
        for y in [fused.forward_residual(&x, &r)?, no_grad(|| fused.forward_residual(&x, &r))?] {
            assert!(y.value().all_close(expected.value(), 1e-5, 1e-5)?);
        }
        assert!(fused.forward_residual(&x, &x).is_err());
        let (single, r) = (x.value().select(0, 1)?.into(), r.value().select(0, 1)?.into());
        let y = no_grad(|| fused.forward_residual(&single, &r))?;
        assert!(y.value().all_close(&expected.value().select(0, 1)?, 1e-5, 1e-5)?);
        Ok(())
    }
}
