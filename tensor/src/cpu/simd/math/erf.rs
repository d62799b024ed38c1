//! The error function and the normal distribution.

use super::super::lanes::Lanes;
use super::{abs, copysign, exp, polynomial};

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
    let far = V::splat(1.0) - exp(-q.mul_add(t, t));
    V::select(abs(x).lt(V::splat(0.921_875)), near, copysign(far, x))
}

/// `Φ(x)`, the share of a standard normal below `x`.
#[inline(always)]
pub(in super::super) fn normal_cdf<V: Lanes>(x: V) -> V {
    // Φ(-15) rounds to 0.
    let a = V::splat(15.0).smaller(abs(x));
    // Φ(-a) = e^(-a²/2) · p(a) / q(a), to 2^-27: all coefficients are positive, so that nothing cancels.
    let p = polynomial(a, [0.5, 0.439_283_2, 0.183_968_63, 0.040_880_847, 4.153_146_5e-3]);
    let q = polynomial(a, [1.0, 1.676_451_4, 1.205_546_9, 0.471_407_22, 0.102_479_204, 0.010_410_283]);
    // The rounding error of a² would be multiplied by a² in the result: take it into account.
    let square = a * a;
    let lost = a.mul_add_exact(a, -square);
    let ratio = p / q;
    let ratio = (lost * V::splat(-0.5)).mul_add(ratio, ratio);
    let tail = exp(square * V::splat(-0.5)) * ratio;
    V::select(x.lt(V::splat(0.0)), tail, V::splat(1.0) - tail)
}
