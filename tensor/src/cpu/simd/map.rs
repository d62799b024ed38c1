//! An op over slices: the door to the loops, for every dtype.
//!
//! Nothing here uses more than one thread: callers split their work and call these on the pieces, with the instruction set
//! that they asked for once.

use super::half::Half;
#[cfg(target_arch = "x86_64")]
use super::halves;
use super::loops::{Binary, Choose, Unary};
use crate::cpu::isa::{self, Isa};
use crate::op::binary::{BinaryIntVisitor, BinaryVisitor};
use crate::op::compare::Comparable;
use crate::op::{BinaryOp, CompareOp, PredicateOp, UnaryOp};
use half::{bf16, f16};
use std::marker::PhantomData;

/// The op has no formula for integers, or no gradient that one pass computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FloatOnly;

/// A function of two elements: an op of its own, or the gradient of a unary one, which takes that of its result and what
/// its rule saves.
#[derive(Clone, Copy, Debug)]
pub enum Pair {
    /// A row of the table of binary ops.
    Op(BinaryOp),
    /// The gradient in the table of unary ops.
    Gradient(UnaryOp),
}

impl From<BinaryOp> for Pair {
    fn from(op: BinaryOp) -> Pair {
        Pair::Op(op)
    }
}

impl Pair {
    /// PyTorch's name of the op.
    pub fn name(self) -> &'static str {
        match self {
            Pair::Op(op) => op.name(),
            Pair::Gradient(op) => op.name(),
        }
    }

    /// Hands the formula to `visitor`, if there is one.
    fn dispatch<V: BinaryVisitor>(self, visitor: V) -> Result<V::Output, FloatOnly> {
        match self {
            Pair::Op(op) => Ok(op.dispatch(visitor)),
            Pair::Gradient(op) => op.dispatch_gradient(visitor).ok_or(FloatOnly),
        }
    }

    /// Hands the formula for integers to `visitor`, if there is one.
    fn dispatch_int<V: BinaryIntVisitor>(self, visitor: V) -> Result<V::Output, FloatOnly> {
        match self {
            Pair::Op(op) => op.dispatch_int(visitor).ok_or(FloatOnly),
            Pair::Gradient(_) => Err(FloatOnly),
        }
    }
}

/// An element type that ops are computed on: f32, f64, f16, bf16 and the integers. Bools are `u8`.
pub trait Element: Comparable + sealed::Loops {}
impl<T: Comparable + sealed::Loops> Element for T {}

mod sealed {
    use super::{CompareOp, FloatOnly, Isa, Pair, PredicateOp, UnaryOp};

    /// The loops of an element type, on operands as described at [`Unary`](super::Unary) and [`Binary`](super::Binary).
    pub trait Loops: Sized {
        /// # Safety
        /// As [`Unary`](super::Unary); the machine has `isa`.
        unsafe fn unary(
            op: UnaryOp,
            isa: Isa,
            x: *const Self,
            y: *mut Self,
            n: usize,
        ) -> Result<(), FloatOnly>;
        /// # Safety
        /// As [`Binary`](super::Binary); the machine has `isa`.
        unsafe fn binary(
            op: Pair,
            isa: Isa,
            a: (*const Self, usize),
            b: (*const Self, usize),
            y: *mut Self,
            n: usize,
        ) -> Result<(), FloatOnly>;
        /// # Safety
        /// As [`Binary`](super::Binary); the machine has `isa`.
        unsafe fn compare(
            op: CompareOp,
            isa: Isa,
            a: (*const Self, usize),
            b: (*const Self, usize),
            y: *mut u8,
            n: usize,
        );
        /// # Safety
        /// As [`Unary`](super::Unary); the machine has `isa`.
        unsafe fn predicate(op: PredicateOp, isa: Isa, x: *const Self, y: *mut u8, n: usize);
    }
}
use sealed::Loops;

/// `y[i] = op(x[i])`.
///
/// # Panics
/// If the lengths differ, or the machine lacks `isa`.
pub fn unary<T: Element>(op: UnaryOp, isa: Isa, x: &[T], y: &mut [T]) -> Result<(), FloatOnly> {
    assert_eq!(x.len(), y.len(), "{}: lengths differ", op.name());
    check(isa);
    // SAFETY: both slices have `y.len()` elements and do not overlap; the machine has `isa`.
    unsafe { T::unary(op, isa, x.as_ptr(), y.as_mut_ptr(), y.len()) }
}

/// `x[i] = op(x[i])`.
///
/// # Panics
/// If the machine lacks `isa`.
pub fn unary_inplace<T: Element>(op: UnaryOp, isa: Isa, x: &mut [T]) -> Result<(), FloatOnly> {
    check(isa);
    let x_ptr = x.as_mut_ptr();
    // SAFETY: input and output are the same elements; the machine has `isa`.
    unsafe { T::unary(op, isa, x_ptr, x_ptr, x.len()) }
}

/// `y[i] = op(a[i], b[i])`; an operand of one element is repeated.
///
/// # Panics
/// If the lengths differ, or the machine lacks `isa`.
pub fn binary<T: Element>(
    op: impl Into<Pair>,
    isa: Isa,
    a: &[T],
    b: &[T],
    y: &mut [T],
) -> Result<(), FloatOnly> {
    let (a_step, b_step) = (step(a, y.len()), step(b, y.len()));
    check(isa);
    // SAFETY: `step` checked the operands' lengths, neither overlaps `y`; the machine has `isa`.
    unsafe { T::binary(op.into(), isa, (a.as_ptr(), a_step), (b.as_ptr(), b_step), y.as_mut_ptr(), y.len()) }
}

/// `a[i] = op(a[i], b[i])`; a `b` of one element is repeated.
///
/// # Panics
/// If the lengths differ, or the machine lacks `isa`.
pub fn binary_into_left<T: Element>(
    op: impl Into<Pair>,
    isa: Isa,
    a: &mut [T],
    b: &[T],
) -> Result<(), FloatOnly> {
    let b_step = step(b, a.len());
    check(isa);
    let a_ptr = a.as_mut_ptr();
    // SAFETY: `step` checked the length of `b`, which does not overlap `a`; `a` is its own output; the machine has `isa`.
    unsafe { T::binary(op.into(), isa, (a_ptr, 1), (b.as_ptr(), b_step), a_ptr, a.len()) }
}

/// `b[i] = op(a[i], b[i])`; an `a` of one element is repeated.
///
/// # Panics
/// If the lengths differ, or the machine lacks `isa`.
pub fn binary_into_right<T: Element>(
    op: impl Into<Pair>,
    isa: Isa,
    a: &[T],
    b: &mut [T],
) -> Result<(), FloatOnly> {
    let a_step = step(a, b.len());
    check(isa);
    let b_ptr = b.as_mut_ptr();
    // SAFETY: `step` checked the length of `a`, which does not overlap `b`; `b` is its own output; the machine has `isa`.
    unsafe { T::binary(op.into(), isa, (a.as_ptr(), a_step), (b_ptr, 1), b_ptr, b.len()) }
}

/// `y[i] = op(a[i], b[i])`, 0 or 1; an operand of one element is repeated.
///
/// # Panics
/// If the lengths differ, or the machine lacks `isa`.
pub fn compare<T: Element>(op: CompareOp, isa: Isa, a: &[T], b: &[T], y: &mut [u8]) {
    let (a_step, b_step) = (step(a, y.len()), step(b, y.len()));
    check(isa);
    // SAFETY: `step` checked the operands' lengths, neither overlaps `y`; the machine has `isa`.
    unsafe { T::compare(op, isa, (a.as_ptr(), a_step), (b.as_ptr(), b_step), y.as_mut_ptr(), y.len()) }
}

/// `y[i] = op(x[i])`, 0 or 1.
///
/// # Panics
/// If the lengths differ, or the machine lacks `isa`.
pub fn predicate<T: Element>(op: PredicateOp, isa: Isa, x: &[T], y: &mut [u8]) {
    assert_eq!(x.len(), y.len(), "{}: lengths differ", op.name());
    check(isa);
    // SAFETY: both slices have `y.len()` elements and do not overlap; the machine has `isa`.
    unsafe { T::predicate(op, isa, x.as_ptr(), y.as_mut_ptr(), y.len()) }
}

/// The step of an operand for `n` results: 1 if it has `n` elements, 0 if it has one.
fn step<T>(operand: &[T], n: usize) -> usize {
    assert!(operand.len() == n || operand.len() == 1, "an operand has {} elements for {n}", operand.len());
    usize::from(operand.len() == n)
}

/// Panics if the machine lacks `isa`.
fn check(isa: Isa) {
    assert!(isa::has(isa), "this machine lacks {isa}");
}

/// The loops of a type that computes with itself: `$dispatch` gives an op's loop or an error.
macro_rules! native {
    ($($T:ident)+, |$op:ident, $choose:ident| $dispatch:expr, $dispatch_pair:expr) => { $(
        impl Loops for $T {
            unsafe fn unary($op: UnaryOp, isa: Isa, x: *const Self, y: *mut Self, n: usize) -> Result<(), FloatOnly> {
                let $choose = Choose::<Self>(isa, PhantomData);
                let run: Unary<Self> = $dispatch?;
                // SAFETY: the caller's promise is the same.
                unsafe { run(x, y, n) };
                Ok(())
            }
            unsafe fn binary(
                $op: Pair,
                isa: Isa,
                a: (*const Self, usize),
                b: (*const Self, usize),
                y: *mut Self,
                n: usize,
            ) -> Result<(), FloatOnly> {
                let $choose = Choose::<Self>(isa, PhantomData);
                let run: Binary<Self> = $dispatch_pair?;
                // SAFETY: the caller's promise is the same.
                unsafe { run(a.0, a.1, b.0, b.1, y, n) };
                Ok(())
            }
            unsafe fn compare(
                op: CompareOp,
                isa: Isa,
                a: (*const Self, usize),
                b: (*const Self, usize),
                y: *mut u8,
                n: usize,
            ) {
                let run: Binary<Self, u8> = op.dispatch(Choose::<Self>(isa, PhantomData));
                // SAFETY: the caller's promise is the same.
                unsafe { run(a.0, a.1, b.0, b.1, y, n) }
            }
            unsafe fn predicate(op: PredicateOp, isa: Isa, x: *const Self, y: *mut u8, n: usize) {
                let run: Unary<Self, u8> = op.dispatch(Choose::<Self>(isa, PhantomData));
                // SAFETY: the caller's promise is the same.
                unsafe { run(x, y, n) }
            }
        }
    )+ };
}

native!(f32 f64, |op, choose| Ok(op.dispatch(choose)), op.dispatch(choose));
native!(i8 i32 i64 u8 u32, |op, choose| op.dispatch_int(choose).ok_or(FloatOnly), op.dispatch_int(choose));

/// Elements converted at a time: few enough for three blocks of `f32` to stay in the first-level cache.
const BLOCK: usize = 512;

/// The loops of a 16-bit format: in registers where there are such, else blocks are widened, computed on as `f32`, and rounded.
macro_rules! widened {
    ($($T:ident)+) => { $(
        impl Loops for $T {
            unsafe fn unary(op: UnaryOp, isa: Isa, x: *const Self, y: *mut Self, n: usize) -> Result<(), FloatOnly> {
                #[cfg(target_arch = "x86_64")]
                if let Some(run) = halves::unary(op, isa) {
                    // SAFETY: the caller's promise is the same.
                    unsafe { run(x, y, n) };
                    return Ok(());
                }
                let run: Unary<f32> = op.dispatch(Choose::<f32>(isa, PhantomData));
                let mut wide = [0.0f32; BLOCK];
                for start in (0..n).step_by(BLOCK) {
                    let wide = &mut wide[..BLOCK.min(n - start)];
                    // SAFETY: the caller's promise, for the part from `start` on; the block is its own output. The input is
                    // no longer borrowed when the output, which may be the same elements, is.
                    unsafe {
                        Half::widen_at(isa, std::slice::from_raw_parts(x.add(start), wide.len()), wide);
                        run(wide.as_ptr(), wide.as_mut_ptr(), wide.len());
                        Half::narrow_at(isa, wide, std::slice::from_raw_parts_mut(y.add(start), wide.len()));
                    }
                }
                Ok(())
            }
            unsafe fn binary(
                op: Pair,
                isa: Isa,
                a: (*const Self, usize),
                b: (*const Self, usize),
                y: *mut Self,
                n: usize,
            ) -> Result<(), FloatOnly> {
                #[cfg(target_arch = "x86_64")]
                if let Some(run) = halves::binary(op, isa) {
                    // SAFETY: the caller's promise is the same.
                    unsafe { run(a.0, a.1, b.0, b.1, y, n) };
                    return Ok(());
                }
                if n == 0 {
                    return Ok(());
                }
                let run: Binary<f32> = op.dispatch(Choose::<f32>(isa, PhantomData))?;
                let (mut left, mut right, mut result) = ([0.0f32; BLOCK], [0.0f32; BLOCK], [0.0f32; BLOCK]);
                for start in (0..n).step_by(BLOCK) {
                    let len = BLOCK.min(n - start);
                    // SAFETY: the caller's promise, for the part from `start` on; a repeated operand has one element. The
                    // operands are no longer borrowed when the output, which may be the same elements, is.
                    unsafe {
                        widen_operand(isa, a, start, &mut left[..len]);
                        widen_operand(isa, b, start, &mut right[..len]);
                        run(left.as_ptr(), a.1, right.as_ptr(), b.1, result.as_mut_ptr(), len);
                        Half::narrow_at(isa, &result[..len], std::slice::from_raw_parts_mut(y.add(start), len));
                    }
                }
                Ok(())
            }
            unsafe fn compare(
                op: CompareOp,
                isa: Isa,
                a: (*const Self, usize),
                b: (*const Self, usize),
                y: *mut u8,
                n: usize,
            ) {
                if n == 0 {
                    return;
                }
                let run: Binary<f32, u8> = op.dispatch(Choose::<f32>(isa, PhantomData));
                let (mut left, mut right) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
                for start in (0..n).step_by(BLOCK) {
                    let len = BLOCK.min(n - start);
                    // SAFETY: the caller's promise, for the part from `start` on; a repeated operand has one element.
                    unsafe {
                        widen_operand(isa, a, start, &mut left[..len]);
                        widen_operand(isa, b, start, &mut right[..len]);
                        run(left.as_ptr(), a.1, right.as_ptr(), b.1, y.add(start), len);
                    }
                }
            }
            unsafe fn predicate(op: PredicateOp, isa: Isa, x: *const Self, y: *mut u8, n: usize) {
                let run: Unary<f32, u8> = op.dispatch(Choose::<f32>(isa, PhantomData));
                let mut wide = [0.0f32; BLOCK];
                for start in (0..n).step_by(BLOCK) {
                    let len = BLOCK.min(n - start);
                    // SAFETY: the caller's promise, for the part from `start` on.
                    unsafe {
                        widen_operand(isa, (x, 1), start, &mut wide[..len]);
                        run(wide.as_ptr(), y.add(start), len);
                    }
                }
            }
        }
    )+ };
}

widened!(f16 bf16);

/// The elements of an operand from `start` on, or its one repeated element.
///
/// # Safety
/// The operand is readable there: one element if its step is 0, `wide.len()` from `start` on if it is 1.
unsafe fn widen_operand<T: Half>(isa: Isa, (x, step): (*const T, usize), start: usize, wide: &mut [f32]) {
    let len = if step == 0 { 1 } else { wide.len() };
    // SAFETY: the caller's promise.
    Half::widen_at(isa, unsafe { std::slice::from_raw_parts(x.add(start * step), len) }, &mut wide[..len]);
}
