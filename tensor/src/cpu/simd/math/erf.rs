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
    let one = V::splat(1.0);
    // Φ(-15) rounds to 0.
    let a = V::splat(15.0).smaller(abs(x));
    // Φ(-a) = e^(-a²/2) · s · p(s) with s = 1 / (1 + 0.3 a), to 2^-28
    let s = one / a.mul_add(V::splat(0.3), one);
    let p = polynomial(
        s,
        [
            0.119_686_693,
            0.119_571_85,
            0.110_235_177,
            0.078_390_777,
            0.096_153_729,
            -0.079_418_033,
            0.191_778_347,
            -0.228_209_257,
            0.112_433_881,
            -0.020_623_164,
        ],
    );
    // The rounding error of a² would be multiplied by a² in the result: take it into account.
    let square = a * a;
    let lost = a.mul_add_exact(a, -square);
    let ratio = s * p;
    let ratio = (lost * V::splat(-0.5)).mul_add(ratio, ratio);
    let tail = exp(square * V::splat(-0.5)) * ratio;
    let far = V::select(x.lt(V::splat(0.0)), tail, one - tail);
    // Near 0 a rounding error of s would be multiplied by 2.7: there Φ(x) = 1/2 + x · q(x²), to 2^-26
    let q = polynomial(
        square,
        [0.398_942_3, -0.066_490_904, 9.977_456e-3, -1.197_430_9e-3, 1.257_227_7e-4, -1.239_135_4e-5],
    );
    V::select(a.lt(one), q.mul_add(x, V::splat(0.5)), far)
}
