//! Gradus, through its public interface.

use crate::data::{integers, random};
use crate::form::Answer;
use gradus::prelude::*;

/// Uniform in `[-scale, scale)`.
pub(crate) fn scaled(seed: u32, shape: impl Into<Shape>, scale: f32) -> Result<Tensor> {
    let shape = shape.into();
    Tensor::from_vec(random(seed, shape.numel(), scale), shape, &Device::cpu())
}

/// Uniform in `[-1, 1)`.
pub(crate) fn tensor(seed: u32, shape: impl Into<Shape>) -> Result<Tensor> {
    scaled(seed, shape, 1.0)
}

/// Whole numbers below a bound.
pub(crate) fn labels(seed: u32, shape: impl Into<Shape>, below: usize) -> Result<Tensor> {
    let shape = shape.into();
    Tensor::from_vec(integers(seed, shape.numel(), below), shape, &Device::cpu())
}

/// Weights as `torch_child.py` sets them: uniform within `1 / √fan_in`, seeded by their position; biases are 0, and the scales
/// of normalising layers stay 1.
pub(crate) fn set_weights(model: &impl Module) -> Result<()> {
    for (i, (name, param)) in model.params().into_iter().enumerate() {
        let shape = param.shape();
        if name.contains("bias") {
            param.set(Tensor::zeros(shape, &Device::cpu())?)?;
        } else if shape.rank() > 1 {
            let fan_in = shape.numel() / shape.dims()[0];
            param.set(scaled(1000 + i as u32, shape, 1.0 / (fan_in as f32).sqrt())?)?;
        }
    }
    Ok(())
}

/// Back from a gradient, along a graph that stays.
pub(crate) fn back_from(gradient: Tensor) -> Backward {
    Backward { gradient: Some(gradient), retain_graph: true, ..Default::default() }
}

impl Answer for Tensor {
    fn append(&self, to: &mut Vec<f32>) -> std::result::Result<(), String> {
        to.extend(self.to_dtype(DType::F32).and_then(|t| t.to_vec::<f32>()).map_err(|e| e.to_string())?);
        Ok(())
    }
}

impl Answer for Var {
    fn append(&self, to: &mut Vec<f32>) -> std::result::Result<(), String> {
        self.value().append(to)
    }
}
