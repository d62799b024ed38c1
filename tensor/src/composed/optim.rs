//! Optimizer steps and what clipping needs, a parameter at a time.

use crate::backend::{AdamStep, AdamUpdate, SgdStep, SgdUpdate};
use crate::{Result, Tensor};

/// `√Σx²` of each tensor.
pub fn norms(tensors: &[&Tensor]) -> Result<Tensor> {
    let norm = |x: &&Tensor| x.to_dtype(x.dtype().accumulator())?.norm(2.0, .., false);
    Tensor::stack(&tensors.iter().map(norm).collect::<Result<Vec<_>>>()?, 0)
}

/// The gradient in the dtype of its parameter, times `clip`, times `scale`.
fn scaled(grad: &Tensor, param: &Tensor, clip: Option<&Tensor>, scale: f64) -> Result<Tensor> {
    let g = grad.to_dtype(param.dtype())?;
    let g = clip.map_or(Ok(g.clone()), |clip| g.mul(&clip.to_dtype(g.dtype())?))?;
    g.mul_scalar(scale)
}

/// An SGD step, as PyTorch defines it.
pub fn sgd_step(step: &SgdStep, clip: Option<&Tensor>, updates: &mut [SgdUpdate]) -> Result<()> {
    let new = updates.iter().map(|u| sgd(step, clip, u)).collect::<Result<Vec<_>>>()?;
    for (update, (param, momentum)) in updates.iter_mut().zip(new) {
        *update.param = param;
        if let (Some(old), Some(new)) = (update.momentum.as_deref_mut(), momentum) {
            *old = new;
        }
    }
    Ok(())
}

/// The new parameter and momentum.
fn sgd(step: &SgdStep, clip: Option<&Tensor>, update: &SgdUpdate) -> Result<(Tensor, Option<Tensor>)> {
    let param = &*update.param;
    let mut g = scaled(update.grad, param, clip, step.grad_scale)?;
    if step.weight_decay != 0.0 {
        g = g.add(&param.mul_scalar(step.weight_decay)?)?;
    }
    let Some(momentum) = update.momentum.as_deref() else {
        return Ok((param.sub(&g.mul_scalar(step.lr)?)?, None));
    };
    let velocity = match step.first {
        true => g.clone(),
        false => momentum.mul_scalar(step.momentum)?.add(&g.mul_scalar(1.0 - step.dampening)?)?,
    };
    let direction = match step.nesterov {
        true => g.add(&velocity.mul_scalar(step.momentum)?)?,
        false => velocity.clone(),
    };
    Ok((param.sub(&direction.mul_scalar(step.lr)?)?, Some(velocity)))
}

/// An Adam step (Kingma & Ba, 2015), or AdamW (Loshchilov & Hutter, 2019), as PyTorch defines them.
pub fn adam_step(step: &AdamStep, clip: Option<&Tensor>, updates: &mut [AdamUpdate]) -> Result<()> {
    let new = updates.iter().map(|u| adam(step, clip, u)).collect::<Result<Vec<_>>>()?;
    for (update, new) in updates.iter_mut().zip(new) {
        [*update.param, *update.mean, *update.square] = new;
    }
    Ok(())
}

/// The new parameter, mean and mean of squares.
fn adam(step: &AdamStep, clip: Option<&Tensor>, update: &AdamUpdate) -> Result<[Tensor; 3]> {
    let param = &*update.param;
    let mut g = scaled(update.grad, param, clip, step.grad_scale)?;
    let mut decayed = param.clone();
    if step.weight_decay != 0.0 {
        match step.decoupled {
            true => decayed = decayed.mul_scalar(1.0 - step.lr * step.weight_decay)?,
            false => g = g.add(&param.mul_scalar(step.weight_decay)?)?,
        }
    }
    let m = update.mean.mul_scalar(step.beta1)?.add(&g.mul_scalar(1.0 - step.beta1)?)?;
    let v = update.square.mul_scalar(step.beta2)?.add(&g.square()?.mul_scalar(1.0 - step.beta2)?)?;
    let correction = |beta: f64| 1.0 - beta.powf(step.step as f64);
    let root = v.sqrt()?.div_scalar(correction(step.beta2).sqrt())?.add_scalar(step.eps)?;
    let moved = m.div(&root)?.mul_scalar(step.lr / correction(step.beta1))?;
    Ok([decayed.sub(&moved)?, m, v])
}
