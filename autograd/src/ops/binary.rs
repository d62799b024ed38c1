//! One row per binary op: its two gradients. Broadcasting is undone by the driver, no row mentions it.

use crate::{Var, is_recording};
use tensor::op::{BinaryOp, CompareOp};
use tensor::{Number, Result, Tensor};

/// From the gradient of the result, the operands and the result to the gradient of one operand.
type Grad = fn(&Var, &Var, &Var, &Var) -> Result<Var>;

/// What the gradients need from the forward pass.
enum Saved {
    Nothing,
    Inputs,
    All,
}

macro_rules! binary_grads {
    ($( $Op:ident $name:ident $saves:ident |$g:tt, $a:tt, $b:tt, $y:tt| $da:expr, $db:expr; )+) => {
        impl Var { $(
            #[doc = concat!("See [`Tensor::", stringify!($name), "`].")]
            pub fn $name(&self, other: &Var) -> Result<Var> {
                self.binary(BinaryOp::$Op, other)
            }
        )+ }

        fn rule(op: BinaryOp) -> (Saved, Grad, Grad) {
            // A row names what either gradient uses: one of the two may use less.
            #[allow(unused_variables)]
            match op { $( BinaryOp::$Op => (
                Saved::$saves,
                |$g: &Var, $a: &Var, $b: &Var, $y: &Var| $da,
                |$g: &Var, $a: &Var, $b: &Var, $y: &Var| $db,
            ), )+ }
        }
    };
}

binary_grads! {
    Add         add          Nothing |g, _, _, _| Ok(g.clone()), Ok(g.clone());
    Sub         sub          Nothing |g, _, _, _| Ok(g.clone()), g.neg();
    Mul         mul          Inputs  |g, a, b, _| g.mul(b), g.mul(a);
    Div         div          Inputs  |g, a, b, _| g.div(b), g.mul(a)?.div(&b.square()?)?.neg();
    FloorDivide floor_divide Nothing |g, _, _, _| zero(g), zero(g);
    Remainder   remainder    Inputs  |g, a, b, _| Ok(g.clone()), g.mul(&a.div(b)?.floor()?)?.neg();
    Fmod        fmod         Inputs  |g, a, b, _| Ok(g.clone()), g.mul(&a.div(b)?.trunc()?)?.neg();
    Pow         pow          All     |g, a, b, y| pow_base(g, a, b), pow_exponent(g, a, b, y);
    Maximum     maximum      Inputs  |g, a, b, _| larger(g, a, b), larger(g, b, a);
    Minimum     minimum      Inputs  |g, a, b, _| larger(g, b, a), larger(g, a, b);
    // d/da atan2(a, b) = b / (a² + b²), d/db = -a / (a² + b²)
    Atan2       atan2        Inputs  |g, a, b, _| g.mul(b)?.div(&sum_of_squares(a, b)?), g.mul(a)?.div(&sum_of_squares(a, b)?)?.neg();
    Hypot       hypot        All     |g, a, b, y| g.mul(&a.div(y)?), g.mul(&b.div(y)?);
    Logaddexp   logaddexp    Inputs  |g, a, b, _| g.mul(&a.sub(b)?.sigmoid()?), g.mul(&b.sub(a)?.sigmoid()?);
    Xlogy       xlogy        Inputs  |g, a, b, _| xlogy_left(g, a, b), g.mul(&a.div(b)?);
    LeakyRelu   leaky_relu   Inputs  |g, a, b, _| g.select_where(&positive(a)?, &g.mul(b)?), g.mul(a)?.keep_where(&positive(a)?.logical_not()?);
    Elu         elu          Inputs  |g, a, b, _| elu_input(g, a, b), g.mul(&a.expm1()?)?.keep_where(&positive(a)?.logical_not()?);
}

fn zero(g: &Var) -> Result<Var> {
    Ok(g.value().zeros_like()?.into())
}

fn positive(a: &Var) -> Result<Tensor> {
    a.value().compare_scalar(CompareOp::Gt, 0.0)
}

fn sum_of_squares(a: &Var, b: &Var) -> Result<Var> {
    a.square()?.add(&b.square()?)
}

/// `g · b · a^(b-1)`, 0 where `b` is 0.
fn pow_base(g: &Var, a: &Var, b: &Var) -> Result<Var> {
    let slope = b.mul(&a.pow(&b.sub_scalar(1.0)?)?)?;
    let flat = b.value().compare_scalar(CompareOp::Eq, 0.0)?.logical_not()?;
    g.mul(&slope)?.keep_where(&flat)
}

/// `g · y · log a`, 0 where `a` is 0 and `b` is not negative.
fn pow_exponent(g: &Var, a: &Var, b: &Var, y: &Var) -> Result<Var> {
    let zero = a.value().compare_scalar(CompareOp::Eq, 0.0)?;
    let flat = zero.logical_and(&b.value().compare_scalar(CompareOp::Ge, 0.0)?)?;
    g.mul(&y.mul(&a.log()?)?)?.keep_where(&flat.logical_not()?)
}

/// 0 where `a` is smaller, half of `g` where both are equal, else `g`: with NaN too, as PyTorch has it.
fn larger(g: &Var, a: &Var, b: &Var) -> Result<Var> {
    let (a, b) = (a.value(), b.value());
    g.mul_scalar(0.5)?.select_where(&a.eq(b)?, g)?.masked_fill(&a.lt(b)?, 0.0)
}

/// `g · log b`, 0 where `a` is 0 and `b` is not positive.
fn xlogy_left(g: &Var, a: &Var, b: &Var) -> Result<Var> {
    let zero = a.value().compare_scalar(CompareOp::Eq, 0.0)?;
    let flat = zero.logical_and(&b.value().compare_scalar(CompareOp::Le, 0.0)?)?;
    g.mul(&b.log()?)?.keep_where(&flat.logical_not()?)
}

/// `g · b · e^a` up to 0, else `g`.
fn elu_input(g: &Var, a: &Var, b: &Var) -> Result<Var> {
    let up_to_0 = a.value().compare_scalar(CompareOp::Le, 0.0)?;
    // Without what is above 0, so that the branch that is not taken does not overflow.
    let below = a.keep_where(&up_to_0)?.exp()?.mul(b)?;
    g.mul(&below)?.select_where(&up_to_0, g)
}

impl Var {
    /// A binary op of the table, chosen at run time. The operands broadcast.
    pub fn binary(&self, op: BinaryOp, other: &Var) -> Result<Var> {
        let y = self.value().binary(op, other.value())?;
        let (saves, da, db) = rule(op);
        Ok(match saves {
            Saved::Nothing => Var::record(op.name(), y, &[self, other], move |b| {
                let g = b.grad();
                Ok(vec![b.unbroadcast(0, || da(g, g, g, g))?, b.unbroadcast(1, || db(g, g, g, g))?])
            }),
            Saved::Inputs => {
                let (l, r) = (self.value().clone(), other.value().clone());
                Var::record(op.name(), y, &[self, other], move |b| {
                    let (g, l, r) = (b.grad(), b.input(0, &l), b.input(1, &r));
                    Ok(vec![b.unbroadcast(0, || da(g, &l, &r, g))?, b.unbroadcast(1, || db(g, &l, &r, g))?])
                })
            }
            Saved::All => {
                let (l, r) = (self.value().clone(), other.value().clone());
                Var::record_with_output(op.name(), y, &[self, other], move |b| {
                    let (g, l, r, y) = (b.grad(), b.input(0, &l), b.input(1, &r), b.output()?);
                    Ok(vec![b.unbroadcast(0, || da(g, &l, &r, &y))?, b.unbroadcast(1, || db(g, &l, &r, &y))?])
                })
            }
        })
    }

    /// As [`binary`](Self::binary), but reuses this value's memory if nobody else holds it: neither a clone nor the graph, which
    /// keeps the operands that its gradients need.
    pub fn binary_into(self, op: BinaryOp, other: &Var) -> Result<Var> {
        let (saves, da, db) = rule(op);
        if is_recording()
            && !matches!(saves, Saved::Nothing)
            && (self.requires_grad() || other.requires_grad())
        {
            return self.binary(op, other);
        }
        let Var { value, history } = self;
        let y = value.binary_into(op, other.value())?;
        let past = Var { value: y.clone(), history };
        Ok(Var::record(op.name(), y, &[&past, other], move |b| {
            let g = b.grad();
            Ok(vec![b.unbroadcast(0, || da(g, g, g, g))?, b.unbroadcast(1, || db(g, g, g, g))?])
        }))
    }

    /// `op(self, value)`; see [`Tensor::binary_scalar`].
    pub fn binary_scalar(&self, op: BinaryOp, value: impl Into<Number>) -> Result<Var> {
        let value = value.into();
        let k = value.to_f64();
        let y = self.value().binary_scalar(op, value)?;
        if y.dtype() != self.dtype() || !y.dtype().is_float() {
            return Ok(self.cut(op.name(), y));
        }
        let scaled = |by: f64| Var::record1(op.name(), y.clone(), self, move |g| g.mul_scalar(by));
        Ok(match op {
            BinaryOp::Add | BinaryOp::Sub => Var::record1(op.name(), y, self, |g| Ok(g.clone())),
            BinaryOp::Mul => scaled(k),
            BinaryOp::Div => Var::record1(op.name(), y, self, move |g| g.div_scalar(k)),
            BinaryOp::Pow => {
                let x = self.clone();
                Var::record1(op.name(), y, self, move |g| match k {
                    0.0 => zero(g),
                    k => g.mul(&x.pow_scalar(k - 1.0)?.mul_scalar(k)?),
                })
            }
            _ => {
                let rhs = Tensor::full((), value, (self.dtype(), self.device()))?;
                self.binary(op, &rhs.into())?
            }
        })
    }

    /// `op(value, self)`: the number on the left.
    pub fn scalar_binary(&self, op: BinaryOp, value: impl Into<Number>) -> Result<Var> {
        let value = value.into();
        let dtype = value.promote(self.dtype());
        if dtype != self.dtype() {
            return Ok(self.cut(op.name(), self.value().scalar_binary(op, value)?));
        }
        Var::from(Tensor::full((), value, (dtype, self.device()))?).binary(op, self)
    }

    /// `self + value`.
    pub fn add_scalar(&self, value: impl Into<Number>) -> Result<Var> {
        self.binary_scalar(BinaryOp::Add, value)
    }

    /// `self - value`.
    pub fn sub_scalar(&self, value: impl Into<Number>) -> Result<Var> {
        self.binary_scalar(BinaryOp::Sub, value)
    }

    /// `self · value`.
    pub fn mul_scalar(&self, value: impl Into<Number>) -> Result<Var> {
        self.binary_scalar(BinaryOp::Mul, value)
    }

    /// `self / value`.
    pub fn div_scalar(&self, value: impl Into<Number>) -> Result<Var> {
        self.binary_scalar(BinaryOp::Div, value)
    }

    /// `self ^ exponent`.
    pub fn pow_scalar(&self, exponent: impl Into<Number>) -> Result<Var> {
        self.binary_scalar(BinaryOp::Pow, exponent)
    }

    /// `min(max(self, min), max)`; the gradient is 0 but between the bounds.
    pub fn clamp(&self, min: Option<f64>, max: Option<f64>) -> Result<Var> {
        let y = self.value().clamp(min, max)?;
        let x = self.value().clone();
        Ok(Var::record1("clamp", y, self, move |g| {
            if !is_recording() {
                return Ok(g.value().clamp_backward(&x, min, max)?.into());
            }
            let mut g = g.clone();
            for (bound, op) in [(min, CompareOp::Gt), (max, CompareOp::Lt)] {
                if let Some(bound) = bound {
                    g = g.keep_where(&x.compare_scalar(op, bound)?)?;
                }
            }
            Ok(g)
        }))
    }

    /// `self` where `condition` (bool) is true, else `other`. All three broadcast.
    pub fn select_where(&self, condition: &Tensor, other: &Var) -> Result<Var> {
        let y = condition.select_from(self.value(), other.value())?;
        let (a_shape, b_shape) = (self.shape(), other.shape());
        let condition = condition.clone();
        Ok(Var::record("where", y, &[self, other], move |b| {
            Ok(vec![
                b.want(0, || b.grad().keep_where(&condition)?.sum_to(a_shape))?,
                b.want(1, || b.grad().masked_fill(&condition, 0.0)?.sum_to(b_shape))?,
            ])
        }))
    }

    /// `self` where `condition` (bool) is true, else 0.
    pub fn keep_where(&self, condition: &Tensor) -> Result<Var> {
        let zero = Tensor::zeros((), (self.dtype(), self.device()))?;
        let y = condition.select_from(self.value(), &zero)?;
        let (condition, shape) = (condition.clone(), self.shape());
        Ok(Var::record1("keep_where", y, self, move |g| g.keep_where(&condition)?.sum_to(shape)))
    }

    /// `value` where `mask` (bool) is true, else `self`; both broadcast.
    pub fn masked_fill(&self, mask: &Tensor, value: impl Into<Number>) -> Result<Var> {
        let y = self.value().masked_fill(mask, value)?;
        let (mask, shape) = (mask.clone(), self.shape());
        Ok(Var::record1("masked_fill", y, self, move |g| g.masked_fill(&mask, 0.0)?.sum_to(shape)))
    }
}

macro_rules! operators {
    ($($Trait:ident $method:ident $op:expr;)+) => { $(
        impl std::ops::$Trait<&Var> for &Var {
            type Output = Result<Var>;
            fn $method(self, rhs: &Var) -> Result<Var> {
                self.binary($op, rhs)
            }
        }
        // An operand that is given away lends its memory to the result, if it was the only one to hold it.
        impl std::ops::$Trait<&Var> for Var {
            type Output = Result<Var>;
            fn $method(self, rhs: &Var) -> Result<Var> {
                self.binary_into($op, rhs)
            }
        }
        impl std::ops::$Trait<Var> for Var {
            type Output = Result<Var>;
            fn $method(self, rhs: Var) -> Result<Var> {
                self.binary_into($op, &rhs)
            }
        }
        impl std::ops::$Trait<f64> for &Var {
            type Output = Result<Var>;
            fn $method(self, rhs: f64) -> Result<Var> {
                self.binary_scalar($op, rhs)
            }
        }
        impl std::ops::$Trait<&Var> for f64 {
            type Output = Result<Var>;
            fn $method(self, rhs: &Var) -> Result<Var> {
                rhs.scalar_binary($op, self)
            }
        }
    )+ };
}
operators! {
    Add add BinaryOp::Add;
    Sub sub BinaryOp::Sub;
    Mul mul BinaryOp::Mul;
    Div div BinaryOp::Div;
}

#[cfg(test)]
mod tests {
    use crate::{Var, no_grad};
    use tensor::{Device, Result, Tensor};

    fn place(x: &Var) -> *const () {
        x.value().storage() as *const _ as *const ()
    }

    #[test]
    fn sums_reuse_memory_while_they_are_recorded_and_products_when_they_are_not() -> Result<()> {
        let x = Var::leaf(Tensor::arange(0.0, 4.0, 1.0, &Device::cpu())?);
        let (a, b) = (x.mul_scalar(2.0)?, x.mul_scalar(3.0)?);
        let memory = place(&a);
        let sum = (a + &b)?;
        assert_eq!(place(&sum), memory);
        // The product keeps both operands for its gradient: neither may be written to.
        let memory = place(&sum);
        let product = (sum.clone() * &x)?;
        assert_ne!(place(&product), memory);
        let squares = (sum * &x)?;
        assert_eq!(squares.value().to_vec::<f32>()?, [0., 5., 20., 45.]);
        assert_eq!((product - &x)?.sum_all()?.backward()?.get(&x)?.to_vec::<f32>()?, [-1., 9., 19., 29.]);
        no_grad(|| {
            let a = x.mul_scalar(2.0)?;
            let memory = place(&a);
            assert_eq!(place(&(a * &x)?), memory);
            Ok(())
        })
    }

    #[test]
    fn a_leaf_that_is_given_away_stays_for_those_who_hold_it() -> Result<()> {
        let x = Var::leaf(Tensor::arange(0.0, 3.0, 1.0, &Device::cpu())?);
        let row = Var::from(Tensor::ones([2, 1], &Device::cpu())?);
        let y = (x.clone() + &row)?;
        assert_eq!((y.dims(), x.value().to_vec::<f32>()?), (&[2, 3][..], vec![0., 1., 2.]));
        assert_eq!(y.sum_all()?.backward()?.get(&x)?.to_vec::<f32>()?, [2., 2., 2.]);
        Ok(())
    }
}
