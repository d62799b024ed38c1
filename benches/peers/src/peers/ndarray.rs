//! ndarray, whose matrix products are matrixmultiply's.

use crate::data::random;
use crate::form::Answer;
use ndarray::{Array, Dimension, ShapeBuilder};

/// Uniform in `[-1, 1)`.
pub(crate) fn array<D: Dimension>(seed: u32, shape: impl ShapeBuilder<Dim = D> + Clone) -> Array<f32, D> {
    let n = Array::<u8, D>::zeros(shape.clone()).len();
    Array::from_shape_vec(shape, random(seed, n, 1.0)).expect("as many numbers as the shape has elements")
}

impl<D: Dimension> Answer for Array<f32, D> {
    fn append(&self, to: &mut Vec<f32>) -> Result<(), String> {
        to.extend(self.iter());
        Ok(())
    }
}
