//! Exponentials: `x = n · ln 2 + r` with `|r| <= ln 2 / 2`, so that `e^x = 2^n · e^r`.

use super::{clamp, long_polynomial, nearest, polynomial, power_of_2, scale};
use std::f64::consts::LOG2_E;

/// The high bits of `ln 2`, few enough for `n · LN_2_HIGH` to be exact.
pub(super) const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
/// `ln 2 - LN_2_HIGH`.
pub(super) const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// `n` and `r` with `x = n · ln 2 + r`.
#[inline(always)]
fn reduce(x: f64) -> (f64, f64) {
    let n = nearest(x * LOG2_E);
    let r = (-n).mul_add(LN_2_HIGH, x);
    (n, (-n).mul_add(LN_2_LOW, r))
}

/// `q` of `e^r = 1 + (r + r² · q(r))` for a reduced `r`. Error: 2^-56 of `e^r`.
const Q: [f64; 10] = [
    0.5,
    0.16666666666666674,
    0.041666666666624136,
    0.008333333333323343,
    0.0013888888917211405,
    0.00019841269883185078,
    2.480152129903381e-05,
    2.75572461177452e-06,
    2.7620087163467536e-07,
    2.510865081530766e-08,
];

/// `e^x`.
#[inline(always)]
pub(in super::super) fn exp(x: f64) -> f64 {
    // e^710 overflows, e^-746 underflows to 0.
    let (n, r) = reduce(clamp(x, -746.0, 710.0));
    scale(polynomial(r, Q).mul_add(r * r, r) + 1.0, n)
}

/// As [`exp`], for `|x| <= 700`, where powers are finite and normal, as the end of a long chain.
#[inline(always)]
pub(super) fn exp_within(x: f64) -> f64 {
    let (n, r) = reduce(x);
    (long_polynomial(r, Q).mul_add(r * r, r) + 1.0) * power_of_2(n)
}

/// `2^x`. Error: 2^-57 from the polynomial.
#[inline(always)]
pub(in super::super) fn exp2(x: f64) -> f64 {
    let x = clamp(x, -1076.0, 1025.0);
    let n = nearest(x);
    let r = x - n;
    // 2^r = 1 + r · q(r)
    let q = polynomial(
        r,
        [
            0.6931471805599453,
            0.24022650695910097,
            0.05550410866482165,
            0.009618129107606892,
            0.001333355814639903,
            0.0001540353044173259,
            1.5252733849888091e-05,
            1.3215442589766828e-06,
            1.0178053279400078e-07,
            7.072585621173911e-09,
            4.4564272082937646e-10,
        ],
    );
    scale(q.mul_add(r, 1.0), n)
}

/// `e^x - 1`. Error: 2^-62 from the polynomial.
#[inline(always)]
pub(in super::super) fn exp_m1(x: f64) -> f64 {
    // e^-40 - 1 rounds to -1.
    let (n, r) = reduce(clamp(x, -40.0, 710.0));
    // e^r - 1 = r + r² · q(r)
    let q = polynomial(
        r,
        [
            0.5,
            0.1666666666666667,
            0.041666666666666685,
            0.008333333333326136,
            0.0013888888888875753,
            0.0001984126987481857,
            2.4801587344182756e-05,
            2.7557255402490116e-06,
            2.755725591604199e-07,
            2.5105216159716964e-08,
            2.092058916482301e-09,
        ],
    );
    let near = q.mul_add(r * r, r);
    // 2^n · e^r - 1 = 2 · (2^(n-1) · (e^r - 1) + (2^(n-1) - 1/2)), where 2^1024 would overflow.
    let s = power_of_2(n - 1.0);
    let half = near.mul_add(s, s - 0.5);
    // The sign is that of `x`, also at 0.
    if n == 0.0 { near } else { half + half }.copysign(x)
}

/// `(e^2x - 1) / (e^2x + 1)`.
#[inline(always)]
pub(in super::super) fn tanh(x: f64) -> f64 {
    // At 20 it rounds to 1.
    let a = x.abs();
    let t = exp_m1(if a > 20.0 { 40.0 } else { a + a });
    (t / (t + 2.0)).copysign(x)
}
