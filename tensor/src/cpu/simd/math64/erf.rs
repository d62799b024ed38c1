//! The error function and the normal distribution.

use super::exp::{exp, exp_within};
use super::{long_polynomial, polynomial};

/// The error function.
#[inline(always)]
pub(in super::super) fn erf(x: f64) -> f64 {
    // erf x = x + x · p(x²) near 0, to 2^-59
    let p = long_polynomial(
        x * x,
        [
            0.1283791670955126,
            -0.3761263890318371,
            0.11283791670952793,
            -0.026866170644622517,
            0.005223977619705167,
            -0.0008548326641360703,
            0.00012055316825377138,
            -1.4925199565749666e-05,
            1.6453690363981286e-06,
            -1.6261129768789871e-07,
            1.3969904366813327e-08,
            -8.307737788625416e-10,
        ],
    );
    let near = p.mul_add(x, x);
    // 1 - erf t = e^-g(t) for 0.92 < t < 6, to 2^-61 of erf t; at 6 it rounds to 0.
    let a = x.abs();
    let t = if a > 6.0 { 6.0 } else { a };
    let g = long_polynomial(
        t,
        [
            9.949874187967266e-10,
            1.1283791926586815,
            0.636619396574288,
            0.10277482996169181,
            -0.019136434916686047,
            -0.00018933020107937334,
            0.001659573091453607,
            -0.0005380269251262554,
            -3.263990760579009e-05,
            0.00011711949454742187,
            -6.780686723688367e-05,
            2.546126856332919e-05,
            -7.1520056806772085e-06,
            1.56093926235108e-06,
            -2.658935373199397e-07,
            3.484405338906894e-08,
            -3.400506702201607e-09,
            2.329754002724603e-10,
            -9.999136566946474e-12,
            2.0222476599384732e-13,
        ],
    );
    let far = (1.0 - exp_within(-g)).copysign(x);
    if a < 0.925 { near } else { far }
}

/// `Φ(x)`, the share of a standard normal below `x`.
#[inline(always)]
pub(in super::super) fn normal_cdf(x: f64) -> f64 {
    // Φ(-39) rounds to 0.
    let a = x.abs();
    let a = if a > 39.0 { 39.0 } else { a };
    // Φ(-a) = e^(-a²/2) · p(a) / q(a), to 2^-59: all coefficients are positive, so that nothing cancels.
    let p = polynomial(
        a,
        [
            0.5,
            0.82763354018981327,
            0.679155672360206644,
            0.356995858183194211,
            0.131875417706475552,
            0.0356098381412490455,
            0.0071087693161711584,
            0.00103725323910442252,
            0.000106274339632967513,
            6.95300595641619995e-6,
            2.23314241650211935e-7,
        ],
    );
    let q = polynomial(
        a,
        [
            1.0,
            2.4531516411824921,
            2.81564316452812669,
            1.99993562574999007,
            0.979090951469473572,
            0.347854502685563726,
            0.0918257785330166193,
            0.0180843128894876837,
            0.00261743689862616882,
            0.000266950030380706537,
            0.00001742860132406166,
            5.59765792248066694e-7,
        ],
    );
    // The rounding error of a² would be multiplied by a² in the result: take it into account.
    let square = a * a;
    let lost = a.mul_add(a, -square);
    let ratio = p / q;
    let tail = exp(-0.5 * square) * (-0.5 * lost).mul_add(ratio, ratio);
    if x < 0.0 { tail } else { 1.0 - tail }
}
