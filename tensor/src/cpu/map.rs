//! Elementwise kernels over slices, by dtype.

use crate::cpu::isa::Isa;
use crate::cpu::moves::Unit;
use crate::cpu::simd::map::{self, Pair};
use crate::cpu::wide::dispatch;
use crate::op::binary::{BinaryFormula, BinaryIntFormula, BinaryIntVisitor, BinaryVisitor};
use crate::op::unary::{UnaryIntFormula, UnaryIntVisitor};
use crate::op::{BinaryOp, CompareOp, PredicateOp, UnaryOp};
use crate::{Bool, DType, Error, Kind, Result, Scalar};
use half::{bf16, f16};
use std::iter::repeat;

/// What a kernel reads: elements, or one element for all.
#[derive(Clone, Copy)]
pub(crate) enum Operand<'a, T> {
    Slice(&'a [T]),
    Scalar(T),
}

impl<T: bytemuck::Pod> Operand<'_, T> {
    /// The elements as `E`, which is the same type or, for bools, their byte.
    fn elements<E: bytemuck::Pod>(&self) -> &[E] {
        bytemuck::cast_slice(match self {
            Operand::Slice(s) => s,
            Operand::Scalar(x) => std::slice::from_ref(x),
        })
    }
}

impl<'a, T: bytemuck::Pod> Operand<'a, T> {
    /// The elements as units of their size.
    pub(crate) fn as_unit<U: Unit>(self) -> Operand<'a, U> {
        match self {
            Operand::Slice(x) => Operand::Slice(bytemuck::cast_slice(x)),
            Operand::Scalar(x) => Operand::Scalar(bytemuck::cast(x)),
        }
    }
}

impl<T: Copy> Operand<'_, T> {
    /// `len` elements from `start` on.
    pub(crate) fn part(&self, start: usize, len: usize) -> Self {
        match self {
            Operand::Slice(x) => Operand::Slice(&x[start..][..len]),
            Operand::Scalar(x) => Operand::Scalar(*x),
        }
    }

    /// The elements written to `y`.
    pub(crate) fn copy_to(self, y: &mut [T]) {
        match self {
            Operand::Slice(x) => y.copy_from_slice(x),
            Operand::Scalar(x) => y.fill(x),
        }
    }
}

/// Evaluates an expression with `$E` the type that kernels know the elements of `$T` by.
macro_rules! with_element {
    ($T:ident, $E:ident => $body:expr) => {
        with_element!(@ $T, $E => $body;
            F32 f32, F64 f64, F16 f16, BF16 bf16, I64 i64, I32 i32, I8 i8, U32 u32, U8 u8, Bool u8)
    };
    (@ $T:ident, $E:ident => $body:expr; $($D:ident $Type:ty),+) => {
        match $T::DTYPE { $(DType::$D => { type $E = $Type; $body })+ }
    };
}

/// Tells whether there is a formula to visit.
struct Has;
impl UnaryIntVisitor for Has {
    type Output = ();
    fn visit<F: UnaryIntFormula>(self) {}
}
impl BinaryIntVisitor for Has {
    type Output = ();
    fn visit<F: BinaryIntFormula>(self) {}
}

/// Errors unless the op has a meaning for the dtype.
pub(crate) fn check_unary(op: UnaryOp, dtype: DType) -> Result<()> {
    match dtype.kind() {
        Kind::Float => Ok(()),
        Kind::Int if op.dispatch_int(Has).is_some() => Ok(()),
        _ => Err(Error::dtype(op.name(), dtype, "floats")),
    }
}

impl BinaryVisitor for Has {
    type Output = ();
    fn visit<F: BinaryFormula>(self) {}
}

/// Whether the op's gradient takes one pass.
pub(crate) fn has_gradient(op: UnaryOp) -> bool {
    op.dispatch_gradient(Has).is_some()
}

/// Errors unless the op has a meaning for the dtype.
pub(crate) fn check_binary(op: BinaryOp, dtype: DType) -> Result<()> {
    match dtype.kind() {
        Kind::Float => Ok(()),
        Kind::Int if op.dispatch_int(Has).is_some() => Ok(()),
        _ => Err(Error::dtype(op.name(), dtype, "floats")),
    }
}

/// `y = op(x)`; the dtype was checked.
pub(crate) fn unary<T: Scalar>(op: UnaryOp, isa: Isa, x: Operand<T>, y: &mut [T]) {
    let done = with_element!(T, E => match x {
        Operand::Slice(x) => map::unary::<E>(op, isa, bytemuck::cast_slice(x), bytemuck::cast_slice_mut(y)),
        Operand::Scalar(x) => {
            // One result for all.
            let mut one = [x];
            let done = map::unary_inplace::<E>(op, isa, bytemuck::cast_slice_mut(&mut one));
            y.fill(one[0]);
            done
        }
    });
    done.expect("the dtype was checked");
}

/// `y = op(y)`; the dtype was checked.
pub(crate) fn unary_in_place<T: Scalar>(op: UnaryOp, isa: Isa, y: &mut [T]) {
    let done = with_element!(T, E => map::unary_inplace::<E>(op, isa, bytemuck::cast_slice_mut(y)));
    done.expect("the dtype was checked");
}

/// `y = op(a, b)`; the dtype was checked.
pub(crate) fn binary<T: Scalar>(op: Pair, isa: Isa, a: Operand<T>, b: Operand<T>, y: &mut [T]) {
    let done = with_element!(T, E => {
        map::binary::<E>(op, isa, a.elements(), b.elements(), bytemuck::cast_slice_mut(y))
    });
    done.expect("the dtype was checked");
}

/// `y = op(y, b)`; the dtype was checked.
pub(crate) fn binary_into<T: Scalar>(op: BinaryOp, isa: Isa, y: &mut [T], b: Operand<T>) {
    let done = with_element!(T, E => {
        map::binary_into_left::<E>(op, isa, bytemuck::cast_slice_mut(y), b.elements())
    });
    done.expect("the dtype was checked");
}

/// `y = op(a, b)` as bools.
pub(crate) fn compare<T: Scalar>(op: CompareOp, isa: Isa, a: Operand<T>, b: Operand<T>, y: &mut [Bool]) {
    with_element!(T, E => {
        map::compare::<E>(op, isa, a.elements(), b.elements(), bytemuck::cast_slice_mut(y))
    });
}

/// `y = op(x)` as bools.
pub(crate) fn predicate<T: Scalar>(op: PredicateOp, isa: Isa, x: Operand<T>, y: &mut [Bool]) {
    let mut answer = [0];
    match x {
        Operand::Slice(x) => {
            with_element!(T, E => map::predicate::<E>(op, isa, bytemuck::cast_slice(x), bytemuck::cast_slice_mut(y)));
        }
        Operand::Scalar(_) => {
            with_element!(T, E => map::predicate::<E>(op, isa, x.elements(), &mut answer));
            y.fill(Bool(answer[0]));
        }
    }
}

/// `y = c ? a : b`, element by element.
#[inline(always)]
fn pick<U: Copy>(c: &[u8], a: impl Iterator<Item = U>, b: impl Iterator<Item = U>, y: &mut [U]) {
    for (((y, &c), a), b) in y.iter_mut().zip(c).zip(a).zip(b) {
        *y = if c != 0 { a } else { b };
    }
}

dispatch! {
    /// `y = a` where `c` is not 0, else `b`; units stand for elements of their size.
    pub(crate) fn select<U: Unit>(c: &[u8], a: Operand<U>, b: Operand<U>, y: &mut [U]) {
        match (a, b) {
            (Operand::Slice(a), Operand::Slice(b)) => pick(c, a.iter().copied(), b.iter().copied(), y),
            (Operand::Slice(a), Operand::Scalar(b)) => pick(c, a.iter().copied(), repeat(b), y),
            (Operand::Scalar(a), Operand::Slice(b)) => pick(c, repeat(a), b.iter().copied(), y),
            (Operand::Scalar(a), Operand::Scalar(b)) => pick(c, repeat(a), repeat(b), y),
        }
    }
}
