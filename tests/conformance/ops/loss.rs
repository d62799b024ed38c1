//! Losses.

use super::elementwise::ops;
use super::{Answer, Failure, Inputs, Op, Value};
use crate::format::Args;
use gradus::autograd::{ClassLoss, Reduction};
use gradus::tensor::Tensor;

pub(super) fn lookup(name: &str) -> Option<Op> {
    ops! { name;
        "mse_loss" => |i, a| i.x().mse_loss(i.get("y"), reduction(a)?);
        "l1_loss" => |i, a| i.x().l1_loss(i.get("y"), reduction(a)?);
        "smooth_l1_loss" => |i, a| i.x().smooth_l1_loss(i.get("y"), a.f64("beta"), reduction(a)?);
        "huber_loss" => |i, a| i.x().huber_loss(i.get("y"), a.f64("delta"), reduction(a)?);
        "cross_entropy" => |i, a| i.x().cross_entropy_with(i.tensor("y"), &class_loss(i, a)?);
        "nll_loss" => |i, a| i.x().nll_loss_with(i.tensor("y"), &class_loss(i, a)?);
        "bce_loss" => |i, a| i.x().bce_loss(i.get("y"), factor(i, "weight"), reduction(a)?);
        "bce_with_logits" => |i, a| {
            let (weight, positive) = (factor(i, "weight"), factor(i, "pos_weight"));
            i.x().bce_with_logits_loss(i.get("y"), weight, positive, reduction(a)?)
        };
        "kl_div" => |i, a| match a.str("reduction") {
            "batchmean" => {
                let sum = i.x().kl_div(i.get("y"), a.bool("log_target"), Reduction::Sum)?;
                sum.div_scalar(i.x().size(0)? as f64)
            }
            _ => i.x().kl_div(i.get("y"), a.bool("log_target"), reduction(a)?),
        };
    }
}

fn reduction(args: &Args) -> Result<Reduction, Failure> {
    match args.str("reduction") {
        "none" => Ok(Reduction::None),
        "mean" => Ok(Reduction::Mean),
        "sum" => Ok(Reduction::Sum),
        other => Err(Failure::NotCovered(format!("reduction {other}"))),
    }
}

fn factor<'a>(inputs: &'a Inputs, name: &str) -> Option<&'a Tensor> {
    inputs.opt(name).map(Value::value)
}

fn class_loss(i: &Inputs, a: &Args) -> Result<ClassLoss, Failure> {
    Ok(ClassLoss {
        weight: factor(i, "weight").cloned(),
        ignore_index: a.opt_int("ignore_index").unwrap_or(-100),
        label_smoothing: a.opt_f64("label_smoothing").unwrap_or(0.0),
        reduction: reduction(a)?,
    })
}
