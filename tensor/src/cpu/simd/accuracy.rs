//! How exact the functions of `f32` are: against double precision, some numbers of every exponent in each run of the tests, and
//! all 2³² on demand.

use super::map;
use super::tests::{GRID, Scalar, same};
use crate::cpu::isa::{self, Isa};
use crate::cpu::wide::dispatch;
use crate::op::UnaryOp;

/// The distance of `y` from the exact value, in units in the last place of an `f32` of that size.
#[inline(always)]
pub(super) fn ulps(y: f32, exact: f64) -> f64 {
    // The exponent field of a double, less 23.
    let unit = ((exact.to_bits() >> 52) & 0x7ff).clamp(1023 - 126, 1023 + 127) - 23;
    let error = (f64::from(y) - exact).abs() / f64::from_bits(unit << 52);
    let agree = (y.is_nan() & exact.is_nan()) | (y.is_infinite() & (y == exact as f32));
    let error = if error.is_nan() { f64::INFINITY } else { error };
    if agree { 0.0 } else { error }
}

/// As [`ulps`]. Where a subnormal, which has few bits, was multiplied by `x`, the error may be that of the subnormal.
#[inline(always)]
fn error(x: f32, y: f32, exact: f64) -> f64 {
    let subnormal = f64::from_bits((1023 - 149) << 52) * f64::from(x).abs().clamp(1.0, 128.0);
    let excused = (exact.abs() < 1e-34) & ((f64::from(y) - exact).abs() <= subnormal);
    if excused { 0.0 } else { ulps(y, exact) }
}

/// The largest error of an op in ulp that is allowed: what sweeps found, rounded up. The table in [`super::math`] has the figures.
fn bound(op: UnaryOp) -> f64 {
    use UnaryOp::*;
    match op {
        Neg | Abs | Sign | Relu | Relu6 | Floor | Ceil | Round | Trunc => 0.0,
        // One rounding: of IEEE arithmetic.
        Recip | Square | Sqrt => 0.501,
        // Of a result in double precision that may be off by a hundredth.
        Tan | Asin | Acos | Atan | Sinh | Cosh => 0.51,
        Exp2 | Log | Log2 | Log10 | Erf | Hardsigmoid => 1.0,
        Exp => 1.1,
        Expm1 | Log1p | Rsqrt | Tanh => 1.6,
        Sin | Cos | Softplus | Logsigmoid | Hardswish => 2.0,
        Sigmoid => 2.5,
        Silu => 3.5,
        Mish => 5.0,
        // Worst where Φ(x) is subnormal and its rounding is multiplied by x.
        Gelu => 8.0,
        // The exponent is rounded before e to its power is taken: 2⁻²⁴ of an exponent of 88 is 88 half ulp of the power, and the
        // polynomial in it adds its own roundings.
        GeluTanh => 256.0,
        // What an op that is new here has to keep to, until it gets a line of its own.
        #[allow(unreachable_patterns, reason = "every op may have one")]
        _ => 4.0,
    }
}

/// The bound of an op at a level: without fused multiplication and addition there are more roundings.
fn bound_at(op: UnaryOp, level: Isa) -> f64 {
    bound(op) * if level == Isa::Portable { 1.5 } else { 1.0 }
}

/// Numbers next to every power of 2 and between them, and every 9973rd of all.
fn sample() -> Vec<f32> {
    let near = (0..=0x1ff_u32).flat_map(|e| {
        let between = (0..64).map(|i: u32| i.wrapping_mul(0x9e37_79b9) >> 9);
        [0, 1, 2, 0x7f_ffff, 0x7f_fffe, 0x40_0000].into_iter().chain(between).map(move |m| e << 23 | m)
    });
    let rest = (0..=u32::MAX).step_by(9_973);
    GRID.into_iter().chain(near.chain(rest).map(f32::from_bits)).collect()
}

#[test]
fn unary_ops_equal_the_scalar_formula_and_are_accurate() {
    let x = sample();
    let mut y = vec![0.0; x.len()];
    for &op in UnaryOp::ALL {
        let (scalar, exact, name) = (op.dispatch(Scalar), op.scalar_f64(), op.name());
        for &level in isa::available() {
            map::unary(op, level, &x, &mut y).expect("f32 is a float");
            for (&x, &y) in x.iter().zip(&y) {
                let expected = scalar(x);
                assert!(
                    level == Isa::Portable || same(y, expected),
                    "{level} {name}({x:e}) = {y:e}, not {expected:e}"
                );
                let error = error(x, y, exact(f64::from(x)));
                assert!(error <= bound_at(op, level), "{level} {name}({x:e}) = {y:e}, {error} ulp off");
            }
        }
    }
}

dispatch! {
    /// The largest error.
    fn largest_error(x: &[f32], y: &[f32], exact: &[f64]) -> f64 {
        x.iter().zip(y).zip(exact).fold(0.0, |worst, ((&x, &y), &exact)| {
            let error = error(x, y, exact);
            if error > worst { error } else { worst }
        })
    }
}

/// The largest error of an op among every `stride`-th number, and where.
///
/// Doubles come from the loops for them, which are vectors too, and off by a few of their own ulp: some 2⁻²⁸ of one here. Where
/// the error is the largest so far, the library's function has the last word.
fn sweep(op: UnaryOp, level: Isa, stride: u64) -> (f64, f32) {
    const BLOCK: usize = 2048;
    let best = *isa::available().last().expect("there is a level");
    let (mut x, mut y) = ([0f32; BLOCK], [0f32; BLOCK]);
    let (mut wide, mut exact) = ([0f64; BLOCK], [0f64; BLOCK]);
    let mut worst = (0.0, 0.0);
    for start in (0..1u64 << 32).step_by(BLOCK * stride as usize) {
        for i in 0..BLOCK {
            // Beyond the end it starts anew.
            x[i] = f32::from_bits((start + i as u64 * stride) as u32);
            wide[i] = f64::from(x[i]);
        }
        map::unary(op, level, &x, &mut y).expect("f32 is a float");
        map::unary(op, best, &wide, &mut exact).expect("f64 is a float");
        if largest_error(best, &x, &y, &exact) > worst.0 {
            for i in 0..BLOCK {
                let error = error(x[i], y[i], op.scalar_f64()(wide[i]));
                if error > worst.0 {
                    worst = (error, x[i]);
                }
            }
        }
    }
    worst
}

/// `STRIDE`, `OPS` (names with commas) and `LEVELS` in the environment make it a part of that.
#[test]
#[ignore = "takes half an hour: all 2^32 numbers"]
fn unary_ops_are_accurate_everywhere() {
    let stride = std::env::var("STRIDE").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let chosen = |what: &str, name: &str| {
        std::env::var(what).ok().is_none_or(|list| list.split(',').any(|one| one == name))
    };
    for op in UnaryOp::ALL.iter().filter(|op| chosen("OPS", op.name())) {
        for level in isa::available().iter().filter(|level| chosen("LEVELS", &level.to_string())) {
            let (error, at) = sweep(*op, *level, stride);
            println!("{:12} {level:8} {error:8.4} ulp at {at:e}", op.name());
            assert!(error <= bound_at(*op, *level), "{level} {}({at:e}): {error} ulp", op.name());
        }
    }
}

#[test]
#[ignore = "prints the time of every op"]
fn unary_ops_in_numbers() {
    let x: Vec<f32> = (0..1 << 18).map(|i| (i * 7919 % 1000) as f32 / 250.0 - 2.0).collect();
    let mut y = vec![0.0; x.len()];
    for &op in UnaryOp::ALL {
        for &level in isa::available() {
            let times = (0..20).map(|_| {
                let start = std::time::Instant::now();
                map::unary(op, level, &x, &mut y).expect("f32 is a float");
                start.elapsed()
            });
            println!("{:12} {level:8} {:?} for 256K", op.name(), times.min().expect("it ran"));
        }
    }
}
