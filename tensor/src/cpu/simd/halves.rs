//! Loops over 16-bit floats that keep in registers what they widen: for ops that cost less than a way through memory.
//!
//! The others, and levels without such loops, widen a block, compute on it as `f32`, and round it: see [`super::map`]. Both give the
//! same bits.

use super::avx2::Eight;
use super::loops::{Binary, Unary};
use super::map::Pair;
use crate::cpu::isa::Isa;
use crate::op::binary::{self, BinaryFormula};
use crate::op::unary::{self, UnaryFormula};
use crate::op::{BinaryOp, UnaryOp};
use std::ptr::copy_nonoverlapping;

/// The loop of an op, if its row is among these.
macro_rules! rows {
    ($run:ident of $op:expr, $Op:ident in $table:ident: $($Row:ident)+) => {
        match $op {
            $($Op::$Row => Some($run::<T, $table::row::$Row>),)+
            _ => None,
        }
    };
}

/// The loop of a unary op that has one.
pub(super) fn unary<T: Eight>(op: UnaryOp, isa: Isa) -> Option<Unary<T>> {
    if isa < Isa::Avx2 {
        return None;
    }
    rows!(map_eight of op, UnaryOp in unary: Neg Abs Relu Relu6 Square Sqrt Recip)
}

/// The loop of a function of two elements that has one.
pub(super) fn binary<T: Eight>(op: Pair, isa: Isa) -> Option<Binary<T>> {
    if isa < Isa::Avx2 {
        return None;
    }
    match op {
        Pair::Op(op) => rows!(zip_eight of op, BinaryOp in binary: Add Sub Mul Div Maximum Minimum),
        Pair::Gradient(op) => rows!(zip_eight of op, UnaryOp in unary: Relu Square),
    }
}

/// # Safety
/// As [`Unary`]; the machine has AVX2 and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn map_eight<T: Eight, F: UnaryFormula>(x: *const T, y: *mut T, n: usize) {
    let mut buffer = [T::default(); 8];
    for start in (0..n).step_by(8) {
        let len = (n - start).min(8);
        // SAFETY: `start + len <= n`; a short rest goes through the buffer, which has room for eight.
        unsafe {
            let (mut from, mut to) = (x.add(start), y.add(start));
            if len < 8 {
                copy_nonoverlapping(from, buffer.as_mut_ptr(), len);
                (from, to) = (buffer.as_ptr(), buffer.as_mut_ptr());
            }
            T::narrow_8(F::eval(T::widen_8(from)), to);
            if len < 8 {
                copy_nonoverlapping(buffer.as_ptr(), y.add(start), len);
            }
        }
    }
}

/// # Safety
/// As [`Binary`]; the machine has AVX2 and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn zip_eight<T: Eight, F: BinaryFormula>(
    a: *const T,
    a_step: usize,
    b: *const T,
    b_step: usize,
    y: *mut T,
    n: usize,
) {
    if n == 0 {
        return;
    }
    // SAFETY: `n > 0`, so that both operands have a first element.
    let (mut left, mut right) = unsafe { ([*a; 8], [*b; 8]) };
    for start in (0..n).step_by(8) {
        let len = (n - start).min(8);
        // SAFETY: `start + len <= n`; a repeated element and a short rest go through the buffers, which have room for eight.
        unsafe {
            let mut to = y.add(start);
            if len < 8 {
                copy_nonoverlapping(a.add(start * a_step), left.as_mut_ptr(), len * a_step);
                copy_nonoverlapping(b.add(start * b_step), right.as_mut_ptr(), len * b_step);
                to = left.as_mut_ptr();
            }
            let whole = |x: *const T, step: usize, buffer: &[T; 8]| match step == 1 && len == 8 {
                true => x.add(start),
                false => buffer.as_ptr(),
            };
            let (from_a, from_b) = (whole(a, a_step, &left), whole(b, b_step, &right));
            T::narrow_8(F::eval(T::widen_8(from_a), T::widen_8(from_b)), to);
            if len < 8 {
                copy_nonoverlapping(left.as_ptr(), y.add(start), len);
            }
        }
    }
}
