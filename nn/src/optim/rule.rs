//! [`Rule`]: how parameters change, given their gradients, and what rules are made of.

use tensor::{Error, Result, Tensor};

/// How parameters change, and with which hyperparameters.
pub trait Rule: Clone {
    /// What messages call it.
    const NAME: &'static str;

    /// The learning rate.
    fn lr(&self) -> f64;

    /// Errors on hyperparameters that make no sense.
    fn check(&self) -> Result<()>;

    /// The names and starting values of the tensors it keeps for each parameter.
    fn slots(&self) -> Vec<(&'static str, f64)>;

    /// Changes parameters of one dtype on one device. `step` counts from 1. Gradients are to be multiplied by `clip` first, which
    /// has no dims; [`each`] does that.
    fn update(&self, lr: f64, step: u64, clip: Option<&Tensor>, updates: &mut [Update]) -> Result<()>;
}

/// A parameter in a step.
#[derive(Debug)]
pub struct Update<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// Its value, which changes.
    pub param: &'a mut Tensor,
    /// Its gradient.
    pub grad: &'a Tensor,
    /// The tensors of [`Rule::slots`], which change.
    pub state: &'a mut [Tensor],
}

/// One parameter after the other, for rules without a kernel: `change` gets each with its gradient, which has the dtype of the
/// parameter and is multiplied by `clip`, and its state.
pub fn each(
    clip: Option<&Tensor>,
    updates: &mut [Update],
    change: impl Fn(&mut Tensor, &Tensor, &mut [Tensor]) -> Result<()>,
) -> Result<()> {
    updates.iter_mut().try_for_each(|update| {
        let mut changed = || {
            let grad = update.grad.to_dtype(update.param.dtype())?;
            let grad = match clip {
                Some(clip) => grad.mul(&clip.to_dtype(grad.dtype())?)?,
                None => grad,
            };
            change(update.param, &grad, update.state)
        };
        changed().map_err(|e| e.at(update.name))
    })
}

/// Errors unless a hyperparameter is in a range.
pub(super) fn check(
    name: &'static str,
    what: &str,
    value: f64,
    range: impl std::ops::RangeBounds<f64>,
) -> Result<()> {
    match range.contains(&value) && value.is_finite() {
        true => Ok(()),
        false => Err(Error::argument(name, format!("{what} of {value} makes no sense"))),
    }
}

/// `grad + decay · param`: the L2 penalty.
pub(super) fn decayed(grad: &Tensor, decay: f64, param: &Tensor) -> Result<Tensor> {
    if decay == 0.0 { Ok(grad.clone()) } else { grad.add(&param.mul_scalar(decay)?) }
}

/// `factor · a + share · b`: a running mean.
pub(super) fn blend(a: &Tensor, factor: f64, b: &Tensor, share: f64) -> Result<Tensor> {
    a.mul_scalar(factor)?.add(&b.mul_scalar(share)?)
}
