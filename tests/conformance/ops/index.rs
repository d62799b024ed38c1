//! Indexing and sorting.

use super::elementwise::ops;
use super::{Answer, Failure, Inputs, Op, Value, dim};
use crate::format::Args;

pub(super) fn lookup(name: &str) -> Option<Op> {
    ops! { name;
        "gather" => |i, a| i.x().gather(dim(a, "dim"), i.tensor("index"));
        "index_select" => |i, a| i.x().index_select(dim(a, "dim"), i.tensor("index"));
        "scatter" => |i, a| i.x().scatter(dim(a, "dim"), i.tensor("index"), i.get("src"));
        "scatter_add" => |i, a| i.x().scatter_add(dim(a, "dim"), i.tensor("index"), i.get("src"));
        "index_add" => |i, a| i.x().index_add(dim(a, "dim"), i.tensor("index"), i.get("src"));
        "masked_fill" => |i, a| i.x().masked_fill(i.tensor("mask"), a.f64("value"));
        "masked_select" => |i, _a| i.x().masked_select(i.tensor("mask"));
        "argsort" => |i, a| i.tensor("x").argsort(dim(a, "dim"), a.bool("descending"));
        "one_hot" => |i, a| i.tensor("x").one_hot(usize::try_from(a.int("num_classes"))?);
        "nonzero" => |i, _a| i.tensor("x").nonzero();
        "embedding" => |i, a| {
            let padding = a.opt_int("padding_idx").map(usize::try_from).transpose()?;
            i.get("weight").embedding(i.tensor("index"), padding)
        };
    }
    .or_else(|| pairs(name))
}

/// Ops that return values and indices.
fn pairs(name: &str) -> Option<Op> {
    match name {
        "sort" => Some(|i, a| {
            let (values, indices) = i.x().sort(dim(a, "dim"), a.bool("descending"))?;
            Ok(vec![values, indices.into()])
        }),
        "topk" => Some(|i, a| {
            let k = usize::try_from(a.int("k")).map_err(Failure::from)?;
            let (values, indices) = i.x().topk(k, dim(a, "dim"), a.bool("largest"))?;
            Ok(vec![values, indices.into()])
        }),
        _ => None,
    }
}
