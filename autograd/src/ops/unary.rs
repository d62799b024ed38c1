//! One row per unary op: what it saves, and its gradient given that and `g`.

use crate::{Var, is_recording};
use std::f64::consts::{LN_2, LN_10, PI, SQRT_2};
use tensor::op::UnaryOp;
use tensor::{Result, Tensor};

/// What a gradient needs from the forward pass. Saving less frees activations earlier.
enum Saved {
    Nothing,
    Input,
    Output,
}

/// From the gradient of the result and what was saved to the gradient of the input.
type Grad = fn(&Var, &Var) -> Result<Var>;

macro_rules! unary_grads {
    ($( $Op:ident $name:ident $saves:ident |$g:ident, $s:tt| $grad:expr; )+) => {
        impl Var { $(
            #[doc = concat!("See [`Tensor::", stringify!($name), "`].")]
            pub fn $name(&self) -> Result<Var> {
                self.unary(UnaryOp::$Op)
            }
        )+ }

        fn rule(op: UnaryOp) -> (Saved, Grad) {
            match op { $( UnaryOp::$Op => (Saved::$saves, |$g: &Var, $s: &Var| $grad), )+ }
        }
    };
}

unary_grads! {
    Neg         neg         Nothing |g, _| g.neg();
    Abs         abs         Input   |g, x| g.mul(&x.sign()?);
    Sign        sign        Nothing |g, _| zero(g);
    Recip       reciprocal  Output  |g, y| g.mul(&y.square()?)?.neg();
    Square      square      Input   |g, x| g.mul(&x.mul_scalar(2.0)?);
    Sqrt        sqrt        Output  |g, y| g.div(&y.mul_scalar(2.0)?);
    Rsqrt       rsqrt       Output  |g, y| g.mul(&y.square()?.mul(y)?)?.mul_scalar(-0.5);
    Exp         exp         Output  |g, y| g.mul(y);
    Exp2        exp2        Output  |g, y| g.mul(y)?.mul_scalar(LN_2);
    Expm1       expm1       Output  |g, y| g.mul(&y.add_scalar(1.0)?);
    Log         log         Input   |g, x| g.div(x);
    Log2        log2        Input   |g, x| g.div(&x.mul_scalar(LN_2)?);
    Log10       log10       Input   |g, x| g.div(&x.mul_scalar(LN_10)?);
    Log1p       log1p       Input   |g, x| g.div(&x.add_scalar(1.0)?);
    Sin         sin         Input   |g, x| g.mul(&x.cos()?);
    Cos         cos         Input   |g, x| g.mul(&x.sin()?)?.neg();
    Tan         tan         Output  |g, y| g.mul(&y.square()?.add_scalar(1.0)?);
    Asin        asin        Input   |g, x| g.mul(&x.square()?.neg()?.add_scalar(1.0)?.rsqrt()?);
    Acos        acos        Input   |g, x| g.mul(&x.square()?.neg()?.add_scalar(1.0)?.rsqrt()?)?.neg();
    Atan        atan        Input   |g, x| g.div(&x.square()?.add_scalar(1.0)?);
    Sinh        sinh        Input   |g, x| g.mul(&x.cosh()?);
    Cosh        cosh        Input   |g, x| g.mul(&x.sinh()?);
    Tanh        tanh        Output  |g, y| g.mul(&y.square()?.neg()?.add_scalar(1.0)?);
    Sigmoid     sigmoid     Output  |g, y| g.mul(&y.sub(&y.square()?)?);
    Relu        relu        Output  |g, y| unless_flat(g, y.value(), 0.0, f64::INFINITY);
    Relu6       relu6       Input   |g, x| unless_flat(g, x.value(), 0.0, 6.0);
    // Φ(x) + x · φ(x)
    Gelu        gelu        Input   |g, x| g.mul(&normal_cdf(x)?.add(&x.mul(&normal_pdf(x)?)?)?);
    GeluTanh    gelu_tanh   Input   |g, x| g.mul(&gelu_tanh_slope(x)?);
    // s · (1 + x · (1 - s))
    Silu        silu        Input   |g, x| { let s = x.sigmoid()?; g.mul(&s.mul(&x.mul(&one_minus(&s)?)?.add_scalar(1.0)?)?) };
    Softplus    softplus    Input   |g, x| g.mul(&softplus_slope(x)?);
    Mish        mish        Input   |g, x| g.mul(&mish_slope(x)?);
    Hardswish   hardswish   Input   |g, x| hardswish_grad(g, x);
    Hardsigmoid hardsigmoid Input   |g, x| between(&g.div_scalar(6.0)?, x.value(), -3.0, 3.0);
    Logsigmoid  logsigmoid  Input   |g, x| g.mul(&x.neg()?.sigmoid()?);
    Erf         erf         Input   |g, x| g.mul(&x.square()?.neg()?.exp()?)?.mul_scalar(2.0 / PI.sqrt());
    Floor       floor       Nothing |g, _| zero(g);
    Ceil        ceil        Nothing |g, _| zero(g);
    Round       round       Nothing |g, _| zero(g);
    Trunc       trunc       Nothing |g, _| zero(g);
}

/// The gradient in one pass if the backend has it, else by the rule: as it always is when it is to be differentiated in turn.
fn fused(op: UnaryOp, rule: Grad, g: &Var, saved: &Var) -> Result<Var> {
    let dx = if is_recording() { None } else { g.value().unary_backward(op, saved.value())? };
    dx.map_or_else(|| rule(g, saved), |dx| Ok(dx.into()))
}

/// The gradient of a step function.
fn zero(g: &Var) -> Result<Var> {
    Ok(g.value().zeros_like()?.into())
}

fn one_minus(x: &Var) -> Result<Var> {
    x.neg()?.add_scalar(1.0)
}

/// 0 where `x <= low` or `x >= high`, else `g`: with NaN too, as PyTorch has it.
fn unless_flat(g: &Var, x: &Tensor, low: f64, high: f64) -> Result<Var> {
    let mut flat = x.compare_scalar(tensor::op::CompareOp::Le, low)?;
    if high.is_finite() {
        flat = flat.logical_or(&x.compare_scalar(tensor::op::CompareOp::Ge, high)?)?;
    }
    g.masked_fill(&flat, 0.0)
}

/// `g` where `low < x < high`, else 0.
fn between(g: &Var, x: &Tensor, low: f64, high: f64) -> Result<Var> {
    let inside = x.compare_scalar(tensor::op::CompareOp::Gt, low)?;
    g.keep_where(&inside.logical_and(&x.compare_scalar(tensor::op::CompareOp::Lt, high)?)?)
}

/// The distribution function of a standard normal.
fn normal_cdf(x: &Var) -> Result<Var> {
    x.mul_scalar(1.0 / SQRT_2)?.erf()?.add_scalar(1.0)?.mul_scalar(0.5)
}

/// The density of a standard normal.
fn normal_pdf(x: &Var) -> Result<Var> {
    x.square()?.mul_scalar(-0.5)?.exp()?.mul_scalar(1.0 / (2.0 * PI).sqrt())
}

/// With `u = √(2/π) · (x + 0.044715 x³)`: `(1 + tanh u) / 2 + x / 2 · (1 - tanh² u) · u'`.
fn gelu_tanh_slope(x: &Var) -> Result<Var> {
    let k = (2.0 / PI).sqrt();
    let x2 = x.square()?;
    let u = x.mul(&x2.mul_scalar(0.044715)?.add_scalar(1.0)?)?.mul_scalar(k)?;
    let du = x2.mul_scalar(3.0 * 0.044715)?.add_scalar(1.0)?.mul_scalar(k)?;
    let t = u.tanh()?;
    let rising = x.mul(&one_minus(&t.square()?)?)?.mul(&du)?;
    t.add_scalar(1.0)?.add(&rising)?.mul_scalar(0.5)
}

/// `sigmoid(x)`, and 1 where softplus is taken as `x`.
fn softplus_slope(x: &Var) -> Result<Var> {
    let linear = x.value().compare_scalar(tensor::op::CompareOp::Gt, 20.0)?;
    let one = Var::from(x.value().ones_like()?);
    one.select_where(&linear, &x.sigmoid()?)
}

/// With `t = tanh(softplus(x))`: `t + x · (1 - t²) · sigmoid(x)`.
fn mish_slope(x: &Var) -> Result<Var> {
    let t = x.softplus()?.tanh()?;
    t.add(&x.mul(&one_minus(&t.square()?)?)?.mul(&x.sigmoid()?)?)
}

/// 0 up to -3, `g · (x / 3 + 1 / 2)` below 3, else `g`, as PyTorch has it.
fn hardswish_grad(g: &Var, x: &Var) -> Result<Var> {
    use tensor::op::CompareOp::{Le, Lt};
    let middle = g.mul(&x.div_scalar(3.0)?.add_scalar(0.5)?)?;
    let upper = middle.select_where(&x.value().compare_scalar(Lt, 3.0)?, g)?;
    upper.masked_fill(&x.value().compare_scalar(Le, -3.0)?, 0.0)
}

impl Var {
    /// A unary op of the table, chosen at run time.
    pub fn unary(&self, op: UnaryOp) -> Result<Var> {
        let y = self.value().unary(op)?;
        let (saves, grad) = rule(op);
        Ok(match saves {
            Saved::Nothing => Var::record1(op.name(), y, self, move |g| grad(g, g)),
            Saved::Input => {
                let x = self.value().clone();
                Var::record(op.name(), y, &[self], move |b| {
                    Ok(vec![Some(fused(op, grad, b.grad(), &b.input(0, &x))?)])
                })
            }
            Saved::Output => Var::record_with_output(op.name(), y, &[self], move |b| {
                Ok(vec![Some(fused(op, grad, b.grad(), &b.output()?)?)])
            }),
        })
    }
}
