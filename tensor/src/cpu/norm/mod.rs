//! Layer, root-mean-square, group and batch normalisation, forward and backward, each in one or two passes over memory.
//!
//! Moments are those of [`Moments`]: a large mean costs no digits of the variance. Leaves and blocks of rows follow from the shape
//! alone.

mod batch;
mod group;
mod kernels;
mod layer;
mod short;
#[cfg(test)]
mod tests;

pub(crate) use batch::{batch_norm_apply, batch_norm_backward, batch_norm_stats, batch_norm_training};
pub(crate) use group::{group_norm, group_norm_backward};
pub(crate) use layer::{layer_norm, layer_norm_backward, rms_norm, rms_norm_backward};

use crate::cpu::reduce::{Moments, contiguous};
use crate::cpu::storage::{elements, filled_shape};
use crate::cpu::wide::WideFloat;
use crate::{Result, Shape, Tensor};

/// A new tensor of these elements.
fn tensor_of<A: WideFloat>(shape: impl Into<Shape>, data: &[A]) -> Result<Tensor> {
    filled_shape::<A>(shape.into(), |y| {
        y.copy_from_slice(data);
        Ok(())
    })
}

/// The elements of an optional parameter in the wide type, or `n` times its neutral value.
fn parameter<A: WideFloat>(t: Option<&Tensor>, n: usize, neutral: f64) -> Result<Vec<A>> {
    match t {
        Some(t) => Ok(elements::<A>(&contiguous(&t.to_dtype(A::DTYPE)?)?).to_vec()),
        None => Ok(vec![A::from_f64(neutral); n]),
    }
}
