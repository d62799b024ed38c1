//! Adam and AdamW.

use super::{Optim, Rule, blend, check, decayed};
use tensor::backend::AdamStep;
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
                param: &mut Tensor,
                grad: &Tensor,
                state: &mut [Tensor],
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
                adam(&step, param, grad, state)
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

fn adam(step: &AdamStep, param: &mut Tensor, grad: &Tensor, state: &mut [Tensor]) -> Result<()> {
    match state {
        [mean, square] => {
            let device = param.device().clone();
            device.backend().adam_step(step, param, grad, mean, square)
        }
        [mean, square, largest] => amsgrad(step, param, grad, [mean, square, largest]),
        _ => unreachable!("a step has the slots of its rule: two, or three with amsgrad"),
    }
}

/// `p -= lr / (1 - β₁ᵗ) · m / (√max(v) / √(1 - β₂ᵗ) + ε)`.
fn amsgrad(
    step: &AdamStep,
    param: &mut Tensor,
    grad: &Tensor,
    [mean, square, largest]: [&mut Tensor; 3],
) -> Result<()> {
    let (coupled, decoupled) =
        if step.decoupled { (0.0, step.weight_decay) } else { (step.weight_decay, 0.0) };
    let g = decayed(grad, coupled, param)?;
    let m = blend(mean, step.beta1, &g, 1.0 - step.beta1)?;
    let v = blend(square, step.beta2, &g.square()?, 1.0 - step.beta2)?;
    let v_max = largest.binary(BinaryOp::Maximum, &v)?;
    let correction = |beta: f64| 1.0 - beta.powf(step.step as f64);
    let root = v_max.sqrt()?.div_scalar(correction(step.beta2).sqrt())?.add_scalar(step.eps)?;
    let update = m.div(&root)?.mul_scalar(step.lr / correction(step.beta1))?;
    *param = param.mul_scalar(1.0 - step.lr * decoupled)?.sub(&update)?;
    (*mean, *square, *largest) = (m, v, v_max);
    Ok(())
}
