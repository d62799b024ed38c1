//! RMSprop.

use super::rule::{blend, check, decayed, each};
use super::{Optim, Rule, Update};
use tensor::{Result, Tensor};

/// RMSprop (Tieleman & Hinton, 2012): steps along the gradient over its root mean square.
pub type RmsProp = Optim<RmsPropConfig>;

/// Hyperparameters of [`RmsProp`], with PyTorch's names and defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct RmsPropConfig {
    /// Learning rate.
    pub lr: f64,
    /// How much of the mean squared gradient is kept.
    pub alpha: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// L2 penalty.
    pub weight_decay: f64,
    /// How much of the last direction is kept.
    pub momentum: f64,
    /// Divides by the deviation of the gradient instead of its root mean square.
    pub centered: bool,
}

impl Default for RmsPropConfig {
    fn default() -> Self {
        RmsPropConfig { lr: 1e-2, alpha: 0.99, eps: 1e-8, weight_decay: 0.0, momentum: 0.0, centered: false }
    }
}

impl Rule for RmsPropConfig {
    const NAME: &'static str = "rmsprop";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn check(&self) -> Result<()> {
        check(Self::NAME, "a learning rate", self.lr, 0.0..)?;
        check(Self::NAME, "an alpha", self.alpha, 0.0..)?;
        check(Self::NAME, "an eps", self.eps, 0.0..)?;
        check(Self::NAME, "a weight decay", self.weight_decay, 0.0..)?;
        check(Self::NAME, "a momentum", self.momentum, 0.0..)
    }

    fn slots(&self) -> Vec<(&'static str, f64)> {
        let mut slots = vec![("square_avg", 0.0)];
        if self.centered {
            slots.push(("grad_avg", 0.0));
        }
        if self.momentum > 0.0 {
            slots.push(("momentum_buffer", 0.0));
        }
        slots
    }

    fn update(&self, lr: f64, _: u64, clip: Option<&Tensor>, updates: &mut [Update]) -> Result<()> {
        let (keep, share) = (self.alpha, 1.0 - self.alpha);
        each(clip, updates, |param, grad, state| {
            let g = decayed(grad, self.weight_decay, param)?;
            state[0] = blend(&state[0], keep, &g.square()?, share)?;
            let mut spread = state[0].clone();
            if self.centered {
                state[1] = blend(&state[1], keep, &g, share)?;
                spread = spread.sub(&state[1].square()?)?;
            }
            let mut direction = g.div(&spread.sqrt()?.add_scalar(self.eps)?)?;
            if let (true, Some(last)) = (self.momentum > 0.0, state.last_mut()) {
                direction = last.mul_scalar(self.momentum)?.add(&direction)?;
                *last = direction.clone();
            }
            *param = param.sub(&direction.mul_scalar(lr)?)?;
            Ok(())
        })
    }
}
