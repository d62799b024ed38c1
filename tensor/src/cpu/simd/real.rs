//! [`Real`] for every vector, through the functions of [`math`](super::math).

use super::{lanes::Lanes, math};
use crate::op::Real;

impl<V: Lanes> Real for V {
    type Mask = V::Mask;

    #[inline(always)]
    fn splat(value: f64) -> Self {
        Lanes::splat(value as f32)
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        Lanes::mul_add(self, factor, term)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        math::abs(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Lanes::sqrt(self)
    }
    #[inline(always)]
    fn floor(self) -> Self {
        Lanes::floor(self)
    }
    #[inline(always)]
    fn ceil(self) -> Self {
        Lanes::ceil(self)
    }
    #[inline(always)]
    fn trunc(self) -> Self {
        Lanes::trunc(self)
    }
    #[inline(always)]
    fn round(self) -> Self {
        Lanes::round(self)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Lanes::select(self.is_nan(), self, self.larger(other))
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Lanes::select(self.is_nan(), self, self.smaller(other))
    }
    #[inline(always)]
    fn copysign(self, sign: Self) -> Self {
        math::copysign(self, sign)
    }
    #[inline(always)]
    fn exp(self) -> Self {
        math::exp(self)
    }
    #[inline(always)]
    fn exp_m1(self) -> Self {
        math::exp_m1(self)
    }
    #[inline(always)]
    fn exp2(self) -> Self {
        math::exp2(self)
    }
    #[inline(always)]
    fn ln(self) -> Self {
        math::ln(self)
    }
    #[inline(always)]
    fn ln_1p(self) -> Self {
        math::ln_1p(self)
    }
    #[inline(always)]
    fn log2(self) -> Self {
        math::log2(self)
    }
    #[inline(always)]
    fn log10(self) -> Self {
        math::log10(self)
    }
    #[inline(always)]
    fn sin(self) -> Self {
        math::sin(self)
    }
    #[inline(always)]
    fn cos(self) -> Self {
        math::cos(self)
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        math::tanh(self)
    }
    #[inline(always)]
    fn erf(self) -> Self {
        math::erf(self)
    }
    #[inline(always)]
    fn normal_cdf(self) -> Self {
        math::normal_cdf(self)
    }
    #[inline(always)]
    fn tan(self) -> Self {
        math::tan(self)
    }
    #[inline(always)]
    fn asin(self) -> Self {
        math::asin(self)
    }
    #[inline(always)]
    fn acos(self) -> Self {
        math::acos(self)
    }
    #[inline(always)]
    fn atan(self) -> Self {
        math::atan(self)
    }
    #[inline(always)]
    fn sinh(self) -> Self {
        math::sinh(self)
    }
    #[inline(always)]
    fn cosh(self) -> Self {
        math::cosh(self)
    }
    #[inline(always)]
    fn powf(self, exponent: Self) -> Self {
        math::pow(self, exponent)
    }
    #[inline(always)]
    fn atan2(self, x: Self) -> Self {
        math::atan2(self, x)
    }
    #[inline(always)]
    fn fmod(self, divisor: Self) -> Self {
        math::fmod(self, divisor)
    }
    #[inline(always)]
    fn lt(self, other: Self) -> Self::Mask {
        Lanes::lt(self, other)
    }
    #[inline(always)]
    fn le(self, other: Self) -> Self::Mask {
        Lanes::le(self, other)
    }
    #[inline(always)]
    fn eq(self, other: Self) -> Self::Mask {
        Lanes::eq(self, other)
    }
    #[inline(always)]
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self {
        Lanes::select(mask, yes, no)
    }
}
