//! Elementwise kernels over slices, by dtype.

use crate::cpu::isa::Isa;
use crate::op::binary::{BinaryIntFormula, BinaryIntVisitor};
use crate::op::unary::{UnaryIntFormula, UnaryIntVisitor};
use crate::op::{BinaryOp, CompareOp, PredicateOp, UnaryOp};
use crate::{Bool, DType, Error, Kind, Result, Scalar};

/// What a kernel reads: elements, or one element for all.
#[derive(Clone, Copy)]
pub(crate) enum Operand<'a, T> {
    Slice(&'a [T]),
    Scalar(T),
}

impl<T: Copy> Operand<'_, T> {
    fn at(&self, i: usize) -> T {
        match self {
            Operand::Slice(s) => s[i],
            Operand::Scalar(x) => *x,
        }
    }
}

struct HasInt;
impl UnaryIntVisitor for HasInt {
    type Output = ();
    fn visit<F: UnaryIntFormula>(self) {}
}
impl BinaryIntVisitor for HasInt {
    type Output = ();
    fn visit<F: BinaryIntFormula>(self) {}
}

/// Errors unless the op has a meaning for the dtype.
pub(crate) fn check_unary(op: UnaryOp, dtype: DType) -> Result<()> {
    match dtype.kind() {
        Kind::Float => Ok(()),
        Kind::Int if op.dispatch_int(HasInt).is_some() => Ok(()),
        _ => Err(Error::dtype(op.name(), dtype, "floats")),
    }
}

/// Errors unless the op has a meaning for the dtype.
pub(crate) fn check_binary(op: BinaryOp, dtype: DType) -> Result<()> {
    match dtype.kind() {
        Kind::Float => Ok(()),
        Kind::Int if op.dispatch_int(HasInt).is_some() => Ok(()),
        _ => Err(Error::dtype(op.name(), dtype, "floats")),
    }
}

struct IntAt(i64);
impl UnaryIntVisitor for IntAt {
    type Output = i64;
    fn visit<F: UnaryIntFormula>(self) -> i64 {
        F::eval(self.0)
    }
}
struct IntPair(i64, i64);
impl BinaryIntVisitor for IntPair {
    type Output = i64;
    fn visit<F: BinaryIntFormula>(self) -> i64 {
        F::eval(self.0, self.1)
    }
}

/// `y = op(x)`; the dtype was checked.
pub(crate) fn unary<T: Scalar>(op: UnaryOp, _isa: Isa, x: Operand<T>, y: &mut [T]) {
    let f = op.scalar_f64();
    for (i, y) in y.iter_mut().enumerate() {
        *y = match T::DTYPE.kind() {
            Kind::Float => T::from_f64(f(x.at(i).to_f64())),
            _ => T::from_i64(op.dispatch_int(IntAt(x.at(i).to_i64())).unwrap_or(0)),
        };
    }
}

fn pair<T: Scalar>(op: BinaryOp, a: T, b: T) -> T {
    match T::DTYPE.kind() {
        Kind::Float => T::from_f64(op.scalar_f64()(a.to_f64(), b.to_f64())),
        _ => T::from_i64(op.dispatch_int(IntPair(a.to_i64(), b.to_i64())).unwrap_or(0)),
    }
}

/// `y = op(a, b)`; the dtype was checked.
pub(crate) fn binary<T: Scalar>(op: BinaryOp, _isa: Isa, a: Operand<T>, b: Operand<T>, y: &mut [T]) {
    for (i, y) in y.iter_mut().enumerate() {
        *y = pair(op, a.at(i), b.at(i));
    }
}

/// `y = op(y, b)`; the dtype was checked.
pub(crate) fn binary_into<T: Scalar>(op: BinaryOp, _isa: Isa, y: &mut [T], b: Operand<T>) {
    for (i, y) in y.iter_mut().enumerate() {
        *y = pair(op, *y, b.at(i));
    }
}

/// `y = op(a, b)` as bools.
pub(crate) fn compare<T: Scalar>(op: CompareOp, _isa: Isa, a: Operand<T>, b: Operand<T>, y: &mut [Bool]) {
    for (i, y) in y.iter_mut().enumerate() {
        let answer = match T::DTYPE.kind() {
            Kind::Float => op.scalar(a.at(i).to_f64(), b.at(i).to_f64()),
            _ => op.scalar(a.at(i).to_i64(), b.at(i).to_i64()),
        };
        *y = Bool(answer as u8);
    }
}

/// `y = op(x)` as bools.
pub(crate) fn predicate<T: Scalar>(op: PredicateOp, _isa: Isa, x: Operand<T>, y: &mut [Bool]) {
    for (i, y) in y.iter_mut().enumerate() {
        let answer = match T::DTYPE.kind() {
            Kind::Float => op.scalar(x.at(i).to_f64()),
            _ => op.scalar(x.at(i).to_i64()),
        };
        *y = Bool(answer as u8);
    }
}
