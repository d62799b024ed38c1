//! Cross-entropy and its gradient.

use tensor::{CrossEntropy, Error, Layout, Reduction, Result, Tensor};

use super::index::Bad;
use super::lines::{Group, countable};
use super::names::short;
use super::storage::{New, at};
use super::walk::Dims;
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};

/// The bits of `options` in `cuda/cross_entropy.cu`.
const WEIGHTED: u32 = 1;
const MEAN: u32 = 2;

/// The layout of `[n, c, …]` at the first of its classes, `[n, …]`.
fn without_classes(x: &Layout) -> Layout {
    x.slice(1, 0, 1, 1).squeeze(1)
}

/// For logits that have elements, a weight of their dtype, and a target of int64.
pub(super) fn cross_entropy(
    gpu: &'static Gpu,
    x: &Tensor,
    target: &Tensor,
    options: &CrossEntropy,
    gradient: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let (dtype, wide, classes) = (x.dtype(), x.dtype().accumulator(), x.dims()[1]);
    let lines = target.numel();
    countable("cross_entropy", &[lines, classes])?;
    let weight = options.weight.map(Tensor::contiguous).transpose()?;
    let bits = if weight.is_some() { WEIGHTED } else { 0 };
    let group = Group::of(lines, classes, x.dims()[2..].iter().product());
    let (losses, factors) =
        (New::contiguous(gpu, target.shape(), wide)?, New::contiguous(gpu, target.shape(), wide)?);
    let bad = Bad::new(gpu)?;
    let of_x = without_classes(x.layout());
    launch::cross_entropy(
        gpu,
        &format!("cross_entropy_{}", short(dtype)),
        group.launch(lines),
        Dims::of([target.layout(), &of_x], |_| true).joined().walk(),
        classes as u32,
        x.layout().strides()[1] as i64,
        group.log,
        options.ignore_index,
        options.label_smoothing,
        bits,
        losses.at(),
        factors.at(),
        at(x),
        at(target),
        weight.as_ref().map_or(Pointer::NONE, at),
        bad.at(),
    )?;
    let ignored = options.ignore_index;
    bad.check(gpu, target, move |target| {
        let outside = |&t: &i64| t != ignored && (t < 0 || t as u64 >= classes as u64);
        let class = target.to_vec::<i64>()?.into_iter().find(outside).unwrap_or(-1);
        let message = format!("class {class} is out of range: the input has {classes} classes");
        Err(Error::argument("cross_entropy", message))
    })?;
    let (losses, total) = (losses.tensor()?, factors.tensor()?.sum_all()?);
    let loss = match options.reduction {
        Reduction::None => losses,
        Reduction::Sum => losses.sum_all()?,
        Reduction::Mean => losses.sum_all()?.div(&total)?,
    }
    .to_dtype(dtype)?;
    if !gradient {
        return Ok((loss, None));
    }
    let dx = New::contiguous(gpu, x.shape(), dtype)?;
    let whole: Layout = dx.operand().layout;
    let of_dx = without_classes(&whole);
    let mean = if options.reduction == Reduction::Mean { MEAN } else { 0 };
    launch::cross_entropy_gradient(
        gpu,
        &format!("cross_entropy_gradient_{}", short(dtype)),
        group.launch(lines),
        Dims::of([&of_dx, target.layout(), &of_x], |_| true).joined().walk(),
        classes as u32,
        whole.strides()[1] as i64,
        x.layout().strides()[1] as i64,
        group.log,
        options.ignore_index,
        options.label_smoothing,
        bits | mean,
        dx.at(),
        at(x),
        at(target),
        weight.as_ref().map_or(Pointer::NONE, at),
        at(&total),
    )?;
    Ok((loss, Some(dx.tensor()?)))
}
