//! [`Lanes`]: the few operations that a vector of `f32` must offer; everything else is written once on top of them.
//!
//! A vector type of some instruction set may only be used inside a function compiled for that set: the loops in
//! [`super::map`] are the only ones, and they are entered after the level was checked. That is what the `SAFETY` notes of
//! the vector types rest on, and why none of them leaves this crate.

use std::ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Not, Sub};

/// The widest vector of any instruction set, in lanes, and [two](super::two) of them.
pub(crate) const MAX_WIDTH: usize = 32;

/// `f32`, [`WIDTH`](Lanes::WIDTH) at a time. Everything is IEEE 754 with one rounding, so that the same code gives
/// the same bits at every width.
pub trait Lanes:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self>
{
    /// The answers to a comparison.
    type Mask: Copy + BitAnd<Output = Self::Mask> + BitOr<Output = Self::Mask> + Not<Output = Self::Mask>;
    /// The bit patterns, as integers.
    type Bits: BitLanes<Float = Self>;
    /// How many there are.
    const WIDTH: usize;

    /// `value` in every lane.
    fn splat(value: f32) -> Self;
    /// Reads `WIDTH` elements.
    ///
    /// # Safety
    /// `from` points at `WIDTH` initialised elements, of any alignment.
    unsafe fn load(from: *const f32) -> Self;
    /// Writes `WIDTH` elements.
    ///
    /// # Safety
    /// `to` points at room for `WIDTH` elements, of any alignment.
    unsafe fn store(self, to: *mut f32);

    /// `self · factor + term`, rounded once; twice where that is much faster.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// `self · factor + term`, rounded once as far as an error term needs it, at any price.
    fn mul_add_exact(self, factor: Self, term: Self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// The largest integer `<= x`.
    fn floor(self) -> Self;
    /// The smallest integer `>= x`.
    fn ceil(self) -> Self;
    /// `x` without its fraction.
    fn trunc(self) -> Self;
    /// The nearest integer; halves go to the even one.
    fn round(self) -> Self;
    /// `self > other ? self : other`.
    fn larger(self, other: Self) -> Self;
    /// `self < other ? self : other`.
    fn smaller(self, other: Self) -> Self;
    /// `self < other`.
    fn lt(self, other: Self) -> Self::Mask;
    /// `self <= other`.
    fn le(self, other: Self) -> Self::Mask;
    /// `self == other`.
    fn eq(self, other: Self) -> Self::Mask;
    /// `yes` where the mask is true, `no` elsewhere.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;
    /// Whether the mask is true anywhere.
    fn any(mask: Self::Mask) -> bool;
    /// The bit patterns.
    fn bits(self) -> Self::Bits;
    /// Of these lanes followed by those of `next`: every second one from the first, and from the second.
    fn split_pairs(self, next: Self) -> (Self, Self);
    /// The lanes of both by turns: undoes [`split_pairs`](Self::split_pairs).
    fn join_pairs(self, odd: Self) -> (Self, Self);

    /// The first lane.
    #[inline(always)]
    fn first(self) -> f32 {
        let mut lanes = [0.0; MAX_WIDTH];
        // SAFETY: the array has room for `MAX_WIDTH >= WIDTH` elements.
        unsafe { self.store(lanes.as_mut_ptr()) };
        lanes[0]
    }

    /// `self · 2^n`, rounded once, for an integer `-254 <= n <= 254` and `self` close to 1.
    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        let half = super::math::nearest(n * Self::splat(0.5));
        self * super::math::power_of_2(half) * super::math::power_of_2(n - half)
    }

    /// `f` of every lane, computed in double precision: correctly rounded but for rare ties, and slow.
    #[inline(always)]
    fn map(self, f: impl Fn(f64) -> f64) -> Self {
        self.map2(self, |x, _| f(x))
    }

    /// `f` of every pair of lanes, computed in double precision.
    #[inline(always)]
    fn map2(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        let (mut a, mut b) = ([0.0f32; MAX_WIDTH], [0.0f32; MAX_WIDTH]);
        // SAFETY: each array has room for `MAX_WIDTH >= WIDTH` elements, all initialised.
        unsafe {
            self.store(a.as_mut_ptr());
            other.store(b.as_mut_ptr());
        }
        for i in 0..Self::WIDTH {
            a[i] = f(f64::from(a[i]), f64::from(b[i])) as f32;
        }
        // SAFETY: as above.
        unsafe { Self::load(a.as_ptr()) }
    }
}

/// The bit patterns of [`Lanes`] as wrapping 32-bit integers.
pub trait BitLanes: Copy {
    /// The vector these are the bits of.
    type Float: Lanes<Bits = Self>;

    /// `value` in every lane.
    fn splat(value: i32) -> Self;
    /// `self + other`.
    fn add(self, other: Self) -> Self;
    /// `self - other`.
    fn sub(self, other: Self) -> Self;
    /// Bitwise and.
    fn and(self, other: Self) -> Self;
    /// Bitwise or.
    fn or(self, other: Self) -> Self;
    /// Bitwise exclusive or.
    fn xor(self, other: Self) -> Self;
    /// `self << N`.
    fn shl<const N: u32>(self) -> Self;
    /// `self >> N`, copying the sign.
    fn shr<const N: u32>(self) -> Self;
    /// Whether a lane is 0.
    fn is_zero(self) -> <Self::Float as Lanes>::Mask;
    /// The integers as floating-point numbers.
    fn to_float(self) -> Self::Float;
    /// The numbers with these bit patterns.
    fn as_float(self) -> Self::Float;
}
