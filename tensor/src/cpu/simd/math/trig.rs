//! Sine and cosine: `x = n · π/2 + r` with `|r| <= π/4`; `n mod 4` says which function of `r` is wanted. The others go through
//! double precision.

use super::super::lanes::{BitLanes, Lanes};
use super::{abs, double, low_bits, nearest, polynomial};
use std::f32::consts::FRAC_2_PI;

/// Up to here three parts of `π/2` are enough; larger angles are rare and computed in double precision.
const LARGE: f32 = 1e5;

/// `π/2` as the sum of three numbers, each the rounding of what the others leave.
const FRAC_PI_2: [f32; 3] = [1.570_796_4, -4.371_139e-8, -1.715_124_5e-15];

/// The sine for `shift = 0`, the cosine for `shift = 1`, of `|x| <= LARGE`.
#[inline(always)]
fn sin_shifted<V: Lanes>(x: V, shift: i32) -> V {
    let n = nearest(x * V::splat(FRAC_2_PI));
    let [high, middle, low] = FRAC_PI_2.map(V::splat);
    // The first difference is exact; the other two round once each.
    let r = (-n).mul_add_exact(high, x);
    let r = (-n).mul_add_exact(middle, r);
    let r = (-n).mul_add(low, r);

    let z = r * r;
    // sin r = r + r³ · s(r²), to 2^-32
    let s = polynomial(z, [-0.166_666_67, 8.333_38e-3, -1.985_349_8e-4, 2.837_247_2e-6]);
    let sine = s.mul_add(r * z, r);
    // cos r = 1 - r²/2 + r⁴ · c(r²), to 2^-37
    let c = polynomial(z, [0.041_666_668, -1.388_898_2e-3, 2.482_296_8e-5, -2.897_416_5e-7]);
    let cosine = c.mul_add(z * z, z.mul_add(V::splat(-0.5), V::splat(1.0)));

    let quadrant = low_bits(n).add(V::Bits::splat(shift));
    let even = quadrant.and(V::Bits::splat(1)).is_zero();
    let sign = quadrant.and(V::Bits::splat(2)).shl::<30>();
    V::select(even, sine, cosine).bits().xor(sign).as_float()
}

/// Sine of an angle in radians.
#[inline(always)]
pub(in super::super) fn sin<V: Lanes>(x: V) -> V {
    let y = V::select(x.eq(V::splat(0.0)), x, sin_shifted(x, 0));
    let large = V::splat(LARGE).lt(abs(x));
    if V::any(large) { V::select(large, x.map(f64::sin), y) } else { y }
}

/// Cosine of an angle in radians.
#[inline(always)]
pub(in super::super) fn cos<V: Lanes>(x: V) -> V {
    let y = sin_shifted(x, 1);
    let large = V::splat(LARGE).lt(abs(x));
    if V::any(large) { V::select(large, x.map(f64::cos), y) } else { y }
}

/// Tangent of an angle in radians.
#[inline(always)]
pub(in super::super) fn tan<V: Lanes>(x: V) -> V {
    let usual = abs(x).le(V::splat(LARGE));
    if V::any(!usual) { x.map(f64::tan) } else { x.map(double::tan) }
}

macro_rules! through_doubles {
    ($($(#[$doc:meta])+ $name:ident;)+) => { $(
        $(#[$doc])+
        #[inline(always)]
        pub(in super::super) fn $name<V: Lanes>(x: V) -> V {
            x.map(double::$name)
        }
    )+ };
}
through_doubles! {
    /// The angle in `[-π/2, π/2]` whose sine is `x`.
    asin;
    /// The angle in `[0, π]` whose cosine is `x`.
    acos;
    /// The angle in `[-π/2, π/2]` whose tangent is `x`.
    atan;
    /// Hyperbolic sine.
    sinh;
    /// Hyperbolic cosine.
    cosh;
}

/// The angle of the point `(x, y)`.
#[inline(always)]
pub(in super::super) fn atan2<V: Lanes>(y: V, x: V) -> V {
    y.map2(x, double::atan2)
}
