//! Cross-entropy made of other ops.

use crate::backend::{CrossEntropy, Reduction};
use crate::op::CompareOp;
use crate::{DType, Error, Result, Tensor};

/// The error of a class that the input does not have.
pub(crate) fn out_of_range(class: i64, classes: usize) -> Error {
    let message = format!("class {class} is out of range: the input has {classes} classes");
    Error::argument("cross_entropy", message)
}

/// With `p = softmax(x)`, the class `t` of a row, the factor `w[t]` of that class and the share `ε` of label smoothing:
/// `-(1 - ε) · w[t] · log p[t] - ε/c · Σ w · log p`, and if asked for the gradient in `x`.
pub fn cross_entropy(
    x: &Tensor,
    target: &Tensor,
    options: &CrossEntropy,
    gradient: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let (classes, wide) = (x.dims()[1], x.dtype().accumulator());
    let counts = target.compare_scalar(CompareOp::Ne, options.ignore_index)?;
    let ignored = counts.logical_not()?;
    let class = target.masked_fill(&ignored, 0)?;
    if target.numel() > 0 && counts.any(.., false)?.to_scalar::<bool>()? {
        let (low, high) = (class.amin(.., false)?.to_scalar()?, class.amax(.., false)?.to_scalar()?);
        if low < 0 || high >= classes as i64 {
            return Err(out_of_range(if low < 0 { low } else { high }, classes));
        }
    }
    let mut along = vec![1; x.rank()];
    along[1] = classes;
    let weight = match options.weight {
        Some(w) => w.to_dtype(wide)?.reshape(along.clone())?,
        None => Tensor::ones(along.clone(), (wide, x.device()))?,
    };
    let log_p = x.to_dtype(wide)?.log_softmax(1)?;
    // `[n, c, …]`: 1 at the class of each row that counts.
    let classes_along = Tensor::arange(0, classes as i64, 1, (DType::I64, x.device()))?.reshape(along)?;
    let hit = classes_along.eq(&class.unsqueeze(1)?)?.logical_and(&counts.unsqueeze(1)?)?;
    let own = hit.to_dtype(wide)?.mul(&weight)?;
    let factor = own.sum(1, false)?;
    let zero = Tensor::zeros((), (wide, x.device()))?;
    let picked = hit.select_from(&log_p, &zero)?.sum(1, false)?.mul(&factor)?;
    let spread = log_p.mul(&weight)?.sum(1, false)?.mul_scalar(options.label_smoothing / classes as f64)?;
    let mut losses = picked.mul_scalar(1.0 - options.label_smoothing)?;
    if options.label_smoothing > 0.0 {
        losses = losses.add(&spread)?;
    }
    let losses = losses.neg()?.masked_fill(&ignored, 0)?;
    let total = factor.sum_all()?;
    let loss = match options.reduction {
        Reduction::None => losses,
        Reduction::Sum => losses.sum_all()?,
        Reduction::Mean => losses.sum_all()?.div(&total)?,
    };
    if !gradient {
        return Ok((loss.to_dtype(x.dtype())?, None));
    }
    // `p · Σ mass - mass`, where `mass` is what each log p is multiplied by.
    let mass = own
        .mul_scalar(1.0 - options.label_smoothing)?
        .add(&weight.mul_scalar(options.label_smoothing / classes as f64)?)?;
    let dx = log_p.exp()?.mul(&mass.sum(1, true)?)?.sub(&mass)?;
    let dx = if options.reduction == Reduction::Mean { dx.div(&total)? } else { dx };
    let dx = dx.masked_fill(&ignored.unsqueeze(1)?, 0)?;
    Ok((loss.to_dtype(x.dtype())?, Some(dx.to_dtype(x.dtype())?)))
}
