//! Steps of optimizers on one tensor and on many. The state is of its own, so that it changes in place.

use super::Run;
use gradus::tensor::backend::{AdamStep, AdamUpdate, SgdStep, SgdUpdate};
use gradus::{Result, Tensor};

/// The step `name` of parameters and gradients in turn, or `None` if it is not one of these.
pub(super) fn prepare(name: &str, x: &[Tensor]) -> Result<Option<Run>> {
    Ok(match name {
        "adam" => Some(adam(x)?),
        "sgd" => Some(sgd(x)?),
        _ => None,
    })
}

/// Parameters of one's own, and their gradients.
fn pairs(x: &[Tensor]) -> Result<(Vec<Tensor>, Vec<Tensor>)> {
    let params = x.iter().step_by(2).map(Tensor::copy).collect::<Result<_>>()?;
    Ok((params, x.iter().skip(1).step_by(2).cloned().collect()))
}

fn zeros(params: &[Tensor]) -> Result<Vec<Tensor>> {
    params.iter().map(Tensor::zeros_like).collect()
}

/// AdamW.
fn adam(x: &[Tensor]) -> Result<Run> {
    let (mut params, grads) = pairs(x)?;
    let (mut means, mut squares) = (zeros(&params)?, zeros(&params)?);
    let step = AdamStep {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.01,
        decoupled: true,
        step: 10,
        grad_scale: 1.0,
    };
    Ok(Box::new(move || {
        let device = grads[0].device().clone();
        let states = means.iter_mut().zip(&mut squares);
        let mut updates: Vec<AdamUpdate> = params
            .iter_mut()
            .zip(&grads)
            .zip(states)
            .map(|((param, grad), (mean, square))| AdamUpdate { param, grad, mean, square })
            .collect();
        device.backend().adam_step(&step, None, &mut updates)?;
        Ok(vec![])
    }))
}

/// SGD with momentum.
fn sgd(x: &[Tensor]) -> Result<Run> {
    let (mut params, grads) = pairs(x)?;
    let mut momenta = zeros(&params)?;
    let step = SgdStep {
        lr: 1e-3,
        momentum: 0.9,
        dampening: 0.0,
        weight_decay: 0.0,
        nesterov: false,
        first: false,
        grad_scale: 1.0,
    };
    Ok(Box::new(move || {
        let device = grads[0].device().clone();
        let mut updates: Vec<SgdUpdate> = params
            .iter_mut()
            .zip(&grads)
            .zip(&mut momenta)
            .map(|((param, grad), momentum)| SgdUpdate { param, grad, momentum: Some(momentum) })
            .collect();
        device.backend().sgd_step(&step, None, &mut updates)?;
        Ok(vec![])
    }))
}
