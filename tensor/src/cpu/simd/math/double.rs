//! Functions whose steps need more bits than an `f32` has: in `f64`, without branches, so that loops over lanes become vectors
//! of doubles. Each is good to 2^-36 of its result, which is then rounded to `f32`: half an ulp, and a hundredth.
//!
//! No step is fused, so that every level gives the same bits.

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, LN_2, LOG2_E, PI, SQRT_2};

/// `c₀ + c₁ x + c₂ x² + …`, by Horner's rule.
#[inline(always)]
fn polynomial<const N: usize>(x: f64, coefficients: [f64; N]) -> f64 {
    let mut sum = coefficients[N - 1];
    for i in (0..N - 1).rev() {
        sum = sum * x + coefficients[i];
    }
    sum
}

/// `1.5 · 2⁵²`: added to a small number, it leaves the nearest integer in the low bits of the sum.
const ROUNDING: f64 = 6_755_399_441_055_744.0;

/// The logarithm to base 2 of a positive finite number.
#[inline(always)]
fn log2(x: f64) -> f64 {
    // x = 2^n · m with √½ <= m < √2; the exponent field becomes a number below 2⁵² by its bits.
    let shifted = x.to_bits().wrapping_add(1f64.to_bits() - (SQRT_2 / 2.0).to_bits());
    let n = f64::from_bits(shifted >> 52 | 0x4330_0000_0000_0000) - (4_503_599_627_370_496.0 + 1023.0);
    let m = f64::from_bits(x.to_bits().wrapping_sub((shifted >> 52).wrapping_sub(1023) << 52));
    // ln m = 2 artanh s = 2 (s + s³/3 + s⁵/5 + …) with |s| < 0.172
    let s = (m - 1.0) / (m + 1.0);
    let terms = [1.0, 1.0 / 3.0, 0.2, 1.0 / 7.0, 1.0 / 9.0, 1.0 / 11.0, 1.0 / 13.0];
    n + s * polynomial(s * s, terms) * (2.0 * LOG2_E)
}

/// `2^t`, for `|t| <= 1000`.
#[inline(always)]
fn exp2(t: f64) -> f64 {
    let sum = t + ROUNDING;
    let r = (t - (sum - ROUNDING)) * LN_2;
    let terms = [
        1.0,
        1.0,
        0.5,
        1.0 / 6.0,
        1.0 / 24.0,
        1.0 / 120.0,
        1.0 / 720.0,
        1.0 / 5040.0,
        1.0 / 40320.0,
        1.0 / 362_880.0,
    ];
    polynomial(r, terms) * f64::from_bits(sum.to_bits().wrapping_add(1023) << 52)
}

/// `x^y` for finite `x` and `y`, as C has it.
#[inline(always)]
pub(super) fn pow(x: f64, y: f64) -> f64 {
    let t = y * log2(x.abs());
    // Beyond 200 either way the result is infinite or 0 as an `f32`.
    let power = exp2(t.clamp(-200.0, 200.0));
    let at_zero = if y > 0.0 { 0.0 } else { f64::INFINITY };
    let power = if x == 0.0 { at_zero } else { power };
    let power = if y == 0.0 { 1.0 } else { power };
    let whole = y == y.floor();
    let odd = whole & (y * 0.5 != (y * 0.5).floor());
    let negative = x.is_sign_negative();
    let power = if negative & odd { -power } else { power };
    if (x < 0.0) & !whole { f64::NAN } else { power }
}

/// The remainder of `a / b` with the sign of `a`, exact, for a quotient below 2²⁹ and finite `b`.
#[inline(always)]
pub(super) fn fmod(a: f64, b: f64) -> f64 {
    let (x, y) = (a.abs(), b.abs());
    // Rounding may have raised the quotient to the next integer. Both products are exact.
    let rest = x - (x / y).trunc() * y;
    let rest = if rest < 0.0 { rest + y } else { rest };
    rest.copysign(a)
}

/// The angle of the point `(x, y)`.
#[inline(always)]
pub(super) fn atan2(y: f64, x: f64) -> f64 {
    let (a, b) = (x.abs(), y.abs());
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    let t = if high == 0.0 { 0.0 } else { low / high };
    let t = if low == f64::INFINITY { 1.0 } else { t };
    // atan t = π/4 + atan((t - 1) / (t + 1)) above tan(π/8)
    let far = t > SQRT_2 - 1.0;
    let z = if far { (t - 1.0) / (t + 1.0) } else { t };
    let terms: [f64; 14] = std::array::from_fn(|k| if k % 2 == 0 { 1.0 } else { -1.0 } / (2 * k + 1) as f64);
    let angle = z * polynomial(z * z, terms) + if far { FRAC_PI_4 } else { 0.0 };
    let angle = if a < b { FRAC_PI_2 - angle } else { angle };
    let angle = if x.is_sign_negative() { PI - angle } else { angle };
    if x.is_nan() | y.is_nan() { f64::NAN } else { angle.copysign(y) }
}

/// The angle whose tangent is `x`.
#[inline(always)]
pub(super) fn atan(x: f64) -> f64 {
    atan2(x, 1.0)
}

/// The angle in `[-π/2, π/2]` whose sine is `x`.
#[inline(always)]
pub(super) fn asin(x: f64) -> f64 {
    atan2(x, ((1.0 - x) * (1.0 + x)).sqrt())
}

/// The angle in `[0, π]` whose cosine is `x`.
#[inline(always)]
pub(super) fn acos(x: f64) -> f64 {
    atan2(((1.0 - x) * (1.0 + x)).sqrt(), x)
}

/// `e^|x|`, with 200 in place of what is beyond.
#[inline(always)]
fn exp_abs(x: f64) -> f64 {
    let a = x.abs();
    exp2(if a > 200.0 { 200.0 } else { a } * LOG2_E)
}

/// The hyperbolic sine.
#[inline(always)]
pub(super) fn sinh(x: f64) -> f64 {
    let e = exp_abs(x);
    let z = x * x;
    let near = x * polynomial(z, [1.0, 1.0 / 6.0, 1.0 / 120.0]);
    if x.abs() < 0.05 { near } else { ((e - 1.0 / e) * 0.5).copysign(x) }
}

/// The hyperbolic cosine.
#[inline(always)]
pub(super) fn cosh(x: f64) -> f64 {
    let e = exp_abs(x);
    (e + 1.0 / e) * 0.5
}

/// The tangent, for `|x| <= 1e5`.
#[inline(always)]
pub(super) fn tan(x: f64) -> f64 {
    /// The first 33 bits of `π/2`, and the rest.
    const FRAC_PI_2: [f64; 2] = [1.570_796_326_734_125_6, 6.077_100_506_506_192e-11];
    let sum = x * std::f64::consts::FRAC_2_PI + ROUNDING;
    let n = sum - ROUNDING;
    let r = (x - n * FRAC_PI_2[0]) - n * FRAC_PI_2[1];
    let z = r * r;
    let sine = r * polynomial(
        z,
        [
            1.0,
            -1.0 / 6.0,
            1.0 / 120.0,
            -1.0 / 5040.0,
            1.0 / 362_880.0,
            -1.0 / 39_916_800.0,
            1.0 / 6_227_020_800.0,
        ],
    );
    let cosine = polynomial(
        z,
        [
            1.0,
            -0.5,
            1.0 / 24.0,
            -1.0 / 720.0,
            1.0 / 40320.0,
            -1.0 / 3_628_800.0,
            1.0 / 479_001_600.0,
            -1.0 / 87_178_291_200.0,
        ],
    );
    let odd = sum.to_bits() & 1 != 0;
    let (above, below) = if odd { (-cosine, sine) } else { (sine, cosine) };
    above / below
}
