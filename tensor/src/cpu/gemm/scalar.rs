//! Which types a matrix product exists for, and what each is computed in.

use super::bytes::Pair;
use super::kernel::Kernels;
use super::stream::Streams;
use crate::cpu::isa::Isa;
use crate::cpu::simd::half::{Half, nearest_bf16};
use half::{bf16, f16};

mod sealed {
    /// Kernels trust what the traits of this file say about a type, so only this file implements them.
    pub trait Sealed {}
}

/// A type that the micro-kernels compute in: `f32`, `f64`, `i32` or `i64` (wrapping), or [`Pair`]s of steps.
pub trait Scalar: sealed::Sealed + bytemuck::Pod + Send + Sync + PartialOrd {
    /// Zero, which panels are padded with.
    const ZERO: Self;
    /// Whether it is `f32` or `f64`.
    const FLOAT: bool = false;

    /// `self + other`; integers wrap.
    fn plus(self, other: Self) -> Self;

    /// `self · other + sum`, fused where that costs nothing; integers wrap.
    fn times_plus(self, other: Self, sum: Self) -> Self;

    /// The micro-kernels of this type at an instruction level, or the nearest below it that has some.
    fn kernels(isa: Isa) -> &'static Kernels<Self>;
}

/// True where the target has a fused multiply-add at any level, so that `mul_add` is one instruction.
const FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

macro_rules! float_scalar {
    ($($t:ident)*) => {$(
        impl Scalar for $t {
            const ZERO: Self = 0.0;
            const FLOAT: bool = true;

            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self + other
            }

            #[inline(always)]
            fn times_plus(self, other: Self, sum: Self) -> Self {
                if FUSED { self.mul_add(other, sum) } else { self * other + sum }
            }

            fn kernels(isa: Isa) -> &'static Kernels<Self> {
                super::kernel::tables::$t(isa)
            }
        }
    )*};
}

macro_rules! integer_scalar {
    ($($t:ident)*) => {$(
        impl Scalar for $t {
            const ZERO: Self = 0;

            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            #[inline(always)]
            fn times_plus(self, other: Self, sum: Self) -> Self {
                self.wrapping_mul(other).wrapping_add(sum)
            }

            fn kernels(isa: Isa) -> &'static Kernels<Self> {
                super::kernel::tables::$t(isa)
            }
        }
    )*};
}

impl Scalar for Pair {
    const ZERO: Self = Pair::ZERO;

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self.plus(other)
    }

    #[inline(always)]
    fn times_plus(self, other: Self, sum: Self) -> Self {
        self.times_plus(other, sum)
    }

    fn kernels(isa: Isa) -> &'static Kernels<Self> {
        super::kernel::tables::pair(isa)
    }
}

float_scalar!(f32 f64);
integer_scalar!(i32 i64);

/// A type that matrices are stored in.
///
/// Operands are widened to [`Acc`](GemmElement::Acc) while they are packed; the result is rounded (or wrapped) to
/// the storage type once, after the last product was added.
pub trait GemmElement: sealed::Sealed + bytemuck::Pod + Send + Sync {
    /// The type of every product and sum.
    type Acc: Scalar;

    /// True if `Acc` is this very type, so that kernels may read and write matrices in place.
    const NATIVE: bool;

    /// This value as a number of the accumulator's type; exact.
    fn widen(self) -> Self::Acc;

    /// The nearest value of the storage type; integers wrap.
    fn narrow(acc: Self::Acc) -> Self;

    /// [`widen`](GemmElement::widen) for each element of a slice.
    ///
    /// `wide` and `values` have the same length.
    fn widen_slice(values: &[Self], wide: &mut [Self::Acc]);

    /// [`narrow`](GemmElement::narrow) for each element of a slice.
    ///
    /// `wide` and `values` have the same length.
    fn narrow_slice(wide: &[Self::Acc], values: &mut [Self]);

    /// The kernels that read matrices of this type in place, at an instruction level or the nearest below it that has some.
    fn streams(isa: Isa) -> &'static Streams<Self>;
}

macro_rules! elements {
    ($($t:ident in $acc:ident, $native:literal: |$x:ident| $widen:expr, |$y:ident| $narrow:expr $(, $widen_slice:path, $narrow_slice:path)?;)*) => {$(
        impl sealed::Sealed for $t {}

        impl GemmElement for $t {
            type Acc = $acc;
            const NATIVE: bool = $native;

            #[inline(always)]
            fn widen(self) -> $acc {
                let $x = self;
                $widen
            }

            #[inline(always)]
            fn narrow(acc: $acc) -> Self {
                let $y = acc;
                $narrow
            }

            #[inline(always)]
            fn widen_slice(values: &[Self], wide: &mut [$acc]) {
                elements!(@each values wide, widen $(, $widen_slice)?)
            }

            #[inline(always)]
            fn narrow_slice(wide: &[$acc], values: &mut [Self]) {
                elements!(@each wide values, narrow $(, $narrow_slice)?)
            }

            fn streams(isa: Isa) -> &'static Streams<Self> {
                super::stream::tables::$t(isa)
            }
        }
    )*};
    (@each $from:ident $to:ident, $f:ident) => {
        for (to, from) in $to.iter_mut().zip($from) {
            *to = <Self as GemmElement>::$f(*from);
        }
    };
    (@each $from:ident $to:ident, $f:ident, $slice:path) => {
        $slice($from, $to)
    };
}

elements! {
    f32 in f32, true: |x| x, |y| y;
    f64 in f64, true: |x| x, |y| y;
    i32 in i32, true: |x| x, |y| y;
    i64 in i64, true: |x| x, |y| y;
    Pair in Pair, true: |x| x, |y| y;
    bf16 in f32, false: |x| f32::from_bits(u32::from(x.to_bits()) << 16), |y| nearest_bf16(y);
    f16 in f32, false: |x| x.to_f32(), |y| f16::from_f32(y), Half::widen, Half::narrow;
    u32 in i32, false: |x| x as i32, |y| y as u32;
    u8 in i32, false: |x| i32::from(x), |y| y as u8;
    i8 in i32, false: |x| i32::from(x), |y| y as i8;
}
