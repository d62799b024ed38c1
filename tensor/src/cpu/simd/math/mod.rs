//! The elementary functions, once for every width.
//!
//! The polynomials are minimax fits, with coefficients rounded to `f32` one after the other and the rest fitted again. Each
//! function states the error of its polynomial. The largest errors of results, in units in the last place, where multiplication
//! and addition are fused: over all `f32`, of `erf` over every 251st.
//!
//! | op | ulp | op | ulp | op | ulp |
//! |---|---|---|---|---|---|
//! | `exp` | 1.02 | `log` | 0.90 | `sigmoid` | 2.41 |
//! | `exp2` | 0.82 | `log2` | 0.97 | `silu` | 3.20 |
//! | `expm1` | 1.44 | `log10` | 0.89 | `softplus` | 1.75 |
//! | `tanh` | 1.47 | `log1p` | 1.49 | `logsigmoid` | 1.75 |
//! | `sin` | 1.56 | `erf` | 0.98 | `mish` | 4.66 |
//! | `cos` | 1.57 | `gelu` | 7.37 | `hardswish` | 1.88 |
//! | `tan`, `asin`, `acos`, `atan`, `sinh`, `cosh` | 0.51 | `gelu_tanh` | 206, far out where it is close to 0 | `rsqrt` | 1.50 |
//!
//! The tests hold a part of all numbers to bounds a little above these, and all of them on demand.
#![allow(
    clippy::approx_constant,
    clippy::excessive_precision,
    reason = "coefficients are written as they were fitted"
)]

mod double;
mod erf;
mod exp;
mod log;
mod trig;

pub(super) use erf::{erf, normal_cdf};
pub(crate) use exp::{BELOW_UNIT, exp_below};
pub(super) use exp::{exp, exp_m1, exp2, tanh};
pub(super) use log::{ln, ln_1p, log2, log10};
pub(super) use trig::{acos, asin, atan, atan2, cos, cosh, sin, sinh, tan};

/// `x^y`.
#[inline(always)]
pub(super) fn pow<V: Lanes>(x: V, y: V) -> V {
    let infinity = V::splat(f32::INFINITY);
    let usual = abs(x).lt(infinity) & abs(y).lt(infinity);
    // Infinities and NaN have rules of their own.
    if V::any(!usual) { x.map2(y, f64::powf) } else { x.map2(y, double::pow) }
}

/// The exact remainder of `a / b` with the sign of `a`.
#[inline(always)]
pub(super) fn fmod<V: Lanes>(a: V, b: V) -> V {
    // Beyond that the product of quotient and divisor has more bits than a double.
    let usual = abs(a / b).lt(V::splat(536_870_912.0)) & abs(b).lt(V::splat(f32::INFINITY));
    // The remainder of two `f32` is an `f32`, so both are exact.
    if V::any(!usual) { a.map2(b, |a, b| a % b) } else { a.map2(b, double::fmod) }
}

use super::lanes::{BitLanes, Lanes};

/// `c₀ + c₁ x + c₂ x² + …`, by Horner's rule.
#[inline(always)]
fn polynomial<V: Lanes, const N: usize>(x: V, coefficients: [f32; N]) -> V {
    let mut sum = V::splat(coefficients[N - 1]);
    for i in (0..N - 1).rev() {
        sum = sum.mul_add(x, V::splat(coefficients[i]));
    }
    sum
}

/// `1.5 · 2²³`: added to a number, it leaves the nearest integer in the low bits of the sum.
const ROUNDING: f32 = 12_582_912.0;

/// The nearest integer, for `|x| < 2²²`.
#[inline(always)]
pub(super) fn nearest<V: Lanes>(x: V) -> V {
    (x + V::splat(ROUNDING)) - V::splat(ROUNDING)
}

/// The low bits of an integer `|n| < 2²²`.
#[inline(always)]
fn low_bits<V: Lanes>(n: V) -> V::Bits {
    (n + V::splat(ROUNDING)).bits()
}

/// `2^n` for an integer `-127 < n < 128`.
#[inline(always)]
pub(super) fn power_of_2<V: Lanes>(n: V) -> V {
    low_bits(n).shl::<23>().add(V::splat(1.0).bits()).as_float()
}

/// `|x|`.
#[inline(always)]
pub(super) fn abs<V: Lanes>(x: V) -> V {
    x.bits().and(V::Bits::splat(i32::MAX)).as_float()
}

/// `|x|` with the sign of `sign`.
#[inline(always)]
pub(super) fn copysign<V: Lanes>(x: V, sign: V) -> V {
    let sign_bit = sign.bits().and(V::Bits::splat(i32::MIN));
    abs(x).bits().or(sign_bit).as_float()
}

/// `x`, or the limit it exceeds; NaN for NaN.
#[inline(always)]
fn clamp<V: Lanes>(x: V, low: f32, high: f32) -> V {
    V::splat(low).larger(V::splat(high).smaller(x))
}
