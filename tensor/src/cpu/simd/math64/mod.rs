//! The elementary functions of doubles, without branches: loops of them become vectors. See [`Fused`](super::fused::Fused).
//!
//! The polynomials are minimax fits; each function states the error of its own. What results are off by at most, in units in
//! the last place, was measured on 4000 random numbers of each range that a function treats differently, with 40 digits:
//!
//! | function | ulp | function | ulp |
//! |---|---|---|---|
//! | `exp` | 1.07 | `ln` | 0.76 |
//! | `exp2` | 0.80 | `ln_1p` | 0.77 |
//! | `exp_m1` | 1.58 | `log2` | 0.82 |
//! | `tanh` | 2.25 | `log10` | 0.80 |
//! | `erf` | 0.98 | `normal_cdf` | 6 in the lower tail, 3.3 above -2 |
#![allow(
    clippy::approx_constant,
    clippy::excessive_precision,
    reason = "coefficients are written as they were fitted"
)]

mod erf;
mod exp;
mod log;
#[cfg(test)]
mod tests;

pub(super) use erf::{erf, normal_cdf};
pub(super) use exp::{exp, exp_m1, exp2, tanh};
pub(super) use log::{ln, ln_1p, log2, log10};

/// `c₀ + c₁ x + c₂ x² + …`, by Horner's rule.
#[inline(always)]
fn polynomial<const N: usize>(x: f64, coefficients: [f64; N]) -> f64 {
    let mut sum = coefficients[N - 1];
    for i in (0..N - 1).rev() {
        sum = sum.mul_add(x, coefficients[i]);
    }
    sum
}

/// As [`polynomial`], even and odd powers apart: chains half as long for one multiplication more.
#[inline(always)]
fn long_polynomial<const N: usize>(x: f64, coefficients: [f64; N]) -> f64 {
    let z = x * x;
    let (mut even, mut odd) = (0.0, 0.0);
    for i in (0..N).rev() {
        let sum = if i % 2 == 0 { &mut even } else { &mut odd };
        // The first of either needs no multiplication.
        *sum = if i + 2 >= N { coefficients[i] } else { f64::mul_add(*sum, z, coefficients[i]) };
    }
    f64::mul_add(odd, x, even)
}

/// `1.5 · 2⁵²`: added to a small number, it leaves the nearest integer in the low bits of the sum.
const ROUNDING: f64 = 6_755_399_441_055_744.0;

/// The nearest integer, for `|x| < 2⁵¹`.
#[inline(always)]
fn nearest(x: f64) -> f64 {
    (x + ROUNDING) - ROUNDING
}

/// `2^n` for an integer `-1023 < n < 1024`.
#[inline(always)]
fn power_of_2(n: f64) -> f64 {
    f64::from_bits(((n + ROUNDING).to_bits() << 52).wrapping_add(1f64.to_bits()))
}

/// `x · 2^n`, rounded once, for an integer `-2044 <= n <= 2046` and `x` close to 1.
#[inline(always)]
fn scale(x: f64, n: f64) -> f64 {
    let half = nearest(n * 0.5);
    x * power_of_2(half) * power_of_2(n - half)
}

/// `x`, or the limit it exceeds; NaN for NaN.
#[inline(always)]
fn clamp(x: f64, low: f64, high: f64) -> f64 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}
