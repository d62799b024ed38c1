//! Optimizer steps in one pass over memory, in place where nobody else sees the state.
//!
//! The operations and their order are those of the composed form, so that the two agree to the last bit.

use crate::backend::{AdamStep, SgdStep};
use crate::cpu::copy::copy;
use crate::cpu::isa::isa;
use crate::cpu::reduce::contiguous;
use crate::cpu::storage::{elements, memory_mut};
use crate::cpu::threads::{SharedMut, parallel_for};
use crate::cpu::walk::GRAIN;
use crate::cpu::wide::{WideFloat, dispatch};
use crate::{DType, Result, Scalar, Tensor, composed};

/// Puts a row-major copy in place of a tensor that others see.
fn own(x: &mut Tensor) -> Result<()> {
    if !x.layout().is_contiguous() || x.storage_mut().is_none() {
        *x = copy(x, x.dtype())?;
    }
    Ok(())
}

/// The elements of a tensor that [`own`] went over.
fn owned_elements<A: Scalar>(x: &mut Tensor) -> &mut [A] {
    let (offset, n) = (x.layout().offset(), x.numel());
    let all = memory_mut::<A>(x).expect("the tensor was just found to be alone");
    // The offset of a view without elements may lie behind the end.
    all.get_mut(offset..offset + n).unwrap_or_default()
}

/// One SGD step: the new parameter and momentum.
pub(crate) fn sgd_step(
    step: &SgdStep,
    param: &mut Tensor,
    grad: &Tensor,
    momentum: Option<&mut Tensor>,
) -> Result<()> {
    match param.dtype() {
        DType::F32 => sgd::<f32>(step, param, grad, momentum),
        DType::F64 => sgd::<f64>(step, param, grad, momentum),
        _ => composed::sgd_step(step, param, grad, momentum),
    }
}

fn sgd<A: WideFloat>(
    step: &SgdStep,
    param: &mut Tensor,
    grad: &Tensor,
    momentum: Option<&mut Tensor>,
) -> Result<()> {
    let grad = contiguous(&grad.to_dtype(A::DTYPE)?)?;
    own(param)?;
    let momentum = match momentum {
        Some(m) => {
            own(m)?;
            Some(m)
        }
        None => None,
    };
    let isa = isa();
    {
        let g = elements::<A>(&grad);
        let p = SharedMut::new(owned_elements::<A>(param));
        let m = momentum.map(|m| SharedMut::new(owned_elements::<A>(m)));
        parallel_for(g.len().div_ceil(GRAIN), |task| {
            let at = task * GRAIN..g.len().min((task + 1) * GRAIN);
            // SAFETY: each stretch belongs to one task.
            let (p, m) = unsafe { (p.slice(at.clone()), m.as_ref().map(|m| m.slice(at.clone()))) };
            match m {
                Some(m) => momentum_stretch(isa, step, p, &g[at], m),
                None => sgd_stretch(isa, step, p, &g[at]),
            }
        });
    }
    Ok(())
}

dispatch! {
    /// `p -= lr · (g + decay · p)`.
    fn sgd_stretch<A: WideFloat>(step: &SgdStep, p: &mut [A], g: &[A]) {
        let [lr, decay, scale] = [step.lr, step.weight_decay, step.grad_scale].map(A::splat);
        let decays = step.weight_decay != 0.0;
        for (p, &g) in p.iter_mut().zip(g) {
            let g = g * scale;
            let g = if decays { g + *p * decay } else { g };
            *p = *p - g * lr;
        }
    }
}

dispatch! {
    /// `m = momentum · m + (1 - dampening) · g`, and `p -= lr · m`, or `lr · (g + momentum · m)` with Nesterov's.
    fn momentum_stretch<A: WideFloat>(step: &SgdStep, p: &mut [A], g: &[A], m: &mut [A]) {
        let [lr, decay, scale] = [step.lr, step.weight_decay, step.grad_scale].map(A::splat);
        let [factor, share] = [step.momentum, 1.0 - step.dampening].map(A::splat);
        let decays = step.weight_decay != 0.0;
        for ((p, &g), m) in p.iter_mut().zip(g).zip(m) {
            let g = g * scale;
            let g = if decays { g + *p * decay } else { g };
            *m = if step.first { g } else { *m * factor + g * share };
            let direction = if step.nesterov { g + *m * factor } else { *m };
            *p = *p - direction * lr;
        }
    }
}

/// One Adam or AdamW step: the new parameter, mean of gradients and mean of squared gradients.
pub(crate) fn adam_step(
    step: &AdamStep,
    param: &mut Tensor,
    grad: &Tensor,
    mean: &mut Tensor,
    square: &mut Tensor,
) -> Result<()> {
    match param.dtype() {
        DType::F32 => adam::<f32>(step, param, grad, mean, square),
        DType::F64 => adam::<f64>(step, param, grad, mean, square),
        _ => composed::adam_step(step, param, grad, mean, square),
    }
}

fn adam<A: WideFloat>(
    step: &AdamStep,
    param: &mut Tensor,
    grad: &Tensor,
    mean: &mut Tensor,
    square: &mut Tensor,
) -> Result<()> {
    let grad = contiguous(&grad.to_dtype(A::DTYPE)?)?;
    own(param)?;
    own(mean)?;
    own(square)?;
    let isa = isa();
    {
        let g = elements::<A>(&grad);
        let [p, m, v] = [param, mean, square].map(|t| SharedMut::new(owned_elements::<A>(t)));
        parallel_for(g.len().div_ceil(GRAIN), |task| {
            let at = task * GRAIN..g.len().min((task + 1) * GRAIN);
            // SAFETY: each stretch belongs to one task.
            let (p, m, v) = unsafe { (p.slice(at.clone()), m.slice(at.clone()), v.slice(at.clone())) };
            adam_stretch(isa, step, p, &g[at], m, v);
        });
    }
    Ok(())
}

dispatch! {
    /// `m` and `v` decay towards `g` and `g²`; `p -= lr / c1 · m / (√v / √c2 + eps)` with the corrections `c = 1 - βᵗ`.
    fn adam_stretch<A: WideFloat>(step: &AdamStep, p: &mut [A], g: &[A], m: &mut [A], v: &mut [A]) {
        let correction = |beta: f64| 1.0 - beta.powf(step.step as f64);
        let [scale, decay, eps] = [step.grad_scale, step.weight_decay, step.eps].map(A::splat);
        let [b1, c1, b2, c2] = [step.beta1, 1.0 - step.beta1, step.beta2, 1.0 - step.beta2].map(A::splat);
        let root_correction = A::splat(correction(step.beta2).sqrt());
        let lr = A::splat(step.lr / correction(step.beta1));
        let shrink = A::splat(1.0 - step.lr * step.weight_decay);
        let (decays, decoupled) = (step.weight_decay != 0.0, step.decoupled);
        let n = p.len();
        let (g, m, v) = (&g[..n], &mut m[..n], &mut v[..n]);
        for i in 0..n {
            let (mut x, mut d) = (p[i], g[i] * scale);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;

    fn randn(n: usize, dtype: DType) -> Result<Tensor> {
        Tensor::randn([n], (dtype, &Device::cpu()))
    }

    #[test]
    fn sgd_equals_its_composed_form_bit_for_bit() -> Result<()> {
        let plain = SgdStep {
            lr: 0.1,
            momentum: 0.9,
            dampening: 0.0,
            weight_decay: 0.0,
            nesterov: false,
            first: false,
            grad_scale: 1.0,
        };
        let steps = [
            plain,
            SgdStep { first: true, weight_decay: 0.01, ..plain },
            SgdStep { nesterov: true, grad_scale: 0.3, ..plain },
            SgdStep { dampening: 0.5, weight_decay: 0.1, ..plain },
        ];
        for (step, dtype) in steps.iter().flat_map(|s| [(s, DType::F32), (s, DType::F64), (s, DType::BF16)]) {
            for n in [0, 1, 37, 40_000] {
                let (p, g, m) = (randn(n, dtype)?, randn(n, dtype)?, randn(n, dtype)?);
                for m in [None, Some(m)] {
                    let (mut expected, mut expected_m) = (p.clone(), m.clone());
                    composed::sgd_step(step, &mut expected, &g, expected_m.as_mut())?;
                    let (mut y, mut y_m) = (p.copy()?, m.clone());
                    sgd_step(step, &mut y, &g, y_m.as_mut())?;
                    assert!(y.all_close(&expected, 0.0, 0.0)?, "{step:?} {dtype}");
                    if let (Some(a), Some(b)) = (y_m, expected_m) {
                        assert!(a.all_close(&b, 0.0, 0.0)?, "{step:?} {dtype}");
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn adam_equals_its_composed_form_bit_for_bit() -> Result<()> {
        let plain = AdamStep {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
            step: 3,
            grad_scale: 1.0,
        };
        let steps = [
            plain,
            AdamStep { weight_decay: 0.1, step: 1, ..plain },
            AdamStep { weight_decay: 0.1, decoupled: true, grad_scale: 0.5, ..plain },
        ];
        for (step, dtype) in steps.iter().flat_map(|s| [(s, DType::F32), (s, DType::F64), (s, DType::F16)]) {
            for n in [0, 1, 37, 40_000] {
                let (p, g, m) = (randn(n, dtype)?, randn(n, dtype)?, randn(n, dtype)?);
                let v = randn(n, dtype)?.square()?;
                let [mut p1, mut m1, mut v1] = [p.clone(), m.clone(), v.clone()];
                composed::adam_step(step, &mut p1, &g, &mut m1, &mut v1)?;
                let [mut p2, mut m2, mut v2] = [p.copy()?, m.clone(), v.clone()];
                adam_step(step, &mut p2, &g, &mut m2, &mut v2)?;
                for (a, b) in [(p2, p1), (m2, m1), (v2, v1)] {
                    assert!(a.all_close(&b, 0.0, 0.0)?, "{step:?} {dtype}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn shared_state_stays_as_it_was_and_state_of_ones_own_is_reused() -> Result<()> {
        let step = SgdStep {
            lr: 1.0,
            momentum: 0.0,
            dampening: 0.0,
            weight_decay: 0.0,
            nesterov: false,
            first: true,
            grad_scale: 1.0,
        };
        let p = Tensor::ones([4], &Device::cpu())?;
        let mut q = p.clone();
        sgd_step(&step, &mut q, &p, None)?;
        assert_eq!((p.to_vec::<f32>()?, q.to_vec::<f32>()?), (vec![1.0; 4], vec![0.0; 4]));
        let before = elements::<f32>(&q).as_ptr();
        sgd_step(&step, &mut q, &p, None)?;
        assert_eq!(elements::<f32>(&q).as_ptr(), before);
        assert_eq!(q.to_vec::<f32>()?, [-1.0; 4]);
        Ok(())
    }
}
