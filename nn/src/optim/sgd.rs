//! Stochastic gradient descent.

use super::rule::check;
use super::{Optim, Rule, Update};
use tensor::backend::{SgdStep, SgdUpdate};
use tensor::{Error, Result, Tensor};

/// Stochastic gradient descent with momentum.
///
/// ```
/// use gradus_nn::optim::{Optimizer, Sgd, SgdConfig};
/// use gradus_nn::Param;
/// use tensor::{Device, Tensor};
/// # fn main() -> tensor::Result<()> {
/// let w = Param::new(Tensor::from_slice(&[1f32, -2.], [2], &Device::cpu())?);
/// let mut sgd = Sgd::new(&w, SgdConfig { lr: 0.25, ..Default::default() })?;
/// let loss = w.var().square()?.sum_all()?;
/// sgd.step(&loss.backward()?)?;
/// assert_eq!(w.value().to_vec::<f32>()?, [0.5, -1.]);
/// # Ok(()) }
/// ```
pub type Sgd = Optim<SgdConfig>;

/// Hyperparameters of [`Sgd`], with PyTorch's names and defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct SgdConfig {
    /// Learning rate.
    pub lr: f64,
    /// How much of the last direction is kept.
    pub momentum: f64,
    /// How much of the gradient the momentum ignores.
    pub dampening: f64,
    /// L2 penalty.
    pub weight_decay: f64,
    /// Looks ahead along the momentum (Nesterov).
    pub nesterov: bool,
    /// Goes up instead of down.
    pub maximize: bool,
}

impl Default for SgdConfig {
    fn default() -> Self {
        SgdConfig {
            lr: 1e-3,
            momentum: 0.0,
            dampening: 0.0,
            weight_decay: 0.0,
            nesterov: false,
            maximize: false,
        }
    }
}

impl Rule for SgdConfig {
    const NAME: &'static str = "sgd";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn check(&self) -> Result<()> {
        check(Self::NAME, "a learning rate", self.lr, 0.0..)?;
        check(Self::NAME, "a momentum", self.momentum, 0.0..)?;
        check(Self::NAME, "a dampening", self.dampening, ..)?;
        check(Self::NAME, "a weight decay", self.weight_decay, 0.0..)?;
        if self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            return Err(Error::argument(Self::NAME, "nesterov needs a momentum and no dampening"));
        }
        Ok(())
    }

    fn slots(&self) -> Vec<(&'static str, f64)> {
        if self.momentum == 0.0 { vec![] } else { vec![("momentum_buffer", 0.0)] }
    }

    fn update(&self, lr: f64, step: u64, clip: Option<&Tensor>, updates: &mut [Update]) -> Result<()> {
        let Some(device) = updates.first().map(|u| u.param.device().clone()) else { return Ok(()) };
        let step = SgdStep {
            lr,
            momentum: self.momentum,
            dampening: self.dampening,
            weight_decay: self.weight_decay,
            nesterov: self.nesterov,
            first: step == 1,
            grad_scale: if self.maximize { -1.0 } else { 1.0 },
        };
        let mut updates: Vec<SgdUpdate> = updates
            .iter_mut()
            .map(|u| SgdUpdate { param: u.param, grad: u.grad, momentum: u.state.first_mut() })
            .collect();
        device.backend().sgd_step(&step, clip, &mut updates)
    }
}
