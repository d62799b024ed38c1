//! Reductions, scans, softmax and products of matrices.

use super::elementwise::ops;
use super::{Answer, Inputs, Op, Value, dim, signed};
use crate::format::Args;
use gradus::tensor::Dims;

/// The dims of a reduction: all of them when the record says null.
fn dims(args: &Args) -> Dims {
    args.opt_ints("dim").map_or(Dims::ALL, |dims| signed(&dims).into())
}

pub(super) fn lookup(name: &str) -> Option<Op> {
    ops! { name;
        "sum" => |i, a| i.x().sum(dims(a), a.bool("keepdim"));
        "mean" => |i, a| i.x().mean(dims(a), a.bool("keepdim"));
        "prod" => |i, a| i.x().prod(dims(a), a.bool("keepdim"));
        "amax" => |i, a| i.x().amax(dims(a), a.bool("keepdim"));
        "amin" => |i, a| i.x().amin(dims(a), a.bool("keepdim"));
        "any" => |i, a| i.tensor("x").any(dims(a), a.bool("keepdim"));
        "all" => |i, a| i.tensor("x").all(dims(a), a.bool("keepdim"));
        "logsumexp" => |i, a| i.x().logsumexp(dims(a), a.bool("keepdim"));
        "norm" => |i, a| i.x().norm(a.f64("p"), dims(a), a.bool("keepdim"));
        "var" => |i, a| i.x().var(dims(a), usize::try_from(a.int("correction"))?, a.bool("keepdim"));
        "std" => |i, a| i.x().std(dims(a), usize::try_from(a.int("correction"))?, a.bool("keepdim"));
        "cumsum" => |i, a| i.x().cumsum(dim(a, "dim"));
        "cumprod" => |i, a| i.x().cumprod(dim(a, "dim"));
        "logcumsumexp" => |i, a| i.x().logcumsumexp(dim(a, "dim"));
        "softmax" => |i, a| i.x().softmax(dim(a, "dim"));
        "log_softmax" => |i, a| i.x().log_softmax(dim(a, "dim"));
        "matmul" => |i, _a| i.x().matmul(i.get("y"));
        "linear" => |i, _a| i.x().linear(i.get("weight"), i.opt("bias"));
        "argmax" => |i, a| match a.opt_int("dim") {
            Some(dim) => i.tensor("x").argmax(dim as isize, a.bool("keepdim")),
            None => i.tensor("x").flatten(0)?.argmax(0, false),
        };
        "argmin" => |i, a| match a.opt_int("dim") {
            Some(dim) => i.tensor("x").argmin(dim as isize, a.bool("keepdim")),
            None => i.tensor("x").flatten(0)?.argmin(0, false),
        };
    }
    .or_else(|| pairs(name))
}

/// Reductions to values and indices.
fn pairs(name: &str) -> Option<Op> {
    match name {
        "max_dim" => Some(|i, a| {
            let (values, indices) = i.x().max(dim(a, "dim"), a.bool("keepdim"))?;
            Ok(vec![values, indices.into()])
        }),
        "min_dim" => Some(|i, a| {
            let (values, indices) = i.x().min(dim(a, "dim"), a.bool("keepdim"))?;
            Ok(vec![values, indices.into()])
        }),
        "cummax" => Some(|i, a| {
            let (values, indices) = i.x().cummax(dim(a, "dim"))?;
            Ok(vec![values, indices.into()])
        }),
        "cummin" => Some(|i, a| {
            let (values, indices) = i.x().cummin(dim(a, "dim"))?;
            Ok(vec![values, indices.into()])
        }),
        _ => None,
    }
}
