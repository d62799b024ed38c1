//! Adam and AdamW.

use super::rule::{blend, check, decayed, each};
use super::{Optim, Rule, Update};
use tensor::backend::{AdamStep, AdamUpdate};
use tensor::op::BinaryOp;
use tensor::{Result, Tensor};

/// Adam (Kingma & Ba, 2015): steps in the direction of the mean gradient over its root mean square.
///
/// ```
/// use gradus_nn::optim::{Adam, AdamConfig, Optimizer};
/// use gradus_nn::Param;
/// use tensor::{Device, Tensor};
/// # fn main() -> tensor::Result<()> {
/// let w = Param::new(Tensor::from_slice(&[1f32, -2.], [2], &Device::cpu())?);
/// let mut adam = Adam::new(&w, AdamConfig { lr: 0.5, ..Default::default() })?;
/// adam.step(&w.var().square()?.sum_all()?.backward()?)?;
/// // The first step goes as far as the learning rate says, whatever the size of the gradient.
/// assert!(w.value().all_close(&Tensor::from_slice(&[0.5f32, -1.5], [2], &Device::cpu())?, 1e-6, 0.0)?);
/// # Ok(()) }
/// ```
pub type Adam = Optim<AdamConfig>;

/// AdamW (Loshchilov & Hutter, 2019): Adam whose weight decay shrinks the parameter instead of adding to the gradient.
pub type AdamW = Optim<AdamWConfig>;

macro_rules! config {
    ($(#[$doc:meta])+ $Config:ident, $name:literal, $decay:literal, $decoupled:literal) => {
        $(#[$doc])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Config {
            /// Learning rate.
            pub lr: f64,
            /// How much of the mean gradient, and of the mean squared gradient, is kept.
            pub betas: (f64, f64),
            /// Added to the denominator.
            pub eps: f64,
            /// Weight decay.
            pub weight_decay: f64,
            /// Divides by the largest mean squared gradient so far (Reddi et al., 2018).
            pub amsgrad: bool,
        }

        impl Default for $Config {
            fn default() -> Self {
                $Config { lr: 1e-3, betas: (0.9, 0.999), eps: 1e-8, weight_decay: $decay, amsgrad: false }
            }
        }

        impl Rule for $Config {
            const NAME: &'static str = $name;

            fn lr(&self) -> f64 {
                self.lr
            }

            fn check(&self) -> Result<()> {
                check(Self::NAME, "a learning rate", self.lr, 0.0..)?;
                check(Self::NAME, "a first beta", self.betas.0, 0.0..1.0)?;
                check(Self::NAME, "a second beta", self.betas.1, 0.0..1.0)?;
                check(Self::NAME, "an eps", self.eps, 0.0..)?;
                check(Self::NAME, "a weight decay", self.weight_decay, 0.0..)
            }

            fn slots(&self) -> Vec<(&'static str, f64)> {
                let slots = vec![("exp_avg", 0.0), ("exp_avg_sq", 0.0), ("max_exp_avg_sq", 0.0)];
                slots.into_iter().take(if self.amsgrad { 3 } else { 2 }).collect()
            }

            fn update(
                &self,
                lr: f64,
                step: u64,
                clip: Option<&Tensor>,
                updates: &mut [Update],
            ) -> Result<()> {
                let step = AdamStep {
                    lr,
                    beta1: self.betas.0,
                    beta2: self.betas.1,
                    eps: self.eps,
                    weight_decay: self.weight_decay,
                    decoupled: $decoupled,
                    step,
                    grad_scale: 1.0,
                };
                if self.amsgrad { amsgrad(&step, clip, updates) } else { adam(&step, clip, updates) }
            }
        }
    };
}

config! {
    /// Hyperparameters of [`Adam`], with PyTorch's names and defaults.
    AdamConfig, "adam", 0.0, false
}
config! {
    /// Hyperparameters of [`AdamW`], with PyTorch's names and defaults.
    AdamWConfig, "adamw", 0.01, true
}

fn adam(step: &AdamStep, clip: Option<&Tensor>, updates: &mut [Update]) -> Result<()> {
    let Some(device) = updates.first().map(|u| u.param.device().clone()) else { return Ok(()) };
    fn update<'a>(u: &'a mut Update) -> AdamUpdate<'a> {
        match u.state {
            [mean, square] => AdamUpdate { param: u.param, grad: u.grad, mean, square },
            _ => unreachable!("a step has the slots of its rule: two"),
        }
    }
    let mut updates: Vec<AdamUpdate> = updates.iter_mut().map(update).collect();
    device.backend().adam_step(step, clip, &mut updates)
}

/// `p -= lr / (1 - β₁ᵗ) · m / (√max(v) / √(1 - β₂ᵗ) + ε)`.
fn amsgrad(step: &AdamStep, clip: Option<&Tensor>, updates: &mut [Update]) -> Result<()> {
    let (coupled, decoupled) =
        if step.decoupled { (0.0, step.weight_decay) } else { (step.weight_decay, 0.0) };
    let correction = |beta: f64| 1.0 - beta.powf(step.step as f64);
    each(clip, updates, |param, grad, state| {
        let g = decayed(grad, coupled, param)?;
        let m = blend(&state[0], step.beta1, &g, 1.0 - step.beta1)?;
        let v = blend(&state[1], step.beta2, &g.square()?, 1.0 - step.beta2)?;
        let v_max = state[2].binary(BinaryOp::Maximum, &v)?;
        let root = v_max.sqrt()?.div_scalar(correction(step.beta2).sqrt())?.add_scalar(step.eps)?;
        let update = m.div(&root)?.mul_scalar(step.lr / correction(step.beta1))?;
        *param = param.mul_scalar(1.0 - step.lr * decoupled)?.sub(&update)?;
        state.clone_from_slice(&[m, v, v_max]);
        Ok(())
    })
}
