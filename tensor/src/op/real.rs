//! The arithmetic that formulas are written in: [`Real`] for floating-point numbers, one or many at a time, and
//! [`Int`] for integers.
//!
//! A formula has no branches: it computes both sides and [`select`](Real::select)s, because a vector may need both.

use std::ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Not, Sub};

/// A real number, or several side by side: `f32`, `f64` and the vectors of `cpu::simd`.
///
/// Comparisons with NaN are false, except [`ne`](Real::ne). Functions follow IEEE 754 and C at zeros, infinities and
/// NaN: `ln(-1)` is NaN, `ln(0)` is `-∞`, `atan2(-0, -1)` is `-π`.
pub trait Real:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self>
{
    /// The answers to a comparison, lane by lane.
    type Mask: Copy + BitAnd<Output = Self::Mask> + BitOr<Output = Self::Mask> + Not<Output = Self::Mask>;

    /// The constant `value`, rounded to this type, in every lane.
    fn splat(value: f64) -> Self;

    /// `0`.
    #[inline(always)]
    fn zero() -> Self {
        Self::splat(0.0)
    }

    /// `1`.
    #[inline(always)]
    fn one() -> Self {
        Self::splat(1.0)
    }

    /// `self · factor + term`, rounded once where the machine can.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// `|x|`.
    fn abs(self) -> Self;
    /// `√x`, correctly rounded.
    fn sqrt(self) -> Self;
    /// The largest integer `<= x`.
    fn floor(self) -> Self;
    /// The smallest integer `>= x`.
    fn ceil(self) -> Self;
    /// `x` without its fraction.
    fn trunc(self) -> Self;
    /// The nearest integer; halves go to the even one.
    fn round(self) -> Self;
    /// The larger one; NaN if either is NaN.
    fn max(self, other: Self) -> Self;
    /// The smaller one; NaN if either is NaN.
    fn min(self, other: Self) -> Self;
    /// `|self|` with the sign bit of `sign`.
    fn copysign(self, sign: Self) -> Self;

    /// `e^x`.
    fn exp(self) -> Self;
    /// `e^x - 1`, accurate near 0.
    fn exp_m1(self) -> Self;
    /// `2^x`.
    fn exp2(self) -> Self;
    /// The natural logarithm.
    fn ln(self) -> Self;
    /// `ln(1 + x)`, accurate near 0.
    fn ln_1p(self) -> Self;
    /// The logarithm to base 2, exact for powers of 2.
    fn log2(self) -> Self;
    /// The logarithm to base 10.
    fn log10(self) -> Self;

    /// Sine of an angle in radians.
    fn sin(self) -> Self;
    /// Cosine of an angle in radians.
    fn cos(self) -> Self;
    /// Tangent of an angle in radians.
    fn tan(self) -> Self;
    /// The angle in `[-π/2, π/2]` whose sine is `x`.
    fn asin(self) -> Self;
    /// The angle in `[0, π]` whose cosine is `x`.
    fn acos(self) -> Self;
    /// The angle in `[-π/2, π/2]` whose tangent is `x`.
    fn atan(self) -> Self;
    /// Hyperbolic sine.
    fn sinh(self) -> Self;
    /// Hyperbolic cosine.
    fn cosh(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// The error function, `2/√π · ∫₀ˣ e^(-t²) dt`.
    fn erf(self) -> Self;
    /// `Φ(x) = (1 + erf(x / √2)) / 2`, the share of a standard normal below `x`, accurate far into the lower tail.
    fn normal_cdf(self) -> Self;

    /// `self` to the power `exponent`.
    fn powf(self, exponent: Self) -> Self;
    /// The angle of the point `(x, self)`, in `[-π, π]`.
    fn atan2(self, x: Self) -> Self;
    /// The exact remainder of `self / divisor` with the sign of `self`, as C's `fmod`.
    fn fmod(self, divisor: Self) -> Self;

    /// `self < other`.
    fn lt(self, other: Self) -> Self::Mask;
    /// `self <= other`.
    fn le(self, other: Self) -> Self::Mask;
    /// `self == other`.
    fn eq(self, other: Self) -> Self::Mask;
    /// `self > other`.
    #[inline(always)]
    fn gt(self, other: Self) -> Self::Mask {
        other.lt(self)
    }
    /// `self >= other`.
    #[inline(always)]
    fn ge(self, other: Self) -> Self::Mask {
        other.le(self)
    }
    /// `self != other`: true if either is NaN.
    #[inline(always)]
    fn ne(self, other: Self) -> Self::Mask {
        !self.eq(other)
    }
    /// Whether `x` is NaN.
    #[inline(always)]
    fn is_nan(self) -> Self::Mask {
        self.ne(self)
    }

    /// `yes` where the mask is true, `no` elsewhere.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;
}

unsafe extern "C" {
    // SAFETY: both are pure functions of the C mathematics library, which the standard library already links.
    safe fn erf(x: f64) -> f64;
    // SAFETY: as above.
    safe fn erfc(x: f64) -> f64;
}

impl Real for f64 {
    type Mask = bool;

    #[inline(always)]
    fn splat(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        f64::mul_add(self, factor, term)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        f64::abs(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn floor(self) -> Self {
        f64::floor(self)
    }
    #[inline(always)]
    fn ceil(self) -> Self {
        f64::ceil(self)
    }
    #[inline(always)]
    fn trunc(self) -> Self {
        f64::trunc(self)
    }
    #[inline(always)]
    fn round(self) -> Self {
        f64::round_ties_even(self)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        if self > other || self.is_nan() { self } else { other }
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        if self < other || self.is_nan() { self } else { other }
    }
    #[inline(always)]
    fn copysign(self, sign: Self) -> Self {
        f64::copysign(self, sign)
    }
    #[inline(always)]
    fn exp(self) -> Self {
        f64::exp(self)
    }
    #[inline(always)]
    fn exp_m1(self) -> Self {
        f64::exp_m1(self)
    }
    #[inline(always)]
    fn exp2(self) -> Self {
        f64::exp2(self)
    }
    #[inline(always)]
    fn ln(self) -> Self {
        f64::ln(self)
    }
    #[inline(always)]
    fn ln_1p(self) -> Self {
        f64::ln_1p(self)
    }
    #[inline(always)]
    fn log2(self) -> Self {
        f64::log2(self)
    }
    #[inline(always)]
    fn log10(self) -> Self {
        f64::log10(self)
    }
    #[inline(always)]
    fn sin(self) -> Self {
        f64::sin(self)
    }
    #[inline(always)]
    fn cos(self) -> Self {
        f64::cos(self)
    }
    #[inline(always)]
    fn tan(self) -> Self {
        f64::tan(self)
    }
    #[inline(always)]
    fn asin(self) -> Self {
        f64::asin(self)
    }
    #[inline(always)]
    fn acos(self) -> Self {
        f64::acos(self)
    }
    #[inline(always)]
    fn atan(self) -> Self {
        f64::atan(self)
    }
    #[inline(always)]
    fn sinh(self) -> Self {
        f64::sinh(self)
    }
    #[inline(always)]
    fn cosh(self) -> Self {
        f64::cosh(self)
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        f64::tanh(self)
    }
    #[inline(always)]
    fn erf(self) -> Self {
        erf(self)
    }
    #[inline(always)]
    fn normal_cdf(self) -> Self {
        0.5 * erfc(-self * std::f64::consts::FRAC_1_SQRT_2)
    }
    #[inline(always)]
    fn powf(self, exponent: Self) -> Self {
        f64::powf(self, exponent)
    }
    #[inline(always)]
    fn atan2(self, x: Self) -> Self {
        f64::atan2(self, x)
    }
    #[inline(always)]
    fn fmod(self, divisor: Self) -> Self {
        self % divisor
    }
    #[inline(always)]
    fn lt(self, other: Self) -> bool {
        self < other
    }
    #[inline(always)]
    fn le(self, other: Self) -> bool {
        self <= other
    }
    #[inline(always)]
    fn eq(self, other: Self) -> bool {
        self == other
    }
    #[inline(always)]
    fn select(mask: bool, yes: Self, no: Self) -> Self {
        if mask { yes } else { no }
    }
}

/// An integer element. All arithmetic wraps; division by zero gives 0, as in NumPy.
pub trait Int: Copy + Ord + BitAnd<Output = Self> + BitOr<Output = Self> {
    /// `0`.
    const ZERO: Self;
    /// `1`.
    const ONE: Self;
    /// The smallest value of the type.
    const MIN: Self;
    /// The largest value of the type.
    const MAX: Self;

    /// `self + other`.
    fn add(self, other: Self) -> Self;
    /// `self - other`.
    fn sub(self, other: Self) -> Self;
    /// `self · other`.
    fn mul(self, other: Self) -> Self;
    /// `-self`.
    fn neg(self) -> Self;
    /// `|self|`.
    fn abs(self) -> Self;
    /// -1, 0 or 1.
    fn sign(self) -> Self;
    /// The quotient rounded towards `-∞`.
    fn floor_div(self, divisor: Self) -> Self;
    /// The remainder with the sign of the divisor.
    fn remainder(self, divisor: Self) -> Self;
    /// The remainder with the sign of `self`, as C's `%`.
    fn fmod(self, divisor: Self) -> Self;
    /// `self` to the power `exponent`. A negative exponent gives the power truncated to an integer: 0 unless the base
    /// is 1 or -1.
    fn pow(self, exponent: Self) -> Self;
}

macro_rules! impl_int {
    ($($T:ident)+; abs |$x:ident| $abs:expr) => { $(
        impl Int for $T {
            const ZERO: Self = 0;
            const ONE: Self = 1;
            const MIN: Self = $T::MIN;
            const MAX: Self = $T::MAX;

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            #[inline(always)]
            fn neg(self) -> Self {
                self.wrapping_neg()
            }
            #[inline(always)]
            fn abs(self) -> Self {
                let $x = self;
                $abs
            }
            #[inline(always)]
            fn sign(self) -> Self {
                $T::from(self > 0).wrapping_sub($T::from(self < Self::ZERO))
            }
            #[inline(always)]
            fn floor_div(self, divisor: Self) -> Self {
                if divisor == 0 {
                    return 0;
                }
                let quotient = self.wrapping_div(divisor);
                // The quotient was rounded towards zero: up, if a remainder is left and the signs differ.
                let rounded_up = self.wrapping_rem(divisor) != 0 && (self < Self::ZERO) != (divisor < Self::ZERO);
                quotient.wrapping_sub($T::from(rounded_up))
            }
            #[inline(always)]
            fn remainder(self, divisor: Self) -> Self {
                let rest = Int::fmod(self, divisor);
                let differs = rest != 0 && (rest < Self::ZERO) != (divisor < Self::ZERO);
                if differs { rest.wrapping_add(divisor) } else { rest }
            }
            #[inline(always)]
            fn fmod(self, divisor: Self) -> Self {
                if divisor == 0 { 0 } else { self.wrapping_rem(divisor) }
            }
            #[inline(always)]
            fn pow(self, exponent: Self) -> Self {
                if exponent < Self::ZERO {
                    let odd = exponent & 1 != 0;
                    return if self == 1 || (Int::abs(self) == 1 && !odd) {
                        1
                    } else if Int::abs(self) == 1 {
                        self
                    } else {
                        0
                    };
                }
                let (mut power, mut base, mut left) = (Self::ONE, self, exponent);
                while left > 0 {
                    if left & 1 != 0 {
                        power = power.wrapping_mul(base);
                    }
                    base = base.wrapping_mul(base);
                    left >>= 1;
                }
                power
            }
        }
    )+ };
}

impl_int!(i8 i32 i64; abs |x| x.wrapping_abs());
impl_int!(u8 u32; abs |x| x);

#[cfg(test)]
mod tests {
    use super::{Int, Real};

    #[test]
    fn extrema_of_anything_with_nan_are_nan() {
        for (a, b) in [(f64::NAN, 1.0), (1.0, f64::NAN), (f64::NAN, f64::NAN)] {
            assert!(Real::max(a, b).is_nan() && Real::min(a, b).is_nan(), "{a} {b}");
        }
        assert_eq!((Real::max(1.0, 2.0), Real::min(1.0, 2.0)), (2.0, 1.0));
    }

    #[test]
    fn the_normal_distribution_keeps_its_lower_tail() {
        // Φ(-10), from tables.
        let expected = 7.619853024160527e-24;
        assert!((Real::normal_cdf(-10.0f64) / expected - 1.0).abs() < 1e-13);
        assert_eq!(Real::normal_cdf(0.0f64), 0.5);
        assert_eq!(Real::normal_cdf(f64::NEG_INFINITY), 0.0);
        assert_eq!(Real::normal_cdf(f64::INFINITY), 1.0);
    }

    #[test]
    fn integer_division_rounds_down_and_zero_divides_to_zero() {
        for a in i8::MIN..=i8::MAX {
            assert_eq!((a.floor_div(0), a.remainder(0), Int::fmod(a, 0)), (0, 0, 0));
            for b in (i8::MIN..=i8::MAX).filter(|&b| b != 0) {
                let floor = (f64::from(a) / f64::from(b)).floor();
                assert_eq!(a.floor_div(b), floor as i32 as i8, "{a} {b}");
                assert_eq!(f64::from(a.remainder(b)), f64::from(a) - floor * f64::from(b), "{a} {b}");
            }
        }
    }

    #[test]
    fn integer_powers_wrap_and_negative_ones_truncate() {
        assert_eq!(Int::pow(3i32, 4), 81);
        assert_eq!(Int::pow(2u8, 8), 0);
        assert_eq!(Int::pow(0i64, 0), 1);
        assert_eq!([1i8, -1, -1, 2, 0].map(|x| Int::pow(x, -3)), [1, -1, -1, 0, 0]);
        assert_eq!(Int::pow(-1i8, -2), 1);
    }
}
