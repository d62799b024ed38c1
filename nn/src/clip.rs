//! Clipping of gradients, between `backward` and the optimizer's step.

use crate::Module;
use crate::grouped::grouped;
use autograd::{Gradients, Var};
use tensor::op::BinaryOp;
use tensor::{DType, Device, Error, ErrorKind, Result, Tensor};

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
/// When a bound or the type of norm makes no sense, or there is no memory; no gradient is changed then.
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

/// What messages call it.
const OP: &str = "clip_grad_norm";

fn clip<M: Module + ?Sized>(
    gradients: &mut Gradients,
    model: &M,
    max_norm: f64,
    norm_type: f64,
    finite: bool,
) -> Result<f64> {
    check(max_norm, norm_type)?;
    let mut found: Vec<(String, Var, Tensor)> = vec![];
    for (name, param) in model.params() {
        let leaf = param.leaf();
        if let Some(gradient) = gradients.find(&leaf).filter(|g| g.numel() > 0) {
            let gradient = gradient.value().clone();
            found.push((name, leaf, gradient));
        }
    }
    let total = norm(found.iter().map(|(_, _, gradient)| gradient), norm_type)?;
    if finite && !total.is_finite() {
        return Err(not_finite(&found, total, norm_type)?);
    }
    let scale = max_norm / (total + 1e-6);
    if scale >= 1.0 {
        return Ok(total);
    }
    scale_all(gradients, found.into_iter().map(|(_, leaf, _)| leaf).collect(), scale)?;
    Ok(total)
}

/// How a gradient is scaled.
enum Scaling {
    /// It has memory of its own and is multiplied in place by this number.
    InPlace(Tensor),
    /// Others hold it too: this takes its place.
    Replaced(Tensor),
}

/// Multiplies the gradients of some leaves. What takes memory comes first: if there is none, all of them stay as they are.
fn scale_all(gradients: &mut Gradients, leaves: Vec<Var>, scale: f64) -> Result<()> {
    let taken = leaves.into_iter().filter_map(|leaf| gradients.take(&leaf).map(|g| (leaf, g.into_value())));
    let mut taken: Vec<(Var, Tensor)> = taken.collect();
    let ways = taken.iter_mut().map(|(_, gradient)| {
        Ok(match gradient.storage_mut() {
            Some(_) => Scaling::InPlace(Tensor::full((), scale, (gradient.dtype(), gradient.device()))?),
            None => Scaling::Replaced(gradient.binary_scalar(BinaryOp::Mul, scale)?),
        })
    });
    let mut ways = ways.collect::<Result<Vec<_>>>().map(Vec::into_iter);
    for (leaf, gradient) in taken {
        let gradient = match ways.as_mut().ok().and_then(Iterator::next) {
            Some(Scaling::InPlace(scale)) => gradient.binary_into(BinaryOp::Mul, &scale)?,
            Some(Scaling::Replaced(scaled)) => scaled,
            None => gradient,
        };
        gradients.set(&leaf, gradient);
    }
    ways.map(drop)
}

/// Errors on bounds and types of norm that make no sense.
fn check(max_norm: f64, norm_type: f64) -> Result<()> {
    if max_norm.is_nan() || max_norm < 0.0 || norm_type.is_nan() || norm_type <= 0.0 {
        let message = format!("no gradient has a {norm_type}-norm of at most {max_norm}");
        return Err(Error::argument(OP, message));
    }
    Ok(())
}

/// The error that names the gradient with the largest norm.
fn not_finite(found: &[(String, Var, Tensor)], total: f64, norm_type: f64) -> Result<Error> {
    let mut norms = vec![];
    for (name, _, gradient) in found {
        norms.push((name, norm([gradient].into_iter(), norm_type)?));
    }
    // NaN counts as the largest.
    let size = |norm: f64| if norm.is_nan() { f64::INFINITY } else { norm };
    let nan_first = |a: f64, b: f64| size(a).total_cmp(&size(b)).then(a.is_nan().cmp(&b.is_nan()));
    let worst = norms.iter().max_by(|a, b| nan_first(a.1, b.1));
    let place = worst.map_or(String::new(), |(name, norm)| format!(", {norm} from {name}"));
    let message = format!("the norm of the gradients is {total}{place}");
    Ok(ErrorKind::Gradient { op: OP, message }.into())
}

/// The norm of all elements together. NaN stays.
fn norm<'a>(gradients: impl Iterator<Item = &'a Tensor>, p: f64) -> Result<f64> {
    if p == 2.0 {
        return norm_of_all(gradients)?.item();
    }
    let norms = gradients.map(|g| g.norm(p, .., false)?.item()).collect::<Result<Vec<f64>>>()?;
    Ok(match p {
        f64::INFINITY => norms.into_iter().fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a }),
        p => norms.into_iter().map(|n| n.powf(p)).sum::<f64>().powf(1.0 / p),
    })
}

/// The 2-norm of all elements together, `[]` of `f64`, on the device of the first.
fn norm_of_all<'a>(gradients: impl Iterator<Item = &'a Tensor>) -> Result<Tensor> {
    let mut norms: Vec<Tensor> = vec![];
    for ((_, device), group) in grouped(gradients.map(|g| ((g.dtype(), g.device().clone()), g))) {
        let of_group = device.backend().norms(&group)?.to_dtype(DType::F64)?;
        norms.push(of_group.to_device(norms.first().map_or(&device, Tensor::device))?);
    }
    match norms.is_empty() {
        true => Tensor::zeros((), (DType::F64, &Device::cpu())),
        false => Tensor::cat(&norms, 0)?.norm(2.0, .., false),
    }
}

/// The 2-norm of all elements together, and the factor that [`clip_grad_norm`] multiplies by, or 1: both `[]` of `f64`, on the
/// device of the first.
pub(crate) fn by_norm<'a>(
    gradients: impl Iterator<Item = &'a Tensor>,
    max_norm: f64,
) -> Result<(Tensor, Tensor)> {
    check(max_norm, 2.0)?;
    let total = norm_of_all(gradients)?;
    let bound = Tensor::full((), max_norm, (DType::F64, total.device()))?;
    let factor = bound.div(&total.add_scalar(1e-6)?)?.clamp(None, Some(1.0))?;
    Ok((total, factor))
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
