//! candle.

use crate::data::{integers, random};
use crate::form::Answer;
use candle_core::{DType, Device, Error, Result, Shape, Tensor, Var};
use candle_nn::VarBuilder;
use std::collections::HashMap;

/// Uniform in `[-scale, scale)`.
pub(crate) fn scaled(seed: u32, shape: impl Into<Shape>, scale: f32) -> Result<Tensor> {
    let shape = shape.into();
    Tensor::from_vec(random(seed, shape.elem_count(), scale), shape, &Device::Cpu)
}

/// Uniform in `[-1, 1)`.
pub(crate) fn tensor(seed: u32, shape: impl Into<Shape>) -> Result<Tensor> {
    scaled(seed, shape, 1.0)
}

/// A leaf.
pub(crate) fn leaf(seed: u32, shape: impl Into<Shape>, scale: f32) -> Result<Var> {
    Var::from_tensor(&scaled(seed, shape, scale)?)
}

/// Whole numbers below a bound.
pub(crate) fn labels(seed: u32, shape: impl Into<Shape>, below: usize) -> Result<Tensor> {
    let shape = shape.into();
    Tensor::from_vec(integers(seed, shape.elem_count(), below), shape, &Device::Cpu)?.to_dtype(DType::U32)
}

/// Named weights, each seeded by its position: leaves if `train`, constants otherwise. Those named as biases are 0.
pub(crate) fn weights(
    train: bool,
    shapes: &[(&str, Vec<usize>)],
    scale: f32,
) -> Result<(VarBuilder<'static>, Vec<Var>)> {
    let (mut named, mut leaves) = (HashMap::new(), vec![]);
    for (i, (name, shape)) in shapes.iter().enumerate() {
        let scale = if name.contains("bias") { 0.0 } else { scale };
        let var = leaf(1000 + i as u32, shape.as_slice(), scale)?;
        let value = if train { var.as_tensor().clone() } else { var.as_detached_tensor() };
        named.insert(name.to_string(), value);
        leaves.push(var);
    }
    Ok((VarBuilder::from_tensors(named, DType::F32, &Device::Cpu), leaves))
}

/// The gradients of a value in leaves.
pub(crate) fn gradients(of: &Tensor, leaves: &[&Var]) -> Result<Vec<Tensor>> {
    let all = of.backward()?;
    let find = |leaf: &&Var| all.get(leaf).cloned().ok_or_else(|| Error::Msg("no gradient".to_string()));
    leaves.iter().map(find).collect()
}

impl Answer for Tensor {
    fn append(&self, to: &mut Vec<f32>) -> std::result::Result<(), String> {
        let all = self.flatten_all().and_then(|t| t.to_dtype(DType::F32)).and_then(|t| t.to_vec1::<f32>());
        to.extend(all.map_err(|e| e.to_string())?);
        Ok(())
    }
}
