//! Logarithms: `x = 2^n · (1 + f)` with `√½ <= 1 + f < √2`, so that `ln x = n · ln 2 + ln(1 + f)`.

use super::super::lanes::{BitLanes, Lanes};
use super::exp::{LN_2_HIGH, LN_2_LOW};
use super::{copysign, low_bits, polynomial};

/// `n` and `1 + f` with `x = 2^n · (1 + f)`, for a positive normal `x`.
#[inline(always)]
fn split<V: Lanes>(x: V) -> (V, V) {
    let sqrt_half = V::Bits::splat(0x3f35_04f3);
    let n = x.bits().sub(sqrt_half).shr::<23>();
    (n.to_float(), x.bits().sub(n.shl::<23>()).as_float())
}

/// As [`split`], for any positive `x`: what is too small is made normal first. Returns `n` and `f`.
#[inline(always)]
fn split_any<V: Lanes>(x: V) -> (V, V) {
    let small = x.lt(V::splat(f32::MIN_POSITIVE));
    let (n, m) = split(V::select(small, x * V::splat(8_388_608.0), x));
    (n - V::select(small, V::splat(23.0), V::splat(0.0)), m - V::splat(1.0))
}

/// `ln(1 + f) - f`. Error: 2^-30 of `ln(1 + f)`.
#[inline(always)]
fn beyond_linear<V: Lanes>(f: V) -> V {
    // ln(1 + f) = f + f² · (f · p(f) - 1/2)
    let p = polynomial(
        f,
        [
            0.333_333_1,
            -0.249_999_87,
            0.200_022_3,
            -0.166_692_56,
            0.142_185_27,
            -0.123_841_3,
            0.118_741_12,
            -0.117_919_736,
            0.069_150_52,
        ],
    );
    p.mul_add(f, V::splat(-0.5)) * (f * f)
}

/// `y` where `x` is positive and finite; the right special value elsewhere.
#[inline(always)]
fn or_special<V: Lanes>(x: V, y: V) -> V {
    let infinity = V::splat(f32::INFINITY);
    let y = V::select(x.lt(infinity), y, x);
    let y = V::select(x.eq(V::splat(0.0)), -infinity, y);
    V::select(x.lt(V::splat(0.0)), V::splat(f32::NAN), y)
}

/// The natural logarithm.
#[inline(always)]
pub(in super::super) fn ln<V: Lanes>(x: V) -> V {
    let (n, f) = split_any(x);
    let rest = n.mul_add(V::splat(LN_2_LOW), beyond_linear(f));
    or_special(x, n.mul_add(V::splat(LN_2_HIGH), f + rest))
}

/// `ln(1 + x)`.
#[inline(always)]
pub(in super::super) fn ln_1p<V: Lanes>(x: V) -> V {
    let one = V::splat(1.0);
    // u + lost = 1 + x exactly.
    let u = one + x;
    let one_kept = u - x;
    let lost = (x - (u - one_kept)) + (one - one_kept);
    let (n, m) = split(u);
    // Beyond 2^30 nothing lost matters, and 2^-n may underflow.
    let inverse = low_bits(-n).shl::<23>().add(one.bits()).as_float();
    let lost = V::select(x.lt(V::splat(1_073_741_824.0)), lost * inverse, V::splat(0.0));
    let f = (m - one) + lost;
    let rest = n.mul_add(V::splat(LN_2_LOW), beyond_linear(f));
    let y = n.mul_add(V::splat(LN_2_HIGH), f + rest);
    // The logarithm has the sign of `x`, also where both are 0.
    copysign(or_special(u, y), x)
}

/// `ln(1 + f)` as the sum of two numbers, the second below the last bit of the first.
#[inline(always)]
fn in_two_parts<V: Lanes>(f: V) -> (V, V) {
    let rest = beyond_linear(f);
    let high = f + rest;
    (high, rest - (high - f))
}

/// The logarithm to base 2.
#[inline(always)]
pub(in super::super) fn log2<V: Lanes>(x: V) -> V {
    // 1 / ln 2
    const HIGH: f32 = 1.442_695;
    const LOW: f32 = 1.925_963e-8;
    let (n, f) = split_any(x);
    let (l, low) = in_two_parts(f);
    let small = l.mul_add(V::splat(LOW), low * V::splat(HIGH));
    or_special(x, n + l.mul_add(V::splat(HIGH), small))
}

/// The logarithm to base 10.
#[inline(always)]
pub(in super::super) fn log10<V: Lanes>(x: V) -> V {
    // 1 / ln 10, and log10 2 with few bits in its high part, for n · LOG10_2_HIGH to be exact.
    const HIGH: f32 = 0.434_294_5;
    const LOW: f32 = -1.010_305_2e-8;
    const LOG10_2_HIGH: f32 = 0.301_025_4;
    const LOG10_2_LOW: f32 = 4.605_039e-6;
    let (n, f) = split_any(x);
    let (l, low) = in_two_parts(f);
    let small = l.mul_add(V::splat(LOW), low * V::splat(HIGH));
    let small = n.mul_add(V::splat(LOG10_2_LOW), small);
    or_special(x, n.mul_add(V::splat(LOG10_2_HIGH), l.mul_add(V::splat(HIGH), small)))
}
