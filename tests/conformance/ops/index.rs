//! Indexing and sorting.

use super::elementwise::ops;
use super::{Answer, Failure, Inputs, Op, dim};
use crate::format::Args;

pub(super) fn lookup(name: &str) -> Option<Op> {
    ops! { name;
        "gather" => |i, a| i.x().gather(dim(a, "dim"), i.get("index"));
        "index_select" => |i, a| i.x().index_select(dim(a, "dim"), i.get("index"));
        "scatter" => |i, a| i.x().scatter(dim(a, "dim"), i.get("index"), i.get("src"));
        "scatter_add" => |i, a| i.x().scatter_add(dim(a, "dim"), i.get("index"), i.get("src"));
        "index_add" => |i, a| i.x().index_add(dim(a, "dim"), i.get("index"), i.get("src"));
        "masked_fill" => |i, a| i.x().masked_fill(i.get("mask"), a.f64("value"));
        "masked_select" => |i, _a| i.x().masked_select(i.get("mask"));
        "argsort" => |i, a| i.x().argsort(dim(a, "dim"), a.bool("descending"));
        "one_hot" => |i, a| i.x().one_hot(usize::try_from(a.int("num_classes"))?);
        "nonzero" => |i, _a| i.x().nonzero();
        "embedding" => |i, _a| i.get("weight").embedding(i.get("index"));
    }
    .or_else(|| pairs(name))
}

/// Ops that return values and indices.
fn pairs(name: &str) -> Option<Op> {
    match name {
        "sort" => Some(|i, a| {
            let (values, indices) = i.x().sort(dim(a, "dim"), a.bool("descending"))?;
            Ok(vec![values, indices])
        }),
        "topk" => Some(|i, a| {
            let k = usize::try_from(a.int("k")).map_err(Failure::from)?;
            let (values, indices) = i.x().topk(k, dim(a, "dim"), a.bool("largest"))?;
            Ok(vec![values, indices])
        }),
        _ => None,
    }
}
