//! Burn on its CPU backend "flex".

use crate::data::{integers, random};
use crate::form::Answer;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// The CPU, without and with a graph.
pub(crate) fn device(grad: bool) -> Device {
    if grad { Device::flex().autodiff() } else { Device::flex() }
}

/// Uniform in `[-scale, scale)`.
pub(crate) fn scaled<const D: usize>(seed: u32, shape: [usize; D], scale: f32) -> Tensor<D> {
    Tensor::from_data(TensorData::new(random(seed, shape.iter().product(), scale), shape), &device(false))
}

/// Uniform in `[-1, 1)`.
pub(crate) fn tensor<const D: usize>(seed: u32, shape: [usize; D]) -> Tensor<D> {
    scaled(seed, shape, 1.0)
}

/// The same with a graph; `require_grad` makes it a leaf.
pub(crate) fn recorded<const D: usize>(seed: u32, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(random(seed, shape.iter().product(), 1.0), shape), &device(true))
}

/// Whole numbers below a bound.
pub(crate) fn labels<const D: usize>(
    seed: u32,
    shape: [usize; D],
    below: usize,
    device: &Device,
) -> Tensor<D, Int> {
    Tensor::from_data(TensorData::new(integers(seed, shape.iter().product(), below), shape), device)
}

impl<const D: usize> Answer for Tensor<D> {
    fn append(&self, to: &mut Vec<f32>) -> Result<(), String> {
        to.extend(
            self.clone().into_data().convert::<f32>().try_to_vec::<f32>().map_err(|e| format!("{e:?}"))?,
        );
        Ok(())
    }
}
