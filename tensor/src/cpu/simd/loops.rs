//! The loops: a formula over all elements of a slice, for every dtype and instruction set.
//!
//! They take pointers, because the output may be one of the inputs: each block is read before it is written. A *step* of 0
//! instead of 1 repeats the first element of an operand. None of them reads or writes beyond its `n` elements.

use super::fused::Double;
use super::lanes::{Lanes, MAX_WIDTH};
use super::levels::levels;
use super::two::Two;
use crate::cpu::isa::Isa;
use crate::op::binary::{BinaryFormula, BinaryIntFormula, BinaryIntVisitor, BinaryVisitor};
use crate::op::compare::{Comparable, CompareFormula, CompareVisitor, PredicateFormula, PredicateVisitor};
use crate::op::unary::{UnaryFormula, UnaryIntFormula, UnaryIntVisitor, UnaryVisitor};
use crate::op::{Int, Real};
use std::{marker::PhantomData, ptr::copy_nonoverlapping};

/// `y[i] = f(x[i])` for `i < n`: `(x, y, n)`.
///
/// To be called with `x` readable and `y` writable for `n` elements; they may be equal but not overlap otherwise.
pub(super) type Unary<T, U = T> = unsafe fn(*const T, *mut U, usize);

/// `y[i] = f(a[i · a_step], b[i · b_step])` for `i < n`: `(a, a_step, b, b_step, y, n)`.
///
/// To be called with `y` writable for `n` elements, and `a` and `b` readable for `n` if their step is 1, for one if it is
/// 0; an operand of step 1 may equal `y`, and none may overlap it otherwise.
pub(super) type Binary<T, U = T> = unsafe fn(*const T, usize, *const T, usize, *mut U, usize);

levels! {
    /// The loop of a unary formula over `f32`.
    vectors fn unary_f32<F: UnaryFormula>(x: *const f32, y: *mut f32, n: usize) {
        // SAFETY: the caller's promise is the same.
        unsafe { map_vectors::<V, F>(x, y, n) }
    }
}

levels! {
    /// The loop of a binary formula over `f32`.
    vectors fn binary_f32<F: BinaryFormula>(
        a: *const f32, a_step: usize, b: *const f32, b_step: usize, y: *mut f32, n: usize
    ) {
        // SAFETY: the caller's promise is the same.
        unsafe { zip_vectors::<V, F>(a, a_step, b, b_step, y, n) }
    }
}

levels! {
    /// The loop of a unary formula over `f64`.
    doubles fn unary_f64<F: UnaryFormula>(x: *const f64, y: *mut f64, n: usize) {
        // SAFETY: the caller's promise is the same.
        unsafe { map_blocks(x, y, n, |x| F::eval(D::splat(x)).get()) }
    }
}

levels! {
    /// The loop of a binary formula over `f64`.
    doubles fn binary_f64<F: BinaryFormula>(
        a: *const f64, a_step: usize, b: *const f64, b_step: usize, y: *mut f64, n: usize
    ) {
        // SAFETY: the caller's promise is the same.
        unsafe { zip_blocks(a, a_step, b, b_step, y, n, |a, b| F::eval(D::splat(a), D::splat(b)).get()) }
    }
}

levels! {
    /// The loop of a unary formula over integers.
    once fn unary_int<T: Integer, F: UnaryIntFormula>(x: *const T, y: *mut T, n: usize) {
        // SAFETY: the caller's promise is the same.
        unsafe { map_blocks(x, y, n, F::eval::<T>) }
    }
}

levels! {
    /// The loop of a binary formula over integers.
    once fn binary_int<T: Integer, F: BinaryIntFormula>(
        a: *const T, a_step: usize, b: *const T, b_step: usize, y: *mut T, n: usize
    ) {
        // SAFETY: the caller's promise is the same.
        unsafe { zip_blocks(a, a_step, b, b_step, y, n, F::eval::<T>) }
    }
}

levels! {
    /// The loop of a comparison.
    once fn compare<T: Comparable, F: CompareFormula>(
        a: *const T, a_step: usize, b: *const T, b_step: usize, y: *mut u8, n: usize
    ) {
        // SAFETY: the caller's promise is the same.
        unsafe { zip_blocks(a, a_step, b, b_step, y, n, |a, b| u8::from(F::eval(a, b))) }
    }
}

levels! {
    /// The loop of a predicate.
    once fn predicate<T: Comparable, F: PredicateFormula>(x: *const T, y: *mut u8, n: usize) {
        // SAFETY: the caller's promise is the same.
        unsafe { map_blocks(x, y, n, |x| u8::from(F::eval(x))) }
    }
}

/// An integer dtype.
pub(super) trait Integer: Int + Comparable {}
impl<T: Int + Comparable> Integer for T {}

/// Chooses one of the loops above for an op known at run time.
pub(super) struct Choose<T>(pub(super) Isa, pub(super) PhantomData<T>);

impl UnaryVisitor for Choose<f32> {
    type Output = Unary<f32>;
    fn visit<F: UnaryFormula>(self) -> Self::Output {
        unary_f32::<F>(self.0)
    }
}

impl UnaryVisitor for Choose<f64> {
    type Output = Unary<f64>;
    fn visit<F: UnaryFormula>(self) -> Self::Output {
        unary_f64::<F>(self.0)
    }
}

impl<T: Integer> UnaryIntVisitor for Choose<T> {
    type Output = Unary<T>;
    fn visit<F: UnaryIntFormula>(self) -> Self::Output {
        unary_int::<T, F>()
    }
}

impl BinaryVisitor for Choose<f32> {
    type Output = Binary<f32>;
    fn visit<F: BinaryFormula>(self) -> Self::Output {
        binary_f32::<F>(self.0)
    }
}

impl BinaryVisitor for Choose<f64> {
    type Output = Binary<f64>;
    fn visit<F: BinaryFormula>(self) -> Self::Output {
        binary_f64::<F>(self.0)
    }
}

impl<T: Integer> BinaryIntVisitor for Choose<T> {
    type Output = Binary<T>;
    fn visit<F: BinaryIntFormula>(self) -> Self::Output {
        binary_int::<T, F>()
    }
}

impl<T: Comparable> CompareVisitor for Choose<T> {
    type Output = Binary<T, u8>;
    fn visit<F: CompareFormula>(self) -> Self::Output {
        compare::<T, F>()
    }
}

impl<T: Comparable> PredicateVisitor for Choose<T> {
    type Output = Unary<T, u8>;
    fn visit<F: PredicateFormula>(self) -> Self::Output {
        predicate::<T, F>()
    }
}

/// Elements per block of a loop over scalars: the results are collected on the stack, where the compiler sees that they
/// overlap nothing, so that loops in place vectorise too.
const BLOCK: usize = 64;

/// # Safety
/// As [`Unary`].
#[inline(always)]
unsafe fn map_blocks<T: Copy + Default, U: Copy + Default>(
    x: *const T,
    y: *mut U,
    n: usize,
    f: impl Fn(T) -> U,
) {
    let (mut rest, mut output) = ([T::default(); BLOCK], [U::default(); BLOCK]);
    for start in (0..n).step_by(BLOCK) {
        let len = BLOCK.min(n - start);
        // SAFETY: `start + len <= n`, `len <= BLOCK`; a short rest goes through an array. What is read is no longer borrowed
        // when the output, which may be the same elements, is written.
        unsafe {
            let mut input = x.add(start).cast();
            if len < BLOCK {
                copy_nonoverlapping(x.add(start), rest.as_mut_ptr(), len);
                input = &raw const rest;
            }
            for (y, &x) in output.iter_mut().zip(&*input) {
                *y = f(x);
            }
            copy_nonoverlapping(output.as_ptr(), y.add(start), len);
        }
    }
}

/// # Safety
/// As [`Binary`].
#[inline(always)]
unsafe fn zip_blocks<T: Copy + Default, U: Copy + Default>(
    a: *const T,
    a_step: usize,
    b: *const T,
    b_step: usize,
    y: *mut U,
    n: usize,
    f: impl Fn(T, T) -> U,
) {
    if n == 0 {
        return;
    }
    // SAFETY: `n > 0`, so that both operands have a first element.
    let (mut left, mut right) = unsafe { ([*a; BLOCK], [*b; BLOCK]) };
    let mut output = [U::default(); BLOCK];
    for start in (0..n).step_by(BLOCK) {
        let len = BLOCK.min(n - start);
        // SAFETY: `start + len <= n`, `len <= BLOCK`; a repeated element and a short rest are in arrays. What is read is no
        // longer borrowed when the output, which may be the same elements, is written.
        unsafe {
            let (from_a, from_b): (*const [T; BLOCK], *const [T; BLOCK]) =
                (block_at(a, a_step, start, len, &mut left), block_at(b, b_step, start, len, &mut right));
            for ((y, &a), &b) in output.iter_mut().zip(&*from_a).zip(&*from_b) {
                *y = f(a, b);
            }
            copy_nonoverlapping(output.as_ptr(), y.add(start), len);
        }
    }
}

/// A block of an operand: its memory, or the array that holds a repeated element, or else takes a short rest.
///
/// # Safety
/// `len` elements are readable from `start` on, if the step is 1.
#[inline(always)]
unsafe fn block_at<T: Copy>(
    x: *const T,
    step: usize,
    start: usize,
    len: usize,
    block: &mut [T; BLOCK],
) -> *const [T; BLOCK] {
    // SAFETY: the caller's promise.
    unsafe {
        if step == 1 && len == BLOCK {
            return x.add(start).cast();
        }
        copy_nonoverlapping(x.add(start * step), block.as_mut_ptr(), len * step);
    }
    block
}

/// # Safety
/// As [`Unary`], in a function compiled for the instruction set of `V`.
#[inline(always)]
unsafe fn map_vectors<V: Lanes, F: UnaryFormula>(x: *const f32, y: *mut f32, n: usize) {
    if V::WIDTH == 1 {
        // SAFETY: the caller's promise is the same.
        return unsafe { map_blocks(x, y, n, |x| F::eval(V::splat(x)).first()) };
    }
    let (mut buffer, width) = ([0.0f32; MAX_WIDTH], Two::<V>::WIDTH);
    for start in (0..n).step_by(width) {
        let len = width.min(n - start);
        // SAFETY: `start + len <= n`; a short rest goes through the buffer, which has room for both vectors.
        unsafe {
            let (mut from, mut to) = (x.add(start), y.add(start));
            if len < width {
                copy_nonoverlapping(from, buffer.as_mut_ptr(), len);
                (from, to) = (buffer.as_ptr(), buffer.as_mut_ptr());
            }
            F::eval(Two::<V>::load(from)).store(to);
            if len < width {
                copy_nonoverlapping(buffer.as_ptr(), y.add(start), len);
            }
        }
    }
}

/// # Safety
/// As [`Binary`], in a function compiled for the instruction set of `V`.
#[inline(always)]
unsafe fn zip_vectors<V: Lanes, F: BinaryFormula>(
    a: *const f32,
    a_step: usize,
    b: *const f32,
    b_step: usize,
    y: *mut f32,
    n: usize,
) {
    if V::WIDTH == 1 {
        let f = |a, b| F::eval(V::splat(a), V::splat(b)).first();
        // SAFETY: the caller's promise is the same.
        return unsafe { zip_blocks(a, a_step, b, b_step, y, n, f) };
    }
    if n == 0 {
        return;
    }
    // SAFETY: `n > 0`, so that both operands have a first element.
    let (mut left, mut right) = unsafe { ([*a; MAX_WIDTH], [*b; MAX_WIDTH]) };
    for start in (0..n).step_by(V::WIDTH) {
        let len = V::WIDTH.min(n - start);
        // SAFETY: `start + len <= n`; a repeated element and a short rest go through the buffers, which have room for a
        // whole vector and hold initialised elements beyond `len`.
        unsafe {
            let (mut from_a, mut from_b, mut to) =
                (a.add(start * a_step), b.add(start * b_step), y.add(start));
            if len < V::WIDTH {
                copy_nonoverlapping(a.add(start * a_step), left.as_mut_ptr(), len * a_step);
                copy_nonoverlapping(b.add(start * b_step), right.as_mut_ptr(), len * b_step);
                (from_a, from_b, to) = (left.as_ptr(), right.as_ptr(), left.as_mut_ptr());
            }
            if a_step == 0 {
                from_a = left.as_ptr();
            }
            if b_step == 0 {
                from_b = right.as_ptr();
            }
            F::eval(V::load(from_a), V::load(from_b)).store(to);
            if len < V::WIDTH {
                copy_nonoverlapping(left.as_ptr(), y.add(start), len);
            }
        }
    }
}
