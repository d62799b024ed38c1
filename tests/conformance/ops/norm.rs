//! Normalisation and dropout.

use super::elementwise::ops;
use super::{Answer, Failure, Inputs, Op, Value, sizes};
use crate::format::Args;
use gradus::nn::{BatchNorm, Dropout, Forward, Init, Module};
use gradus::tensor::Tensor;

pub(super) fn lookup(name: &str) -> Option<Op> {
    ops! { name;
        "layer_norm" => |i, a| {
            i.x().layer_norm(&sizes(&a.ints("normalized_shape"))?, i.opt("weight"), i.opt("bias"), a.f64("eps"))
        };
        "rms_norm" => |i, a| i.x().rms_norm(&sizes(&a.ints("normalized_shape"))?, i.opt("weight"), a.f64("eps"));
        "group_norm" => |i, a| {
            i.x().group_norm(usize::try_from(a.int("num_groups"))?, i.opt("weight"), i.opt("bias"), a.f64("eps"))
        };
        "instance_norm" => |i, a| i.x().instance_norm(i.opt("weight"), i.opt("bias"), a.f64("eps"));
        "dropout_eval" => |i, a| {
            let dropout = Dropout::new(a.f64("p"), &mut Init::new(0))?;
            dropout.eval();
            dropout.forward(i.x())
        };
    }
    .or(match name {
        "batch_norm" => Some(batch_norm),
        _ => None,
    })
}

fn batch_norm(i: &Inputs, a: &Args) -> Answer {
    let (x, weight, bias, eps) = (i.x(), i.opt("weight"), i.opt("bias"), a.f64("eps"));
    let running = i.opt("running_mean").zip(i.opt("running_var")).map(|(m, v)| (m.value(), v.value()));
    match (a.bool("training"), running) {
        (false, Some((mean, var))) => Ok(vec![x.batch_norm_eval(mean, var, weight, bias, eps)?]),
        (false, None) => Err(Failure::Unsayable),
        (true, None) => Ok(vec![x.batch_norm_training(weight, bias, eps)?.0]),
        (true, Some((mean, var))) => {
            let y = x.batch_norm_training(weight, bias, eps)?.0;
            let [mean, var] = tracked(x.value(), mean, var, a)?;
            Ok(vec![y, mean.into(), var.into()])
        }
    }
}

/// The running statistics after a batch, which are the layer's business.
fn tracked(x: &Tensor, mean: &Tensor, var: &Tensor, a: &Args) -> Result<[Tensor; 2], Failure> {
    let mut layer = BatchNorm::new(x.size(1)?, &mut Init::new(0))?;
    layer.momentum =
        a.opt_f64("momentum").ok_or(Failure::NotCovered("batch_norm without momentum".into()))?;
    layer.to_dtype(x.dtype())?;
    layer.running_mean.set(mean.clone())?;
    layer.running_var.set(var.clone())?;
    layer.forward(&Value::from(x))?;
    Ok([layer.running_mean.value(), layer.running_var.value()])
}
