//! Views, joins, padding and constructors.

use super::elementwise::ops;
use super::{Answer, Failure, Inputs, Op, Value, dim, signed, sizes};
use crate::device::device;
use crate::format::Args;
use gradus::tensor::{DType, Tensor};

pub(super) fn lookup(name: &str) -> Option<Op> {
    ops! { name;
        "transpose" => |i, a| i.x().transpose(dim(a, "dim0"), dim(a, "dim1"));
        "permute" => |i, a| i.x().permute(signed(&a.ints("dims")));
        "reshape" => |i, a| i.x().view(signed(&a.ints("shape")));
        "flatten" => |i, a| i.x().flatten_range(dim(a, "start"), dim(a, "end"));
        "expand" => |i, a| i.x().expand(signed(&a.ints("shape")));
        "squeeze" => |i, a| match a.opt_int("dim") {
            Some(dim) => i.x().squeeze(dim as isize),
            None => i.x().squeeze_all(),
        };
        "unsqueeze" => |i, a| i.x().unsqueeze(dim(a, "dim"));
        "flip" => |i, a| i.x().flip(signed(&a.ints("dims")));
        "narrow" => |i, a| {
            i.x().narrow(dim(a, "dim"), usize::try_from(a.int("start"))?, usize::try_from(a.int("length"))?)
        };
        "select" => |i, a| i.x().select(dim(a, "dim"), dim(a, "index"));
        "slice" => |i, a| {
            let bound = |key| a.opt_int(key).map(|i| i as isize);
            i.x().slice(dim(a, "dim"), bound("start"), bound("end"), usize::try_from(a.int("step"))?)
        };
        "pad" => |i, a| pad(i.x(), a);
        "roll" => |i, a| i.x().roll(&signed(&a.ints("shifts")), &signed(&a.ints("dims")));
        "repeat" => |i, a| i.x().repeat(&sizes(&a.ints("repeats"))?);
        "tril" => |i, a| i.x().tril(a.int("diagonal"));
        "triu" => |i, a| i.x().triu(a.int("diagonal"));
        "cat" => |i, a| Value::cat(&i.numbered("x"), dim(a, "dim"));
        "stack" => |i, a| Value::stack(&i.numbered("x"), dim(a, "dim"));
        "arange" => |_i, a| {
            Tensor::arange(a.f64("start"), a.f64("end"), a.f64("step"), (DType::F64, device()))
        };
        "linspace" => |_i, a| {
            let steps = usize::try_from(a.int("steps"))?;
            Tensor::linspace(a.f64("start"), a.f64("end"), steps, (DType::F64, device()))
        };
        "eye" => |_i, a| {
            let (n, m) = (usize::try_from(a.int("n"))?, usize::try_from(a.int("m"))?);
            Tensor::eye(n, m, (DType::F64, device()))
        };
        "full" => |_i, a| {
            let shape = sizes(&a.ints("shape"))?;
            Tensor::full(shape, a.f64("value"), (DType::F64, device()))
        };
    }
    .or_else(|| lists(name))
}

/// Ops that return a list.
fn lists(name: &str) -> Option<Op> {
    match name {
        "split" => Some(|i, a| {
            let (given, dim) = (sizes(&a.ints("sizes"))?, dim(a, "dim"));
            let single = a.opt_int("sizes").is_some();
            Ok(if single { i.x().split(given[0], dim)? } else { i.x().split_sizes(&given, dim)? })
        }),
        "chunk" => Some(|i, a| Ok(i.x().chunk(usize::try_from(a.int("chunks"))?, dim(a, "dim"))?)),
        _ => None,
    }
}

fn pad(x: &Value, args: &Args) -> Result<Value, Failure> {
    match args.str("mode") {
        "constant" => Ok(x.pad(&signed(&args.ints("pads")), args.f64("value"))?),
        mode => Err(Failure::NotCovered(format!("pad {mode}"))),
    }
}
