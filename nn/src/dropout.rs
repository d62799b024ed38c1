//! Dropout.

use crate::{Forward, Init, Mode, Random, module};
use autograd::Var;
use tensor::{Error, Result};

/// In training, sets each element to 0 with probability `p` and scales the others by `1 / (1 - p)` (Srivastava et al.,
/// 2014); in evaluation, nothing. The draws come from a generator of its own: a model trained twice from one seed drops
/// the same elements.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// The probability of a zero.
    pub p: f64,
    random: Random,
    training: Mode,
}
module!(Dropout { random, training });

impl Dropout {
    /// With probability `p`.
    ///
    /// # Errors
    /// If it is not within 0 and 1.
    pub fn new(p: f64, init: &mut Init) -> Result<Dropout> {
        if !(0.0..=1.0).contains(&p) {
            return Err(Error::argument("Dropout", format!("a probability lies within 0 and 1, got {p}")));
        }
        Ok(Dropout { p, random: Random::new(init.fork()), training: Mode::default() })
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
        x.dropout(self.p, &mut self.random.generator())
    }
}
