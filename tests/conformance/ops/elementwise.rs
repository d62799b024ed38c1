//! Functions of one, two and three elements.

use super::{Answer, Inputs, Op, Value};
use crate::format::Args;
use gradus::tensor::op::{BinaryOp, CompareOp};
use gradus::tensor::{DType, Tensor};

/// Rows `"name" => |inputs, args| result of one value`.
macro_rules! ops {
    ($name:expr; $($($op:literal)|+ => |$i:ident, $a:ident| $call:expr;)+) => {
        match $name {
            $($($op)|+ => Some((|$i: &Inputs, $a: &Args| -> Answer { Ok(vec![Value::from($call?)]) }) as Op),)+
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
    unary(name).or_else(|| binary(name)).or_else(|| truths(name)).or_else(|| with_arguments(name))
}

fn unary(name: &str) -> Option<Op> {
    methods!(name, x: neg abs exp log sqrt rsqrt sin cos tanh sigmoid relu erf floor ceil round sign log1p expm1 square silu
        relu6 hardswish logsigmoid)
}

fn binary(name: &str) -> Option<Op> {
    methods!(name, x y: add sub mul div pow maximum minimum)
}

fn truths(name: &str) -> Option<Op> {
    ops! { name;
        "isnan" => |i, _a| i.tensor("x").isnan();
        "isinf" => |i, _a| i.tensor("x").isinf();
        "isfinite" => |i, _a| i.tensor("x").isfinite();
        "eq" => |i, _a| i.tensor("x").eq(i.tensor("y"));
        "ne" => |i, _a| i.tensor("x").ne(i.tensor("y"));
        "lt" => |i, _a| i.tensor("x").lt(i.tensor("y"));
        "le" => |i, _a| i.tensor("x").le(i.tensor("y"));
        "gt" => |i, _a| i.tensor("x").gt(i.tensor("y"));
        "ge" => |i, _a| i.tensor("x").ge(i.tensor("y"));
        "logical_not" => |i, _a| truth(i, "x")?.logical_not();
        "logical_and" => |i, _a| truth(i, "x")?.logical_and(&truth(i, "y")?);
        "logical_or" => |i, _a| truth(i, "x")?.logical_or(&truth(i, "y")?);
        "logical_xor" => |i, _a| truth(i, "x")?.logical_xor(&truth(i, "y")?);
    }
}

/// Whether the elements of an input are other than zero.
fn truth(inputs: &Inputs, name: &str) -> gradus::tensor::Result<Tensor> {
    inputs.tensor(name).to_dtype(DType::Bool)
}

fn with_arguments(name: &str) -> Option<Op> {
    ops! { name;
        "recip" => |i, _a| i.x().reciprocal();
        "gelu" => |i, a| if a.str("approximate") == "tanh" { i.x().gelu_tanh() } else { i.x().gelu() };
        "elu" => |i, a| i.x().binary_scalar(BinaryOp::Elu, a.f64("alpha"));
        "leaky_relu" => |i, a| i.x().binary_scalar(BinaryOp::LeakyRelu, a.f64("negative_slope"));
        "softplus" => |i, a| softplus(i.x(), a.f64("beta"), a.f64("threshold"));
        "pow_scalar" => |i, a| i.x().pow_scalar(a.f64("exponent"));
        "clamp" => |i, a| i.x().clamp(a.opt_f64("min"), a.opt_f64("max"));
        "where" => |i, _a| i.x().select_where(i.tensor("cond"), i.get("y"));
        "cast" => |i, a| i.x().to_dtype(a.str("to").parse::<DType>()?);
        "add_scalar2" => |i, a| number(i.x(), BinaryOp::Add, a.f64("value"), a.bool("reverse"));
        "sub_scalar2" => |i, a| number(i.x(), BinaryOp::Sub, a.f64("value"), a.bool("reverse"));
        "mul_scalar2" => |i, a| number(i.x(), BinaryOp::Mul, a.f64("value"), a.bool("reverse"));
        "div_scalar2" => |i, a| number(i.x(), BinaryOp::Div, a.f64("value"), a.bool("reverse"));
        "pow_scalar2" => |i, a| number(i.x(), BinaryOp::Pow, a.f64("value"), a.bool("reverse"));
    }
}

/// `x op value`, or `value op x`.
fn number(x: &Value, op: BinaryOp, value: f64, reverse: bool) -> gradus::tensor::Result<Value> {
    if reverse { x.scalar_binary(op, value) } else { x.binary_scalar(op, value) }
}

/// `log(1 + e^(beta x)) / beta`, and `x` above the threshold: the library has that of 1 and 20.
fn softplus(x: &Value, beta: f64, threshold: f64) -> gradus::tensor::Result<Value> {
    if (beta, threshold) == (1.0, 20.0) {
        return x.softplus();
    }
    let scaled = x.mul_scalar(beta)?;
    let linear = scaled.value().compare_scalar(CompareOp::Gt, threshold)?;
    x.select_where(&linear, &scaled.softplus()?.div_scalar(beta)?)
}
