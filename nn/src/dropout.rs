//! Dropout.

use crate::{Forward, Init, Mode, module};
use autograd::Var;
use std::sync::{Arc, Mutex, PoisonError};
use tensor::{Distribution, Error, Generator, Result, Tensor};

/// In training, sets each element to 0 with probability `p` and scales the others by `1 / (1 - p)` (Srivastava et al.,
/// 2014); in evaluation, nothing. The draws come from a generator of its own: a model trained twice from one seed drops
/// the same elements.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// The probability of a zero.
    pub p: f64,
    generator: Arc<Mutex<Generator>>,
    training: Mode,
}
module!(Dropout { training });

impl Dropout {
    /// With probability `p`.
    ///
    /// # Errors
    /// If it is not within 0 and 1.
    pub fn new(p: f64, init: &mut Init) -> Result<Dropout> {
        if !(0.0..=1.0).contains(&p) {
            return Err(Error::argument("Dropout", format!("a probability lies within 0 and 1, got {p}")));
        }
        Ok(Dropout { p, generator: Arc::new(Mutex::new(init.fork())), training: Mode::default() })
    }
}

impl Forward for Dropout {
    fn forward(&self, x: &Var) -> Result<Var> {
        if !self.training.is_training() || self.p == 0.0 {
            return Ok(x.clone());
        }
        if self.p == 1.0 {
            return x.mul_scalar(0.0);
        }
        let mut generator = self.generator.lock().unwrap_or_else(PoisonError::into_inner);
        let keep = Distribution::Bernoulli { p: 1.0 - self.p };
        let mask = Tensor::random(keep, x.shape(), (x.dtype(), x.device()), &mut generator)?;
        x.mul(&mask.mul_scalar(1.0 / (1.0 - self.p))?.into())
    }
}
