//! Clipping of gradients, between `backward` and the optimizer's step.

use crate::{Module, Param};
use autograd::Gradients;
use tensor::{Error, ErrorKind, Result};

/// Scales all gradients of a model by `max_norm / (total + 1e-6)` if that is less than 1, where `total` is the norm of
/// all their elements together; returns `total`, as it was before. `norm_type` is 2, 1, …, or infinity for the largest
/// element.
///
/// ```
/// use gradus_nn::{Param, clip_grad_norm};
/// use tensor::{Device, Tensor};
/// # fn main() -> tensor::Result<()> {
/// let w = Param::new(Tensor::from_slice(&[1.5f32, 2.], [2], &Device::cpu())?);
/// let mut grads = w.var().square()?.sum_all()?.backward()?; // [3, 4]
/// assert_eq!(clip_grad_norm(&mut grads, &w, 1.0, 2.0)?, 5.0);
/// let clipped = Tensor::from_slice(&[0.6f32, 0.8], [2], &Device::cpu())?;
/// assert!(grads.get(&w.var())?.all_close(&clipped, 1e-5, 0.0)?);
/// # Ok(()) }
/// ```
///
/// A norm that is not finite makes the gradients so, as in PyTorch; see [`clip_grad_norm_finite`].
///
/// # Errors
/// When a bound or the type of norm makes no sense.
pub fn clip_grad_norm<M: Module + ?Sized>(
    gradients: &mut Gradients,
    model: &M,
    max_norm: f64,
    norm_type: f64,
) -> Result<f64> {
    clip(gradients, model, max_norm, norm_type, false)
}

/// As [`clip_grad_norm`], but a norm that is not finite is an error.
///
/// # Errors
/// The message names the parameter whose gradient contributes most. No gradient is changed then.
pub fn clip_grad_norm_finite<M: Module + ?Sized>(
    gradients: &mut Gradients,
    model: &M,
    max_norm: f64,
    norm_type: f64,
) -> Result<f64> {
    clip(gradients, model, max_norm, norm_type, true)
}

fn clip<M: Module + ?Sized>(
    gradients: &mut Gradients,
    model: &M,
    max_norm: f64,
    norm_type: f64,
    finite: bool,
) -> Result<f64> {
    const OP: &str = "clip_grad_norm";
    if max_norm.is_nan() || max_norm < 0.0 || norm_type.is_nan() || norm_type <= 0.0 {
        let message = format!("no gradient has a {norm_type}-norm of at most {max_norm}");
        return Err(Error::argument(OP, message));
    }
    let mut norms: Vec<(String, &Param, f64)> = vec![];
    for (name, param) in model.params() {
        if let Some(gradient) = gradients.find(&param.leaf()).filter(|g| g.numel() > 0) {
            let norm = gradient.value().norm(norm_type, .., false)?.item()?;
            norms.push((name, param, norm));
        }
    }
    let total = total(norms.iter().map(|&(_, _, norm)| norm), norm_type);
    if finite && !total.is_finite() {
        // NaN counts as the largest.
        let size = |norm: f64| if norm.is_nan() { f64::INFINITY } else { norm };
        let nan_first = |a: f64, b: f64| size(a).total_cmp(&size(b)).then(a.is_nan().cmp(&b.is_nan()));
        let worst = norms.iter().max_by(|a, b| nan_first(a.2, b.2));
        let place = worst.map_or(String::new(), |(name, _, norm)| format!(", {norm} from {name}"));
        let message = format!("the norm of the gradients is {total}{place}");
        return Err(ErrorKind::Gradient { op: OP, message }.into());
    }
    let scale = max_norm / (total + 1e-6);
    if scale >= 1.0 {
        return Ok(total);
    }
    for (_, param, _) in norms {
        let leaf = param.leaf();
        if let Some(scaled) = gradients.find(&leaf).map(|g| g.value().mul_scalar(scale)).transpose()? {
            gradients.set(&leaf, scaled);
        }
    }
    Ok(total)
}

/// The norm of several norms. NaN stays.
fn total(norms: impl Iterator<Item = f64>, p: f64) -> f64 {
    match p {
        f64::INFINITY => norms.fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a }),
        2.0 => norms.map(|n| n * n).sum::<f64>().sqrt(),
        p => norms.map(|n| n.powf(p)).sum::<f64>().powf(1.0 / p),
    }
}

/// Clamps every element of the gradients of a model to `[-bound, bound]`.
///
/// # Errors
/// When the bound is negative or not a number.
pub fn clip_grad_value<M: Module + ?Sized>(gradients: &mut Gradients, model: &M, bound: f64) -> Result<()> {
    if bound.is_nan() || bound < 0.0 {
        return Err(Error::argument("clip_grad_value", format!("a bound of {bound} makes no sense")));
    }
    for (_, param) in model.params() {
        let leaf = param.leaf();
        let clamped =
            gradients.find(&leaf).map(|g| g.value().clamp(Some(-bound), Some(bound))).transpose()?;
        if let Some(clamped) = clamped {
            gradients.set(&leaf, clamped);
        }
    }
    Ok(())
}
