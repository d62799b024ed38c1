//! Elementwise ops: the methods of the tables, arithmetic with numbers, and the operators.

use super::Tensor;
use crate::op::{BinaryOp, CompareOp, PredicateOp, UnaryOp};
use crate::{DType, Error, Kind, Number, Result, Shape};
use std::ops;

crate::op::unary::unary_methods!();
crate::op::binary::binary_methods!();
crate::op::compare::compare_methods!();
crate::op::compare::predicate_methods!();

impl Tensor {
    /// A unary op of the table, chosen at run time.
    ///
    /// # Errors
    /// For integers and bools, when the op has no meaning for them.
    pub fn unary(&self, op: UnaryOp) -> Result<Tensor> {
        self.backend().unary(op, self)
    }

    /// The gradient of `op` in its input, from that of its result, `self`, and from `saved`: its input or its result, as the
    /// table of unary ops says. `None` if the backend has no single pass for it.
    pub fn unary_backward(&self, op: UnaryOp, saved: &Tensor) -> Result<Option<Tensor>> {
        self.check_like(op.name(), saved)?;
        self.backend().unary_backward(op, self, saved)
    }

    /// As [`unary`](Self::unary), but reuses this tensor's memory if nobody else holds it.
    pub fn unary_into(self, op: UnaryOp) -> Result<Tensor> {
        let device = self.device().clone();
        device.backend().unary_into(op, self)
    }

    /// A binary op of the table, chosen at run time. The operands broadcast.
    pub fn binary(&self, op: BinaryOp, rhs: &Tensor) -> Result<Tensor> {
        // The device is asked for once: this is the path of the smallest ops.
        let device = self.device();
        if self.dtype() != rhs.dtype() || device != rhs.device() {
            self.check_same(op.name(), rhs)?;
        }
        if self.layout().same_shape(rhs.layout()) {
            return device.backend().binary(op, self, rhs);
        }
        let (a, b) = self.broadcast_pair(op.name(), rhs)?;
        device.backend().binary(op, &a, &b)
    }

    /// As [`binary`](Self::binary), but reuses this tensor's memory if nobody else holds it: what gradients are
    /// summed with.
    pub fn binary_into(self, op: BinaryOp, rhs: &Tensor) -> Result<Tensor> {
        self.check_same(op.name(), rhs)?;
        let device = self.device().clone();
        if self.dims() == rhs.dims() {
            return device.backend().binary_into(op, self, rhs);
        }
        if self.shape().broadcast(&rhs.shape()) != Some(self.shape()) {
            return self.binary(op, rhs);
        }
        let rhs = rhs.broadcast_to(self.shape())?;
        device.backend().binary_into(op, self, &rhs)
    }

    /// As [`binary_scalar`](Self::binary_scalar), but reuses this tensor's memory if nobody else holds it and the dtype stays.
    pub fn binary_scalar_into(self, op: BinaryOp, value: impl Into<Number>) -> Result<Tensor> {
        let value = true_division(op, self.dtype(), value.into());
        if value.promote(self.dtype()) != self.dtype() {
            return self.binary_scalar(op, value);
        }
        let value = Tensor::full(Shape::SCALAR, value, (self.dtype(), self.device()))?;
        self.binary_into(op, &value)
    }

    /// A comparison of the table, chosen at run time. The operands broadcast; the result is bool.
    pub fn compare(&self, op: CompareOp, rhs: &Tensor) -> Result<Tensor> {
        self.check_same(op.name(), rhs)?;
        if self.dims() == rhs.dims() {
            return self.backend().compare(op, self, rhs);
        }
        let (a, b) = self.broadcast_pair(op.name(), rhs)?;
        self.backend().compare(op, &a, &b)
    }

    /// A predicate of the table, chosen at run time; the result is bool.
    pub fn predicate(&self, op: PredicateOp) -> Result<Tensor> {
        self.backend().predicate(op, self)
    }

    /// Both as views of their common shape; their dtypes and devices were compared.
    fn broadcast_pair(&self, op: &'static str, rhs: &Tensor) -> Result<(Tensor, Tensor)> {
        let (lhs_shape, rhs_shape) = (self.shape(), rhs.shape());
        let shape = lhs_shape.broadcast(&rhs_shape).ok_or_else(|| Error::shapes(op, lhs_shape, rhs_shape))?;
        let shape = shape.checked(op)?;
        Ok((self.broadcast_to(shape)?, rhs.broadcast_to(shape)?))
    }

    /// The tensor and the number as two operands of one dtype, by PyTorch's promotion.
    fn with_number(&self, value: Number) -> Result<(Tensor, Tensor)> {
        let dtype = value.promote(self.dtype());
        Ok((self.to_dtype(dtype)?, Tensor::full(Shape::SCALAR, value, (dtype, self.device()))?))
    }

    /// `op(self, value)`; the dtype is promoted as PyTorch does, see [`Number::promote`].
    pub fn binary_scalar(&self, op: BinaryOp, value: impl Into<Number>) -> Result<Tensor> {
        let (a, b) = self.with_number(true_division(op, self.dtype(), value.into()))?;
        a.binary(op, &b)
    }

    /// `op(value, self)`: the number on the left.
    pub fn scalar_binary(&self, op: BinaryOp, value: impl Into<Number>) -> Result<Tensor> {
        let (a, b) = self.with_number(true_division(op, self.dtype(), value.into()))?;
        b.binary(op, &a)
    }

    /// `op(self, value)`, as bools.
    pub fn compare_scalar(&self, op: CompareOp, value: impl Into<Number>) -> Result<Tensor> {
        let (a, b) = self.with_number(value.into())?;
        a.compare(op, &b)
    }

    /// `self + value`.
    pub fn add_scalar(&self, value: impl Into<Number>) -> Result<Tensor> {
        self.binary_scalar(BinaryOp::Add, value)
    }

    /// `self - value`.
    pub fn sub_scalar(&self, value: impl Into<Number>) -> Result<Tensor> {
        self.binary_scalar(BinaryOp::Sub, value)
    }

    /// `self · value`.
    pub fn mul_scalar(&self, value: impl Into<Number>) -> Result<Tensor> {
        self.binary_scalar(BinaryOp::Mul, value)
    }

    /// `self / value`; integers become `float32`, as in PyTorch.
    pub fn div_scalar(&self, value: impl Into<Number>) -> Result<Tensor> {
        self.binary_scalar(BinaryOp::Div, value)
    }

    /// `self ^ exponent`.
    pub fn pow_scalar(&self, exponent: impl Into<Number>) -> Result<Tensor> {
        let exponent = exponent.into();
        let stays = exponent.promote(self.dtype()) == self.dtype() && self.dtype() != DType::Bool;
        match exponent.to_f64() {
            // As PyTorch computes these, at the price of a multiplication or two.
            3.0 if stays && self.dtype().size() >= 4 => self.square()?.binary_into(BinaryOp::Mul, self),
            2.0 if stays => self.square(),
            1.0 if stays => Ok(self.clone()),
            0.5 if stays && self.dtype().is_float() => self.sqrt(),
            _ => self.binary_scalar(BinaryOp::Pow, exponent),
        }
    }

    /// `min(max(self, min), max)`; NaN stays NaN. An absent bound does not bind.
    pub fn clamp(&self, min: Option<f64>, max: Option<f64>) -> Result<Tensor> {
        let number = |bound: f64| match self.dtype().kind() == Kind::Int && bound.fract() == 0.0 {
            true => Number::Int(bound as i64),
            false => Number::Float(bound),
        };
        let (low, high) = (min.map(number), max.map(number));
        if low.is_none() && high.is_none() {
            return Ok(self.clone());
        }
        let dtype = [low, high].into_iter().flatten().fold(self.dtype(), |dtype, bound| bound.promote(dtype));
        self.backend().clamp(&self.to_dtype(dtype)?, low, high)
    }

    /// The gradient of [`clamp`](Self::clamp) for the input `x`, from that of its result, `self`: 0 but between the bounds.
    ///
    /// # Errors
    /// When shape, dtype or device of the two differ.
    pub fn clamp_backward(&self, x: &Tensor, min: Option<f64>, max: Option<f64>) -> Result<Tensor> {
        self.check_like("clamp", x)?;
        self.backend().clamp_backward(self, x, min.map(Number::Float), max.map(Number::Float))
    }

    /// `a` where `self` (bool) is true, else `b`. All three broadcast.
    ///
    /// ```
    /// use gradus_tensor::{Device, Tensor};
    /// # fn main() -> gradus_tensor::Result<()> {
    /// let x = Tensor::from_slice(&[-1f32, 2.], [2], &Device::cpu())?;
    /// let y = x.gt(&x.zeros_like()?)?.select_from(&x, &x.zeros_like()?)?;
    /// assert_eq!(y.to_vec::<f32>()?, [0., 2.]);
    /// # Ok(()) }
    /// ```
    pub fn select_from(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        self.check_dtype("where", DType::Bool)?;
        self.check_device("where", a)?;
        a.check_same("where", b)?;
        let (a, b) = a.broadcast_pair("where", b)?;
        let shape = self
            .shape()
            .broadcast(&a.shape())
            .ok_or_else(|| Error::shapes("where", self.shape(), a.shape()))?;
        let shape = shape.checked("where")?;
        self.backend().select(&self.broadcast_to(shape)?, &a.broadcast_to(shape)?, &b.broadcast_to(shape)?)
    }

    /// `value` where `mask` (bool, broadcasts) is true, else `self`.
    pub fn masked_fill(&self, mask: &Tensor, value: impl Into<Number>) -> Result<Tensor> {
        mask.select_from(&Tensor::full(Shape::SCALAR, value, (self.dtype(), self.device()))?, self)
    }

    /// Sums away the dims that broadcasting from `shape` had stretched or added: the gradient of broadcasting.
    pub fn sum_to(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into();
        if shape == self.shape() {
            return Ok(self.clone());
        }
        let Some(extra) = self.rank().checked_sub(shape.rank()) else {
            return Err(Error::shapes("sum_to", self.shape(), shape));
        };
        let stretched = |&d: &usize| d < extra || (shape.dims()[d - extra] == 1 && self.dims()[d] != 1);
        let dims: Vec<isize> = (0..self.rank()).filter(stretched).map(|d| d as isize).collect();
        self.sum(dims, true)?.reshape(shape)
    }
}

/// Integers divide as floats: the number's kind is raised, and with it the promoted dtype.
fn true_division(op: BinaryOp, dtype: DType, value: Number) -> Number {
    if op == BinaryOp::Div && !dtype.is_float() { Number::Float(value.to_f64()) } else { value }
}

macro_rules! operators {
    ($($Trait:ident $method:ident $op:expr;)+) => { $(
        impl ops::$Trait<&Tensor> for &Tensor {
            type Output = Result<Tensor>;
            fn $method(self, rhs: &Tensor) -> Result<Tensor> {
                self.binary($op, rhs)
            }
        }
        // An operand that is given away lends its memory to the result, if it was the only one to hold it.
        impl ops::$Trait<&Tensor> for Tensor {
            type Output = Result<Tensor>;
            fn $method(self, rhs: &Tensor) -> Result<Tensor> {
                self.binary_into($op, rhs)
            }
        }
        impl ops::$Trait<Tensor> for Tensor {
            type Output = Result<Tensor>;
            fn $method(self, rhs: Tensor) -> Result<Tensor> {
                self.binary_into($op, &rhs)
            }
        }
        impl ops::$Trait<Tensor> for &Tensor {
            type Output = Result<Tensor>;
            fn $method(self, rhs: Tensor) -> Result<Tensor> {
                // Sums and products do not change when their operands change places.
                match matches!($op, BinaryOp::Add | BinaryOp::Mul) {
                    true => rhs.binary_into($op, self),
                    false => self.binary($op, &rhs),
                }
            }
        }
        impl ops::$Trait<f64> for Tensor {
            type Output = Result<Tensor>;
            fn $method(self, rhs: f64) -> Result<Tensor> {
                self.binary_scalar_into($op, rhs)
            }
        }
        impl ops::$Trait<Tensor> for f64 {
            type Output = Result<Tensor>;
            fn $method(self, rhs: Tensor) -> Result<Tensor> {
                rhs.scalar_binary($op, self)
            }
        }
        impl ops::$Trait<f64> for &Tensor {
            type Output = Result<Tensor>;
            fn $method(self, rhs: f64) -> Result<Tensor> {
                self.binary_scalar($op, rhs)
            }
        }
        impl ops::$Trait<&Tensor> for f64 {
            type Output = Result<Tensor>;
            fn $method(self, rhs: &Tensor) -> Result<Tensor> {
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

impl ops::Neg for &Tensor {
    type Output = Result<Tensor>;
    fn neg(self) -> Result<Tensor> {
        self.unary(UnaryOp::Neg)
    }
}

impl ops::Neg for Tensor {
    type Output = Result<Tensor>;
    fn neg(self) -> Result<Tensor> {
        self.unary_into(UnaryOp::Neg)
    }
}

#[cfg(test)]
mod tests {
    use crate::op::{BinaryOp, UnaryOp};
    use crate::{DType, Device, Result, Tensor};

    fn range(n: usize) -> Result<Tensor> {
        Tensor::arange(0.0, n as f64, 1.0, &Device::cpu())
    }

    #[test]
    fn operators_reuse_the_memory_of_operands_that_are_given_away() -> Result<()> {
        for n in [5, 20_000] {
            let (x, y) = (range(n)?, range(n)?);
            let given = x.copy()?;
            let memory = given.storage() as *const _ as *const ();
            let result = (-(((((given + &y)? * &y)? - x.copy()?)? / 2.0)?))?;
            assert!(std::ptr::eq(result.storage() as *const _ as *const (), memory), "{n}");
            let expected = (&(&(&(&x + &y)? * &y)? - &x)? / 2.0)?.neg()?;
            assert!(result.all_close(&expected, 0.0, 0.0)?);
            let right = y.copy()?;
            let memory = right.storage() as *const _ as *const ();
            let sum = (&x + right)?;
            assert!(std::ptr::eq(sum.storage() as *const _ as *const (), memory), "{n}");
        }
        Ok(())
    }

    #[test]
    fn what_others_see_is_never_written_to() -> Result<()> {
        let x = range(6)?;
        let kept = x.clone();
        let view = x.reshape([2, 3])?;
        assert_eq!((x + 1.0)?.to_vec::<f32>()?, [1., 2., 3., 4., 5., 6.]);
        assert_eq!((view.clone() * &view)?.to_vec::<f32>()?, [0., 1., 4., 9., 16., 25.]);
        assert_eq!((-view)?.to_vec::<f32>()?, [0., -1., -2., -3., -4., -5.]);
        assert_eq!(kept.to_vec::<f32>()?, [0., 1., 2., 3., 4., 5.]);
        Ok(())
    }

    #[test]
    fn short_runs_are_added_in_place() -> Result<()> {
        let image = || range(3 * 5 * 7 * 300)?.reshape([3, 5, 7, 300]);
        let views: [&dyn Fn(Tensor) -> Result<Tensor>; 4] =
            [&|x| Ok(x), &|x| x.permute([0, 3, 1, 2]), &|x| x.narrow(0, 1, 2)?.permute([0, 3, 1, 2]), &|x| {
                x.transpose(2, 3)?.contiguous()
            }];
        for view in views {
            let dims = view(image()?)?.dims().to_vec();
            for kept in 0..1 << dims.len() {
                let shape: Vec<usize> =
                    (0..dims.len()).map(|d| if kept >> d & 1 == 1 { dims[d] } else { 1 }).collect();
                let b = range(shape.iter().product())?.reshape(shape.as_slice())?;
                let expected = view(image()?)?.sub(&b)?;
                let given = view(image()?)?;
                let memory = given.storage() as *const _ as *const ();
                let y = given.binary_into(BinaryOp::Sub, &b)?;
                assert!(std::ptr::eq(y.storage() as *const _ as *const (), memory));
                assert!(y.all_close(&expected, 0.0, 0.0)?, "{dims:?} - {shape:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn any_shape_and_dtype_can_be_given_away() -> Result<()> {
        let row = || range(3);
        let column = range(2)?.reshape([2, 1])?;
        assert_eq!((row()? + &column)?.dims(), [2, 3]);
        assert_eq!((&column + row()?)?.to_vec::<f32>()?, [0., 1., 2., 1., 2., 3.]);
        assert_eq!((&column - row()?)?.to_vec::<f32>()?, [0., -1., -2., 1., 0., -1.]);
        assert_eq!((2.0 / (row()? + 1.0)?)?.to_vec::<f32>()?[..2], [2., 1.]);
        let flipped = range(4)?.flip([0])?;
        assert_eq!((flipped * 2.0)?.to_vec::<f32>()?, [6., 4., 2., 0.]);
        let turned = range(6)?.reshape([2, 3])?.t()?;
        assert_eq!(turned.unary_into(UnaryOp::Neg)?.to_vec::<f32>()?, [0., -3., -1., -4., -2., -5.]);
        let whole = range(4)?.to_dtype(DType::I64)?;
        assert_eq!(whole.binary_scalar_into(BinaryOp::Div, 2)?.to_vec::<f32>()?, [0., 0.5, 1., 1.5]);
        let empty = range(0)?;
        assert_eq!((-empty)?.numel(), 0);
        Ok(())
    }
}
