//! [`Fused`]: a double whose functions have no branches, so that a loop of them becomes vectors of whatever width a level has.

use super::math64;
use crate::op::Real;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// An `f64` for loops that are compiled for a machine that fuses multiplication and addition; elsewhere each
/// [`mul_add`](Real::mul_add) is a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fused(pub(crate) f64);

/// A real number made of one `f64`.
pub(crate) trait Double: Real {
    /// The number.
    fn get(self) -> f64;
}

impl Double for f64 {
    #[inline(always)]
    fn get(self) -> f64 {
        self
    }
}

impl Double for Fused {
    #[inline(always)]
    fn get(self) -> f64 {
        self.0
    }
}

macro_rules! operators {
    ($($Op:ident $op:ident)+) => { $(
        impl $Op for Fused {
            type Output = Fused;
            #[inline(always)]
            fn $op(self, other: Fused) -> Fused {
                Fused(self.0.$op(other.0))
            }
        }
    )+ };
}
operators!(Add add Sub sub Mul mul Div div);

impl Neg for Fused {
    type Output = Fused;
    #[inline(always)]
    fn neg(self) -> Fused {
        Fused(-self.0)
    }
}

/// Functions of one number, or of two.
macro_rules! functions {
    ($($name:ident $f:path),+; $($name2:ident $f2:path),+) => {
        $(#[inline(always)]
        fn $name(self) -> Fused {
            Fused($f(self.0))
        })+
        $(#[inline(always)]
        fn $name2(self, other: Fused) -> Fused {
            Fused($f2(self.0, other.0))
        })+
    };
}

impl Real for Fused {
    type Mask = bool;

    #[inline(always)]
    fn splat(value: f64) -> Fused {
        Fused(value)
    }
    #[inline(always)]
    fn mul_add(self, factor: Fused, term: Fused) -> Fused {
        Fused(self.0.mul_add(factor.0, term.0))
    }
    functions! {
        abs f64::abs, sqrt f64::sqrt, floor f64::floor, ceil f64::ceil, trunc f64::trunc, round f64::round_ties_even,
        exp math64::exp, exp_m1 math64::exp_m1, exp2 math64::exp2,
        ln math64::ln, ln_1p math64::ln_1p, log2 math64::log2, log10 math64::log10,
        tanh math64::tanh, erf math64::erf, normal_cdf math64::normal_cdf,
        // These are calls of the C library, one by one.
        sin f64::sin, cos f64::cos, tan f64::tan, asin f64::asin, acos f64::acos, atan f64::atan,
        sinh f64::sinh, cosh f64::cosh;
        max Real::max, min Real::min, copysign f64::copysign,
        powf f64::powf, atan2 f64::atan2, fmod Real::fmod
    }
    #[inline(always)]
    fn lt(self, other: Fused) -> bool {
        self.0 < other.0
    }
    #[inline(always)]
    fn le(self, other: Fused) -> bool {
        self.0 <= other.0
    }
    #[inline(always)]
    fn eq(self, other: Fused) -> bool {
        self.0 == other.0
    }
    #[inline(always)]
    fn select(mask: bool, yes: Fused, no: Fused) -> Fused {
        Fused(if mask { yes.0 } else { no.0 })
    }
}
