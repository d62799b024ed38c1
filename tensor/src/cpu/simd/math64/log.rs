//! Logarithms: `x = 2^n · (1 + f)` with `√½ <= 1 + f < √2`, so that `ln x = n · ln 2 + ln(1 + f)`.

use super::exp::{LN_2_HIGH, LN_2_LOW};
use super::{polynomial, power_of_2};
use std::f64::consts::FRAC_1_SQRT_2;

/// `n` and `1 + f` with `x = 2^n · (1 + f)`, for a positive normal `x`.
#[inline(always)]
fn split(x: f64) -> (f64, f64) {
    // The exponent field becomes a number below 2⁵² by its bits.
    let shifted = x.to_bits().wrapping_add(1f64.to_bits() - FRAC_1_SQRT_2.to_bits()) >> 52;
    let n = f64::from_bits(shifted | 0x4330_0000_0000_0000) - (4_503_599_627_370_496.0 + 1023.0);
    (n, f64::from_bits(x.to_bits().wrapping_sub(shifted.wrapping_sub(1023) << 52)))
}

/// As [`split`], for any positive `x`: what is too small is made normal first. Returns `n` and `f`.
#[inline(always)]
fn split_any(x: f64) -> (f64, f64) {
    let small = x < f64::MIN_POSITIVE;
    let (n, m) = split(if small { x * 18_014_398_509_481_984.0 } else { x });
    (n - if small { 54.0 } else { 0.0 }, m - 1.0)
}

/// `ln(1 + f) - f`, as `s · (f²/2 + r) - f²/2` with `s = f / (2 + f)`. Error: 2^-58; coefficients of FDLIBM.
#[inline(always)]
fn beyond_linear(f: f64) -> f64 {
    let s = f / (2.0 + f);
    let z = s * s;
    let r = z * polynomial(
        z,
        [
            6.666_666_666_666_735e-1,
            3.999_999_999_940_942e-1,
            2.857_142_874_366_239e-1,
            2.222_219_843_214_978_4e-1,
            1.818_357_216_161_805e-1,
            1.531_383_769_920_937_3e-1,
            1.479_819_860_511_658_6e-1,
        ],
    );
    let half = 0.5 * f * f;
    s.mul_add(half + r, -half)
}

/// `y` where `x` is positive and finite; the right special value elsewhere.
#[inline(always)]
fn or_special(x: f64, y: f64) -> f64 {
    let y = if x < f64::INFINITY { y } else { x };
    let y = if x == 0.0 { f64::NEG_INFINITY } else { y };
    if x < 0.0 { f64::NAN } else { y }
}

/// The natural logarithm.
#[inline(always)]
pub(in super::super) fn ln(x: f64) -> f64 {
    let (n, f) = split_any(x);
    let rest = n.mul_add(LN_2_LOW, beyond_linear(f));
    or_special(x, n.mul_add(LN_2_HIGH, f + rest))
}

/// `ln(1 + x)`.
#[inline(always)]
pub(in super::super) fn ln_1p(x: f64) -> f64 {
    // u + lost = 1 + x exactly.
    let u = 1.0 + x;
    let one_kept = u - x;
    let lost = (x - (u - one_kept)) + (1.0 - one_kept);
    let (n, m) = split(u);
    // Beyond 2^60 nothing lost matters, and 2^-n may underflow.
    let lost = if x < 1_152_921_504_606_846_976.0 { lost * power_of_2(-n) } else { 0.0 };
    let f = (m - 1.0) + lost;
    let rest = n.mul_add(LN_2_LOW, beyond_linear(f));
    let y = n.mul_add(LN_2_HIGH, f + rest);
    // The logarithm has the sign of `x`, also where both are 0.
    or_special(u, y).copysign(x)
}

/// `ln(1 + f)` as the sum of two numbers, the second below the last bit of the first.
#[inline(always)]
fn in_two_parts(f: f64) -> (f64, f64) {
    let rest = beyond_linear(f);
    let high = f + rest;
    (high, rest - (high - f))
}

/// The logarithm to base 2.
#[inline(always)]
pub(in super::super) fn log2(x: f64) -> f64 {
    // 1 / ln 2
    const HIGH: f64 = 1.4426950408889634;
    const LOW: f64 = 2.0355273740931033e-17;
    let (n, f) = split_any(x);
    let (l, low) = in_two_parts(f);
    let small = l.mul_add(LOW, low * HIGH);
    or_special(x, n + l.mul_add(HIGH, small))
}

/// The logarithm to base 10.
#[inline(always)]
pub(in super::super) fn log10(x: f64) -> f64 {
    // 1 / ln 10, and log10 2 with few bits in its high part, for n · LOG10_2_HIGH to be exact.
    const HIGH: f64 = 0.4342944819032518;
    const LOW: f64 = 1.098319650216765e-17;
    const LOG10_2_HIGH: f64 = 0.301_029_995_663_611_77;
    const LOG10_2_LOW: f64 = 3.694_239_077_158_931e-13;
    let (n, f) = split_any(x);
    let (l, low) = in_two_parts(f);
    let small = n.mul_add(LOG10_2_LOW, l.mul_add(LOW, low * HIGH));
    or_special(x, n.mul_add(LOG10_2_HIGH, l.mul_add(HIGH, small)))
}
