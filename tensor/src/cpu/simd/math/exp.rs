//! Exponentials: `x = n · ln 2 + r` with `|r| <= ln 2 / 2`, so that `e^x = 2^n · e^r`.

use super::super::lanes::{BitLanes, Lanes};
use super::{ROUNDING, abs, clamp, copysign, nearest, polynomial, power_of_2};
use std::f32::consts::LOG2_E;

/// The high bits of `ln 2`, few enough for `n · LN_2_HIGH` to be exact.
pub(super) const LN_2_HIGH: f32 = 0.693_145_75;
/// `ln 2 - LN_2_HIGH`.
pub(super) const LN_2_LOW: f32 = 1.428_606_8e-6;

/// `n` and `r` with `x = n · ln 2 + r`.
#[inline(always)]
fn reduce<V: Lanes>(x: V) -> (V, V) {
    let n = nearest(x * V::splat(LOG2_E));
    let r = (-n).mul_add(V::splat(LN_2_HIGH), x);
    (n, (-n).mul_add(V::splat(LN_2_LOW), r))
}

/// `e^r - 1 = r + r² · q(r)` for a reduced `r`. Error: 2^-28 of `e^r`.
#[inline(always)]
pub(super) fn beyond_one<V: Lanes>(r: V) -> V {
    let q = polynomial(r, [0.499_999_94, 0.166_665_21, 0.041_668_288, 8.368_703_5e-3, 1.381_893_9e-3]);
    q.mul_add(r * r, r)
}

/// `e^x`. Error: 2^-28 from the polynomial.
#[inline(always)]
pub(in super::super) fn exp<V: Lanes>(x: V) -> V {
    // e^89 overflows, e^-104 underflows to 0.
    let (n, r) = reduce(clamp(x, -104.0, 89.0));
    (beyond_one(r) + V::splat(1.0)).scale(n)
}

/// [`exp`] for `|x| <= 80`, where powers are finite and normal.
#[inline(always)]
pub(super) fn exp_within<V: Lanes>(x: V) -> V {
    let (n, r) = reduce(x);
    (beyond_one(r) + V::splat(1.0)) * power_of_2(n)
}

/// What [`exp_below`] multiplies by: so large that e^-104 is far from the subnormal numbers, and so small that the sum of a
/// billion terms has a reciprocal that is.
pub(crate) const BELOW_UNIT: f64 = (1u128 << 90) as f64;

/// `e^x · BELOW_UNIT` for `x <= 0`; below -148 as for -148. Error: 2^-28 from the polynomial.
///
/// Softmax divides by a sum of such terms. So the unit cancels, results may be subnormal though no term is, and what is
/// below -104 rounds to 0 in the end, -∞ included. Nothing overflows, so the power of 2 is a single factor.
#[inline(always)]
pub(crate) fn exp_below<V: Lanes>(x: V) -> V {
    // -148 comes first, so that NaN stays.
    let x = V::splat(-148.0).larger(x);
    // The low bits hold n, and after a shift they are the exponent of 2^(n + 90).
    let rounded = x.mul_add(V::splat(LOG2_E), V::splat(ROUNDING));
    let n = rounded - V::splat(ROUNDING);
    let r = (-n).mul_add(V::splat(LN_2_HIGH), x);
    let r = (-n).mul_add(V::splat(LN_2_LOW), r);
    (beyond_one(r) + V::splat(1.0))
        * rounded.bits().shl::<23>().add(V::splat(BELOW_UNIT as f32).bits()).as_float()
}

/// `2^x`. Error: 2^-28 from the polynomial.
#[inline(always)]
pub(in super::super) fn exp2<V: Lanes>(x: V) -> V {
    let x = clamp(x, -151.0, 129.0);
    let n = nearest(x);
    let r = x - n;
    // 2^r = 1 + r · q(r)
    let q = polynomial(
        r,
        [0.693_147_2, 0.240_226_5, 0.055_503_596, 9.618_062_5e-3, 1.339_101_1e-3, 1.546_288_1e-4],
    );
    q.mul_add(r, V::splat(1.0)).scale(n)
}

/// `e^x - 1`. Error: 2^-31 from the polynomial.
#[inline(always)]
pub(in super::super) fn exp_m1<V: Lanes>(x: V) -> V {
    // e^-18 - 1 rounds to -1.
    let (n, r) = reduce(clamp(x, -18.0, 89.0));
    // e^r - 1 = r + r² · q(r)
    let q = polynomial(r, [0.5, 0.166_666_67, 0.041_666_49, 8.333_208e-3, 1.393_270_8e-3, 1.994_426_7e-4]);
    let near = q.mul_add(r * r, r);
    // 2^n · e^r - 1 = 2 · (2^(n-1) · (e^r - 1) + (2^(n-1) - 1/2)), where 2^128 would overflow.
    let s = power_of_2(n - V::splat(1.0));
    let half = near.mul_add(s, s - V::splat(0.5));
    // The sign is that of `x`, also at 0.
    copysign(V::select(n.eq(V::splat(0.0)), near, half + half), x)
}

/// `(e^2x - 1) / (e^2x + 1)`.
#[inline(always)]
pub(in super::super) fn tanh<V: Lanes>(x: V) -> V {
    let a = abs(x);
    let one = V::splat(1.0);
    // tanh a = a + a³ · p(a²) near 0, to 2^-29
    let z = a * a;
    let p = polynomial(z, [-0.333_333_16, 0.133_325_28, -0.053_844_694, 0.021_035_504, -6.217_485_3e-3]);
    let near = p.mul_add(a * z, a);
    // 1 - 2 / (e^2a + 1) farther out; at 10 it rounds to 1.
    let e = exp_within(V::splat(20.0).smaller(a + a));
    let far = one - V::splat(2.0) / (e + one);
    copysign(V::select(a.lt(V::splat(0.55)), near, far), x)
}
