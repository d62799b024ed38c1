//! Optimizer steps, in place where nobody else sees the state.

use tensor::backend::{AdamStep, AdamUpdate, SgdStep, SgdUpdate};
use tensor::{DType, Result, Tensor, composed};

use super::copy::copy;
use super::names::short;
use super::storage::operand;
use super::walk::{Operand, pieces};
use crate::capture::Number;
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};

/// A row-major tensor that nobody else sees: the same, or a copy, which a captured step must not make: each replay would begin with what
/// was there at the capture.
fn own(gpu: &'static Gpu, x: &mut Tensor) -> Result<Option<Tensor>> {
    if x.layout().is_contiguous() && x.storage_mut().is_some() {
        return Ok(None);
    }
    gpu.not_captured("a step of an optimizer for a parameter or state that another tensor shares")?;
    copy(gpu, x, x.dtype()).map(Some)
}

/// Whether there are kernels for it. State of 16 bits is rounded in each of the steps of which the composed form is made, and what
/// underflows there decides how far a parameter goes: so it is that form that is computed.
fn is_wide(param: &Tensor) -> bool {
    matches!(param.dtype(), DType::F32 | DType::F64)
}

/// The gradient in the dtype of its parameter, times `clip`.
fn prepared(grad: &Tensor, param: &Tensor, clip: Option<&Tensor>) -> Result<Tensor> {
    let grad = grad.to_dtype(param.dtype())?;
    match clip {
        Some(clip) => grad.mul(&clip.to_dtype(grad.dtype())?)?.contiguous(),
        None => grad.contiguous(),
    }
}

pub(super) fn sgd_step(
    gpu: &'static Gpu,
    step: &SgdStep,
    clip: Option<&Tensor>,
    updates: &mut [SgdUpdate],
) -> Result<()> {
    if updates.iter().any(|u| !is_wide(u.param)) {
        gpu.not_captured("a step of an optimizer for parameters of 16 bits")?;
        return composed::sgd_step(step, clip, updates);
    }
    updates.iter_mut().try_for_each(|update| sgd(gpu, step, clip, update))
}

fn sgd(gpu: &'static Gpu, step: &SgdStep, clip: Option<&Tensor>, update: &mut SgdUpdate) -> Result<()> {
    let SgdUpdate { param, grad, momentum } = update;
    let (param, momentum) = (&mut **param, momentum.as_deref_mut());
    let grad = prepared(grad, param, clip)?;
    let name = short(param.dtype());
    let SgdStep { lr, weight_decay, grad_scale, .. } = *step;
    // All memory is there before anything changes.
    let new_param = own(gpu, param)?;
    let Some(momentum) = momentum else {
        let p = new_param.as_ref().unwrap_or(param);
        for piece in pieces([operand(p), operand(&grad)]) {
            let ([p, g], launch) = (piece.at, piece.launch());
            launch::sgd(gpu, &format!("sgd_{name}"), launch, piece.walk, p, g, lr, weight_decay, grad_scale)?;
        }
        if let Some(new) = new_param {
            *param = new;
        }
        return Ok(());
    };
    let new_momentum = own(gpu, momentum)?;
    let (p, m) = (new_param.as_ref().unwrap_or(param), new_momentum.as_ref().unwrap_or(momentum));
    for piece in pieces([p, m, &grad].map(operand)) {
        let [p, m, g] = piece.at;
        launch::momentum(
            gpu,
            &format!("momentum_{name}"),
            piece.launch(),
            piece.walk,
            p,
            m,
            g,
            lr,
            weight_decay,
            grad_scale,
            step.momentum,
            1.0 - step.dampening,
            u32::from(step.first),
            u32::from(step.nesterov),
        )?;
    }
    for (old, new) in [(param, new_param), (momentum, new_momentum)] {
        if let Some(new) = new {
            *old = new;
        }
    }
    Ok(())
}

pub(super) fn adam_step(
    gpu: &'static Gpu,
    step: &AdamStep,
    clip: Option<&Tensor>,
    updates: &mut [AdamUpdate],
) -> Result<()> {
    if updates.iter().any(|u| !is_wide(u.param)) {
        gpu.not_captured("a step of an optimizer for parameters of 16 bits")?;
        return composed::adam_step(step, clip, updates);
    }
    updates.iter_mut().try_for_each(|update| adam(gpu, step, clip, update))
}

fn adam(gpu: &'static Gpu, step: &AdamStep, clip: Option<&Tensor>, update: &mut AdamUpdate) -> Result<()> {
    let AdamUpdate { param, grad, mean, square } = update;
    let (param, mean, square) = (&mut **param, &mut **mean, &mut **square);
    let grad = prepared(grad, param, clip)?;
    let kernel = format!("adam_{}", short(param.dtype()));
    // All memory is there before anything changes.
    let new = [own(gpu, param)?, own(gpu, mean)?, own(gpu, square)?];
    let state: [Operand; 3] = {
        let old: [&Tensor; 3] = [param, mean, square];
        std::array::from_fn(|k| operand(new[k].as_ref().unwrap_or(old[k])))
    };
    // Of the step that is `later` steps after this one.
    let AdamStep { lr, beta1, beta2, step: number, .. } = *step;
    let correction = move |beta: f64, later: u64| 1.0 - beta.powf((number + later) as f64);
    let root = move |later| correction(beta2, later).sqrt();
    let rate = move |later| lr / correction(beta1, later);
    let corrections = gpu.slots([Number::Of(Box::new(root)), Number::Of(Box::new(rate))])?;
    let decay = if step.decoupled { 0.0 } else { step.weight_decay };
    let shrunk = if step.decoupled { 1.0 - step.lr * step.weight_decay } else { 1.0 };
    for piece in pieces([state[0], state[1], state[2], operand(&grad)]) {
        let [p, m, s, g] = piece.at;
        launch::adam(
            gpu,
            &kernel,
            piece.launch(),
            piece.walk,
            p,
            m,
            s,
            g,
            step.grad_scale,
            decay,
            shrunk,
            step.beta1,
            step.beta2,
            root(0),
            step.eps,
            rate(0),
            corrections.unwrap_or(Pointer::NONE),
        )?;
    }
    let [p, m, s] = new;
    for (old, new) in [(param, p), (mean, m), (square, s)] {
        if let Some(new) = new {
            *old = new;
        }
    }
    Ok(())
}
