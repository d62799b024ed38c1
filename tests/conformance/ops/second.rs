//! Gradients of gradients.

use super::{Answer, Inputs, Op, Value};
use crate::format::Args;
use crate::generate::Generated;
use crate::judge::Precision;
use gradus::autograd::{Backward, grad};

pub(super) fn lookup(name: &str) -> Option<Op> {
    (name == "second_order").then_some(second_order as Op)
}

/// The gradient of `<gradient of <op(x), c>, v>` with respect to `x`.
fn second_order(i: &Inputs, a: &Args) -> Answer {
    let x = Value::leaf(i.x().value().clone());
    let mut inputs = Inputs(i.0.clone());
    inputs.0.iter_mut().filter(|(name, _)| name == "x").for_each(|(_, value)| *value = x.clone());
    let y = super::run(a.str("op"), &inputs, &a.nested("args"))?.remove(0);
    let create = Backward { create_graph: true, ..Default::default() };
    let first = grad(&dot(&y, a.int("seed_c"))?, &[&x], &create)?.remove(0);
    let direction = dot(&first, a.int("seed_v"))?;
    match direction.requires_grad() {
        true => Ok(grad(&direction, &[&x], &Backward::default())?),
        // The op is linear.
        false => Ok(vec![x.value().zeros_like()?.into()]),
    }
}

/// `<y, c>` with the generated direction `c` of a seed, which is exact in float32.
fn dot(y: &Value, seed: i64) -> gradus::tensor::Result<Value> {
    let c = super::upload(&Generated::unit(seed as u64, y.dims()).array(), Precision::F32)?;
    y.mul(&c.to_dtype(y.dtype())?.into())?.sum_all()
}
