//! Functions of one, two and three elements.

use super::{Answer, Failure, Inputs, Op, Value};
use crate::format::Args;
use tensor::DType;
use tensor::op::BinaryOp;

/// Rows `"name" => |inputs, args| result of one value`.
macro_rules! ops {
    ($name:expr; $($($op:literal)|+ => |$i:ident, $a:ident| $call:expr;)+) => {
        match $name {
            $($($op)|+ => Some((|$i: &Inputs, $a: &Args| -> Answer { Ok(vec![$call?]) }) as Op),)+
            _ => None,
        }
    };
}
pub(super) use ops;

/// As [`ops`], for methods that take nothing, or the input `y`, and have the op's name.
macro_rules! methods {
    ($name:expr, x: $($op:ident)+) => {
        match $name {
            $(stringify!($op) => Some((|i, _| Ok(vec![i.x().$op()?])) as Op),)+
            _ => None,
        }
    };
    ($name:expr, x y: $($op:ident)+) => {
        match $name {
            $(stringify!($op) => Some((|i, _| Ok(vec![i.x().$op(i.get("y"))?])) as Op),)+
            _ => None,
        }
    };
}

pub(super) fn lookup(name: &str) -> Option<Op> {
    unary(name).or_else(|| binary(name)).or_else(|| with_arguments(name))
}

fn unary(name: &str) -> Option<Op> {
    methods!(name, x: neg abs exp log sqrt rsqrt sin cos tanh sigmoid relu erf floor ceil round sign log1p expm1 square silu
        relu6 hardswish logsigmoid isnan isinf isfinite)
}

fn binary(name: &str) -> Option<Op> {
    methods!(name, x y: add sub mul div pow maximum minimum eq ne lt le gt ge)
}

fn with_arguments(name: &str) -> Option<Op> {
    ops! { name;
        "recip" => |i, _a| i.x().reciprocal();
        "gelu" => |i, a| if a.str("approximate") == "tanh" { i.x().gelu_tanh() } else { i.x().gelu() };
        "elu" => |i, a| i.x().binary_scalar(BinaryOp::Elu, a.f64("alpha"));
        "leaky_relu" => |i, a| i.x().binary_scalar(BinaryOp::LeakyRelu, a.f64("negative_slope"));
        "softplus" => |i, a| match (a.f64("beta"), a.f64("threshold")) {
            (1.0, 20.0) => Ok(i.x().softplus()?),
            _ => Err(Failure::NotCovered("softplus beta, threshold".into())),
        };
        "pow_scalar" => |i, a| i.x().pow_scalar(a.f64("exponent"));
        "clamp" => |i, a| i.x().clamp(a.opt_f64("min"), a.opt_f64("max"));
        "where" => |i, _a| i.get("cond").select_from(i.x(), i.get("y"));
        "cast" => |i, a| i.x().to_dtype(a.str("to").parse::<DType>()?);
        "add_scalar2" => |i, a| number(i.x(), BinaryOp::Add, a.f64("value"), a.bool("reverse"));
        "sub_scalar2" => |i, a| number(i.x(), BinaryOp::Sub, a.f64("value"), a.bool("reverse"));
        "mul_scalar2" => |i, a| number(i.x(), BinaryOp::Mul, a.f64("value"), a.bool("reverse"));
        "div_scalar2" => |i, a| number(i.x(), BinaryOp::Div, a.f64("value"), a.bool("reverse"));
        "pow_scalar2" => |i, a| number(i.x(), BinaryOp::Pow, a.f64("value"), a.bool("reverse"));
    }
}

/// `x op value`, or `value op x`.
fn number(x: &Value, op: BinaryOp, value: f64, reverse: bool) -> tensor::Result<Value> {
    if reverse { x.scalar_binary(op, value) } else { x.binary_scalar(op, value) }
}
