//! One lane: `f32` itself, the reference that every vector must equal bit for bit, and [`Plain`], the portable level.

use super::lanes::{BitLanes, Lanes};
use std::ops::{Add, Div, Mul, Neg, Sub};

/// An `f32` whose [`mul_add`](Lanes::mul_add) rounds twice, unless the program is compiled for a machine that fuses.
///
/// Loops of it are plain enough for the compiler to vectorise for whatever machine it knows. Results may differ in the last bits
/// from those of the other levels, within the same bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain(f32);

/// Whether every machine the program can run on fuses multiplication and addition.
const FUSED: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

/// The bits of a [`Plain`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainBits(i32);

macro_rules! plain_operators {
    ($($Op:ident $op:ident)+) => { $(
        impl $Op for Plain {
            type Output = Plain;
            #[inline(always)]
            fn $op(self, other: Plain) -> Plain {
                Plain(self.0.$op(other.0))
            }
        }
    )+ };
}
plain_operators!(Add add Sub sub Mul mul Div div);

impl Neg for Plain {
    type Output = Plain;
    #[inline(always)]
    fn neg(self) -> Plain {
        Plain(-self.0)
    }
}

/// Implements [`Lanes`] for a type around one `f32`: how to wrap it, how to reach it, and its products.
macro_rules! one_lane {
    ($T:ty, $Bits:ty, $wrap:expr, $bits:expr, |$x:ident| $inner:expr, |$i:ident| $int:expr, $mul_add:expr, $exact:expr) => {
        impl Lanes for $T {
            type Mask = bool;
            type Bits = $Bits;
            const WIDTH: usize = 1;

            #[inline(always)]
            fn splat(value: f32) -> Self {
                $wrap(value)
            }
            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                // SAFETY: the caller's promise.
                $wrap(unsafe { from.read_unaligned() })
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                let $x = self;
                // SAFETY: the caller's promise.
                unsafe { to.write_unaligned($inner) }
            }
            #[inline(always)]
            fn mul_add(self, factor: Self, term: Self) -> Self {
                $mul_add(self, factor, term)
            }
            #[inline(always)]
            fn mul_add_exact(self, factor: Self, term: Self) -> Self {
                $exact(self, factor, term)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                let $x = self;
                $wrap(f32::sqrt($inner))
            }
            #[inline(always)]
            fn floor(self) -> Self {
                let $x = self;
                $wrap(f32::floor($inner))
            }
            #[inline(always)]
            fn ceil(self) -> Self {
                let $x = self;
                $wrap(f32::ceil($inner))
            }
            #[inline(always)]
            fn trunc(self) -> Self {
                let $x = self;
                $wrap(f32::trunc($inner))
            }
            #[inline(always)]
            fn round(self) -> Self {
                let $x = self;
                $wrap(f32::round_ties_even($inner))
            }
            #[inline(always)]
            fn larger(self, other: Self) -> Self {
                if Lanes::lt(other, self) { self } else { other }
            }
            #[inline(always)]
            fn smaller(self, other: Self) -> Self {
                if Lanes::lt(self, other) { self } else { other }
            }
            #[inline(always)]
            fn lt(self, other: Self) -> bool {
                let one = |$x: Self| $inner;
                one(self) < one(other)
            }
            #[inline(always)]
            fn le(self, other: Self) -> bool {
                let one = |$x: Self| $inner;
                one(self) <= one(other)
            }
            #[inline(always)]
            fn eq(self, other: Self) -> bool {
                let one = |$x: Self| $inner;
                one(self) == one(other)
            }
            #[inline(always)]
            fn select(mask: bool, yes: Self, no: Self) -> Self {
                if mask { yes } else { no }
            }
            #[inline(always)]
            fn any(mask: bool) -> bool {
                mask
            }
            #[inline(always)]
            fn bits(self) -> Self::Bits {
                let $x = self;
                $bits(f32::to_bits($inner) as i32)
            }
            #[inline(always)]
            fn split_pairs(self, next: Self) -> (Self, Self) {
                (self, next)
            }
            #[inline(always)]
            fn join_pairs(self, odd: Self) -> (Self, Self) {
                (self, odd)
            }
        }

        impl BitLanes for $Bits {
            type Float = $T;

            #[inline(always)]
            fn splat(value: i32) -> Self {
                $bits(value)
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                let one = |$i: Self| $int;
                $bits(i32::wrapping_add(one(self), one(other)))
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                let one = |$i: Self| $int;
                $bits(i32::wrapping_sub(one(self), one(other)))
            }
            #[inline(always)]
            fn and(self, other: Self) -> Self {
                let one = |$i: Self| $int;
                $bits(one(self) & one(other))
            }
            #[inline(always)]
            fn or(self, other: Self) -> Self {
                let one = |$i: Self| $int;
                $bits(one(self) | one(other))
            }
            #[inline(always)]
            fn xor(self, other: Self) -> Self {
                let one = |$i: Self| $int;
                $bits(one(self) ^ one(other))
            }
            #[inline(always)]
            fn shl<const N: u32>(self) -> Self {
                let $i = self;
                $bits($int << N)
            }
            #[inline(always)]
            fn shr<const N: u32>(self) -> Self {
                let $i = self;
                $bits($int >> N)
            }
            #[inline(always)]
            fn is_zero(self) -> bool {
                let $i = self;
                $int == 0
            }
            #[inline(always)]
            fn to_float(self) -> $T {
                let $i = self;
                $wrap($int as f32)
            }
            #[inline(always)]
            fn as_float(self) -> $T {
                let $i = self;
                $wrap(f32::from_bits($int as u32))
            }
        }
    };
}

one_lane!(f32, i32, std::convert::identity, std::convert::identity, |x| x, |i| i, f32::mul_add, f32::mul_add);
one_lane!(
    Plain,
    PlainBits,
    Plain,
    PlainBits,
    |x| x.0,
    |i| i.0,
    |a: Plain, b: Plain, c: Plain| Plain(if FUSED { f32::mul_add(a.0, b.0, c.0) } else { a.0 * b.0 + c.0 }),
    // The product is exact in double precision; the sum is rounded there before it is rounded to single.
    |a: Plain, b: Plain, c: Plain| Plain((f64::from(a.0) * f64::from(b.0) + f64::from(c.0)) as f32)
);
