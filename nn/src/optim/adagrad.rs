//! AdaGrad.

use super::rule::{check, decayed, each};
use super::{Optim, Rule, Update};
use tensor::{Result, Tensor};

/// AdaGrad (Duchi, Hazan & Singer, 2011): steps along the gradient over the root of the sum of its squares.
pub type AdaGrad = Optim<AdaGradConfig>;

/// Hyperparameters of [`AdaGrad`], with PyTorch's names and defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct AdaGradConfig {
    /// Learning rate.
    pub lr: f64,
    /// The learning rate of step `t` is `lr / (1 + (t - 1) · lr_decay)`.
    pub lr_decay: f64,
    /// L2 penalty.
    pub weight_decay: f64,
    /// Where the sum of squares starts.
    pub initial_accumulator_value: f64,
    /// Added to the denominator.
    pub eps: f64,
}

impl Default for AdaGradConfig {
    fn default() -> Self {
        AdaGradConfig {
            lr: 1e-2,
            lr_decay: 0.0,
            weight_decay: 0.0,
            initial_accumulator_value: 0.0,
            eps: 1e-10,
        }
    }
}

impl Rule for AdaGradConfig {
    const NAME: &'static str = "adagrad";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn check(&self) -> Result<()> {
        check(Self::NAME, "a learning rate", self.lr, 0.0..)?;
        check(Self::NAME, "a decay of the learning rate", self.lr_decay, 0.0..)?;
        check(Self::NAME, "a weight decay", self.weight_decay, 0.0..)?;
        check(Self::NAME, "a starting sum", self.initial_accumulator_value, 0.0..)?;
        check(Self::NAME, "an eps", self.eps, 0.0..)
    }

    fn slots(&self) -> Vec<(&'static str, f64)> {
        vec![("sum", self.initial_accumulator_value)]
    }

    fn update(&self, lr: f64, step: u64, clip: Option<&Tensor>, updates: &mut [Update]) -> Result<()> {
        let lr = lr / (1.0 + (step - 1) as f64 * self.lr_decay);
        each(clip, updates, |param, grad, state| {
            let g = decayed(grad, self.weight_decay, param)?;
            state[0] = state[0].add(&g.square()?)?;
            let direction = g.div(&state[0].sqrt()?.add_scalar(self.eps)?)?;
            *param = param.sub(&direction.mul_scalar(lr)?)?;
            Ok(())
        })
    }
}
