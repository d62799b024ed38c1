//! The error function and the normal distribution.

use super::super::lanes::{BitLanes, Lanes};
use super::exp::{LN_2_HIGH, LN_2_LOW, beyond_one, exp_within};
use super::{ROUNDING, abs, copysign, polynomial};
use std::f32::consts::LOG2_E;

/// The error function.
#[inline(always)]
pub(in super::super) fn erf<V: Lanes>(x: V) -> V {
    // erf x = x + x · p(x²) near 0, to 2^-30
    let p = polynomial(
        x * x,
        [
            0.128_379_17,
            -0.376_126_3,
            0.112_836_25,
            -0.026_855_668,
            5.192_228e-3,
            -8.047_821e-4,
            7.989_471_5e-5,
        ],
    );
    let near = p.mul_add(x, x);
    // 1 - erf t = e^(-t - t · q(t)) for 0.9 < t < 4, to 2^-30; at 4 it rounds to 0.
    let t = V::splat(4.0).smaller(abs(x));
    let q = polynomial(
        t,
        [
            0.128_640_98,
            0.635_181_4,
            0.106_187_74,
            -0.023_720_302,
            3.622_974_3e-3,
            -3.180_73e-4,
            1.076_441_2e-5,
        ],
    );
    let far = V::splat(1.0) - exp_within(-q.mul_add(t, t));
    V::select(abs(x).lt(V::splat(0.921_875)), near, copysign(far, x))
}

/// `Φ(x)`, the share of a standard normal below `x`.
#[inline(always)]
pub(in super::super) fn normal_cdf<V: Lanes>(x: V) -> V {
    /// The power of e is so much larger, as powers below 2^-126 are not normal, and `p` so much smaller.
    const UNIT: f32 = (1u128 << 90) as f32;
    /// Times `1 / UNIT`, which is exact.
    const P: [f32; 5] =
        [0.5 / UNIT, 0.439_283_2 / UNIT, 0.183_968_63 / UNIT, 0.040_880_847 / UNIT, 4.153_146_5e-3 / UNIT];
    // Φ(-15) rounds to 0.
    let a = V::splat(15.0).smaller(abs(x));
    // Φ(-a) = e^(-a²/2) · p(a) / q(a), to 2^-27: all coefficients are positive, so that nothing cancels.
    let p = polynomial(a, P);
    let q = polynomial(a, [1.0, 1.676_451_4, 1.205_546_9, 0.471_407_22, 0.102_479_204, 0.010_410_283]);
    // -a²/2 = s + lost = n · ln 2 + r: the rounding error of a² would be multiplied by a² in the result.
    let half = a * V::splat(-0.5);
    let s = half * a;
    let lost = half.mul_add_exact(a, -s);
    // The low bits hold n, and after a shift they are the exponent of 2^(n + 90).
    let rounded = s.mul_add(V::splat(LOG2_E), V::splat(ROUNDING));
    let n = rounded - V::splat(ROUNDING);
    let r = (-n).mul_add(V::splat(LN_2_HIGH), s);
    let r = (-n).mul_add(V::splat(LN_2_LOW), r) + lost;
    let power = rounded.bits().shl::<23>().add(V::splat(UNIT).bits()).as_float();
    let tail = (beyond_one(r) + V::splat(1.0)) * power * (p / q);
    V::select(x.lt(V::splat(0.0)), tail, V::splat(1.0) - tail)
}
