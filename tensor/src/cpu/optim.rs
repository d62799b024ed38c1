//! Optimizer steps in one pass over memory, in place where nobody else sees the state, of many parameters in one region.
//!
//! The operations and their order are those of the composed form, so that the two agree to the last bit.

#[cfg(test)]
mod tests;

use crate::backend::{AdamStep, AdamUpdate, SgdStep, SgdUpdate};
use crate::cpu::copy::copy;
use crate::cpu::isa::isa;
use crate::cpu::reduce::contiguous;
use crate::cpu::storage::{elements, filled_shape, memory_mut};
use crate::cpu::threads::{SharedMut, parallel_for};
use crate::cpu::walk::GRAIN;
use crate::cpu::wide::{WideFloat, dispatch};
use crate::{DType, Result, Scalar, Tensor, composed};
use std::ops::Range;

/// Puts a row-major copy in place of a tensor that others see.
fn own(x: &mut Tensor) -> Result<()> {
    if !x.layout().is_contiguous() || x.storage_mut().is_none() {
        *x = copy(x, x.dtype())?;
    }
    Ok(())
}

/// The elements of a tensor that [`own`] went over.
fn owned_elements<A: Scalar>(x: &mut Tensor) -> SharedMut<'_, A> {
    let (offset, n) = (x.layout().offset(), x.numel());
    let all = memory_mut::<A>(x).expect("the tensor was just found to be alone");
    // The offset of a view without elements may lie behind the end.
    SharedMut::new(all.get_mut(offset..offset + n).unwrap_or_default())
}

/// A gradient as the kernels read it.
fn prepared<A: Scalar>(grad: &Tensor) -> Result<Tensor> {
    contiguous(&grad.to_dtype(A::DTYPE)?)
}

/// What gradients are multiplied by, one after the other: the factor that clips them, and that of the step.
fn factors<A: WideFloat>(clip: Option<&Tensor>, scale: f64) -> Result<[A; 2]> {
    let clip = clip.map_or(Ok(1.0), Tensor::item)?;
    Ok([clip, scale].map(A::splat))
}

/// Several tensors cut into tasks: a stretch of one tensor each.
struct Stretches(Vec<(usize, Range<usize>)>);

impl Stretches {
    /// Of tensors with these numbers of elements.
    fn new(lens: impl Iterator<Item = usize>) -> Stretches {
        let cut = |(tensor, len): (usize, usize)| {
            let stretch = move |start| (tensor, start..len.min(start + GRAIN));
            (0..len).step_by(GRAIN).map(stretch)
        };
        Stretches(lens.enumerate().flat_map(cut).collect())
    }

    /// Calls `f(stretch, tensor, range)` for each, on all threads if they are worth waking.
    fn parallel(&self, f: impl Fn(usize, usize, Range<usize>) + Sync) {
        let f = |i: usize| {
            let (tensor, range) = &self.0[i];
            f(i, *tensor, range.clone());
        };
        let elements: usize = self.0.iter().map(|(_, range)| range.len()).sum();
        match elements <= GRAIN {
            true => (0..self.0.len()).for_each(f),
            false => parallel_for(self.0.len(), f),
        }
    }
}

/// One SGD step: new parameters and momenta.
pub(crate) fn sgd_step(step: &SgdStep, clip: Option<&Tensor>, updates: &mut [SgdUpdate]) -> Result<()> {
    match updates.first().map(|u| u.param.dtype()) {
        Some(DType::F32) => sgd::<f32>(step, clip, updates),
        Some(DType::F64) => sgd::<f64>(step, clip, updates),
        _ => composed::sgd_step(step, clip, updates),
    }
}

fn sgd<A: WideFloat>(step: &SgdStep, clip: Option<&Tensor>, updates: &mut [SgdUpdate]) -> Result<()> {
    let scales = factors::<A>(clip, step.grad_scale)?;
    let grads = updates.iter().map(|u| prepared::<A>(u.grad)).collect::<Result<Vec<_>>>()?;
    for update in &mut *updates {
        own(update.param)?;
        update.momentum.as_deref_mut().map_or(Ok(()), own)?;
    }
    let stretches = Stretches::new(grads.iter().map(Tensor::numel));
    let state = updates.iter_mut().zip(&grads).map(|(update, grad)| {
        let momentum = update.momentum.as_deref_mut().map(owned_elements::<A>);
        (owned_elements::<A>(update.param), elements::<A>(grad), momentum)
    });
    let (state, isa): (Vec<_>, _) = (state.collect(), isa());
    stretches.parallel(|_, tensor, at| {
        let (p, g, m) = &state[tensor];
        // SAFETY: each stretch belongs to one task.
        let (p, m) = unsafe { (p.slice(at.clone()), m.as_ref().map(|m| m.slice(at.clone()))) };
        match m {
            Some(m) => momentum_stretch(isa, step, scales, p, &g[at], m),
            None => sgd_stretch(isa, step, scales, p, &g[at]),
        }
    });
    Ok(())
}

dispatch! {
    /// `p -= lr · (g + decay · p)`.
    fn sgd_stretch<A: WideFloat>(step: &SgdStep, scales: [A; 2], p: &mut [A], g: &[A]) {
        let [lr, decay] = [step.lr, step.weight_decay].map(A::splat);
        let decays = step.weight_decay != 0.0;
        for (p, &g) in p.iter_mut().zip(g) {
            let g = g * scales[0] * scales[1];
            let g = if decays { g + *p * decay } else { g };
            *p = *p - g * lr;
        }
    }
}

dispatch! {
    /// `m = momentum · m + (1 - dampening) · g`, and `p -= lr · m`, or `lr · (g + momentum · m)` with Nesterov's.
    fn momentum_stretch<A: WideFloat>(step: &SgdStep, scales: [A; 2], p: &mut [A], g: &[A], m: &mut [A]) {
        let [lr, decay] = [step.lr, step.weight_decay].map(A::splat);
        let [factor, share] = [step.momentum, 1.0 - step.dampening].map(A::splat);
        let decays = step.weight_decay != 0.0;
        for ((p, &g), m) in p.iter_mut().zip(g).zip(m) {
            let g = g * scales[0] * scales[1];
            let g = if decays { g + *p * decay } else { g };
            *m = if step.first { g } else { *m * factor + g * share };
            let direction = if step.nesterov { g + *m * factor } else { *m };
            *p = *p - direction * lr;
        }
    }
}

/// One Adam or AdamW step: new parameters, means of gradients and means of squared gradients.
pub(crate) fn adam_step(step: &AdamStep, clip: Option<&Tensor>, updates: &mut [AdamUpdate]) -> Result<()> {
    match updates.first().map(|u| u.param.dtype()) {
        Some(DType::F32) => adam::<f32>(step, clip, updates),
        Some(DType::F64) => adam::<f64>(step, clip, updates),
        _ => composed::adam_step(step, clip, updates),
    }
}

fn adam<A: WideFloat>(step: &AdamStep, clip: Option<&Tensor>, updates: &mut [AdamUpdate]) -> Result<()> {
    let scales = factors::<A>(clip, step.grad_scale)?;
    let grads = updates.iter().map(|u| prepared::<A>(u.grad)).collect::<Result<Vec<_>>>()?;
    for update in &mut *updates {
        own(update.param)?;
        own(update.mean)?;
        own(update.square)?;
    }
    let stretches = Stretches::new(grads.iter().map(Tensor::numel));
    let state = updates.iter_mut().zip(&grads).map(|(update, grad)| {
        let AdamUpdate { param, mean, square, .. } = update;
        ([&mut **param, mean, square].map(owned_elements::<A>), elements::<A>(grad))
    });
    let (state, isa): (Vec<_>, _) = (state.collect(), isa());
    stretches.parallel(|_, tensor, at| {
        let (owned, g) = &state[tensor];
        // SAFETY: each stretch belongs to one task.
        let [p, m, v] = owned.each_ref().map(|x| unsafe { x.slice(at.clone()) });
        adam_stretch(isa, step, scales, p, &g[at], m, v);
    });
    Ok(())
}

dispatch! {
    /// `m` and `v` decay towards `g` and `g²`; `p -= lr / c1 · m / (√v / √c2 + eps)` with the corrections `c = 1 - βᵗ`.
    fn adam_stretch<A: WideFloat>(
        step: &AdamStep, scales: [A; 2], p: &mut [A], g: &[A], m: &mut [A], v: &mut [A]
    ) {
        let correction = |beta: f64| 1.0 - beta.powf(step.step as f64);
        let [decay, eps] = [step.weight_decay, step.eps].map(A::splat);
        let [b1, c1, b2, c2] = [step.beta1, 1.0 - step.beta1, step.beta2, 1.0 - step.beta2].map(A::splat);
        let root_correction = A::splat(correction(step.beta2).sqrt());
        let lr = A::splat(step.lr / correction(step.beta1));
        let shrink = A::splat(1.0 - step.lr * step.weight_decay);
        let (decays, decoupled) = (step.weight_decay != 0.0, step.decoupled);
        let n = p.len();
        let (g, m, v) = (&g[..n], &mut m[..n], &mut v[..n]);
        for i in 0..n {
            let (mut x, mut d) = (p[i], g[i] * scales[0] * scales[1]);
            if decays && decoupled {
                x = x * shrink;
            } else if decays {
                d = d + x * decay;
            }
            m[i] = m[i] * b1 + d * c1;
            v[i] = v[i] * b2 + d * d * c2;
            let root = v[i].sqrt() / root_correction + eps;
            p[i] = x - m[i] / root * lr;
        }
    }
}

/// The 2-norm of each tensor. Squares are summed in double precision, where those of `f32` are exact and do not overflow.
pub(crate) fn norms(tensors: &[&Tensor]) -> Result<Tensor> {
    match tensors.first().map(|x| x.dtype()) {
        Some(DType::F32) => norms_of::<f32>(tensors),
        Some(DType::F64) => norms_of::<f64>(tensors),
        _ => composed::norms(tensors),
    }
}

fn norms_of<A: WideFloat>(tensors: &[&Tensor]) -> Result<Tensor> {
    let tensors = tensors.iter().map(|x| contiguous(x)).collect::<Result<Vec<_>>>()?;
    let stretches = Stretches::new(tensors.iter().map(Tensor::numel));
    let (mut partial, isa) = (vec![0.0; stretches.0.len()], isa());
    let shared = SharedMut::new(&mut partial);
    stretches.parallel(|stretch, tensor, at| {
        // SAFETY: each place belongs to one task.
        let partial = unsafe { &mut shared.slice(stretch..stretch + 1)[0] };
        *partial = squares(isa, &elements::<A>(&tensors[tensor])[at]);
    });
    let mut sums = vec![0.0; tensors.len()];
    for ((tensor, _), partial) in stretches.0.iter().zip(partial) {
        sums[*tensor] += partial;
    }
    filled_shape::<A>([sums.len()].into(), |y| {
        y.iter_mut().zip(sums).for_each(|(y, sum)| *y = A::splat(sum.sqrt()));
        Ok(())
    })
}

dispatch! {
    /// `Σx²`, in sixteen sums that are added in the end.
    fn squares<A: WideFloat>(x: &[A]) -> f64 {
        let mut sums = [0.0; 16];
        let (blocks, rest) = x.as_chunks::<16>();
        for block in blocks {
            for (sum, x) in sums.iter_mut().zip(block) {
                *sum += x.to_f64() * x.to_f64();
            }
        }
        sums.iter().sum::<f64>() + rest.iter().map(|x| x.to_f64() * x.to_f64()).sum::<f64>()
    }
}
