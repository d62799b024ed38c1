//! Layer and batch normalisation, forward and backward, each in one or two passes over memory.
//!
//! Moments are taken from cache-sized leaves, by the corrected two-pass formula, and merged in doubles (Chan et al., 1979): a
//! large mean costs no digits of the variance. Leaves and blocks of rows follow from the shape alone.

mod batch;
mod kernels;
mod layer;
#[cfg(test)]
mod tests;

pub(crate) use batch::{batch_norm_apply, batch_norm_backward, batch_norm_stats, batch_norm_training};
pub(crate) use layer::{layer_norm, layer_norm_backward};

use crate::cpu::isa::Isa;
use crate::cpu::reduce::{LEAF, contiguous};
use crate::cpu::storage::{elements, filled_shape};
use crate::cpu::wide::WideFloat;
use crate::{Result, Shape, Tensor};

/// How many numbers, their mean, and the sum of their squared distances from it.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: f64,
    mean: f64,
    m2: f64,
}

impl Moments {
    /// Of a slice of any length.
    fn of<A: WideFloat>(isa: Isa, x: &[A]) -> Moments {
        x.chunks(LEAF).map(|x| kernels::moments(isa, x)).fold(Moments::default(), Moments::merge)
    }

    /// Of both together.
    fn merge(self, other: Moments) -> Moments {
        let count = self.count + other.count;
        if self.count == 0.0 || other.count == 0.0 {
            return if self.count == 0.0 { other } else { self };
        }
        let apart = other.mean - self.mean;
        Moments {
            count,
            mean: self.mean + apart * (other.count / count),
            m2: self.m2 + other.m2 + apart * apart * (self.count * other.count / count),
        }
    }

    /// Biased.
    fn variance(&self) -> f64 {
        self.m2 / self.count
    }
}

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
