//! Every op of the tables, at every level this machine has, against the scalar formula and against double precision.

use super::accuracy::ulps;
use super::fused::Fused;
use super::map::{self, Element, FloatOnly, Pair};
use crate::cpu::isa::{self, Isa};
use crate::op::{
    BinaryFormula, BinaryOp, BinaryVisitor, CompareOp, PredicateOp, UnaryFormula, UnaryOp, UnaryVisitor,
};
use half::{bf16, f16};

/// The formula of an op on one `f32`.
pub(super) struct Scalar;
impl UnaryVisitor for Scalar {
    type Output = fn(f32) -> f32;
    fn visit<F: UnaryFormula>(self) -> Self::Output {
        F::eval::<f32>
    }
}
impl BinaryVisitor for Scalar {
    type Output = fn(f32, f32) -> f32;
    fn visit<F: BinaryFormula>(self) -> Self::Output {
        F::eval::<f32>
    }
}

/// Values at which formulas tend to go wrong.
pub(super) const GRID: [f32; 33] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    2.0,
    -2.0,
    3.0,
    -3.0,
    2.5,
    -7.25,
    20.0,
    -20.0,
    88.7,
    -103.9,
    1e-3,
    -1e-3,
    1e-38,
    -1e-40,
    1.4e-45,
    -1.4e-45,
    1e5,
    -123456.78,
    16777216.0,
    1e20,
    -1e20,
    f32::MAX,
    f32::MIN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    std::f32::consts::PI,
];

/// Bit for bit, except that any NaN equals any NaN.
pub(super) fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

#[test]
fn binary_ops_equal_the_scalar_formula_and_are_accurate() {
    let pairs: Vec<(f32, f32)> = GRID.iter().flat_map(|&a| GRID.map(|b| (a, b))).collect();
    let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
    let mut y = vec![0.0; a.len()];
    for &op in BinaryOp::ALL {
        let (scalar, exact) = (op.dispatch(Scalar), op.scalar_f64());
        for &level in isa::available() {
            map::binary(op, level, &a, &b, &mut y).expect("f32 is a float");
            for i in 0..y.len() {
                let (a, b, y, name) = (a[i], b[i], y[i], op.name());
                let expected = scalar(a, b);
                assert!(
                    level == Isa::Portable || same(y, expected),
                    "{level} {name}({a:e}, {b:e}) = {y:e}, not {expected:e}"
                );
                // The quotient is rounded before it is rounded down, and the remainder is of the order of the
                // divisor: the two steps differ in double precision.
                if matches!(op, BinaryOp::FloorDivide | BinaryOp::Remainder) {
                    continue;
                }
                let exact = exact(f64::from(a), f64::from(b));
                assert!(ulps(y, exact) <= 3.0, "{level} {name}({a:e}, {b:e}) = {y:e}, exactly {exact:e}");
            }
        }
    }
}

/// The formula of a gradient on two `f64`.
struct Exact;
impl BinaryVisitor for Exact {
    type Output = fn(f64, f64) -> f64;
    fn visit<F: BinaryFormula>(self) -> Self::Output {
        F::eval::<f64>
    }
}

#[test]
fn gradients_in_one_pass_equal_the_scalar_formula_and_are_accurate() {
    let saved: Vec<f32> = (-400..=400).map(|i| i as f32 / 37.0).chain(GRID).collect();
    for &op in UnaryOp::ALL {
        let (Some(scalar), Some(exact)) = (op.dispatch_gradient(Scalar), op.dispatch_gradient(Exact)) else {
            continue;
        };
        for (&level, g) in isa::available().iter().flat_map(|l| [(l, -1.5f32), (l, 0.0), (l, f32::NAN)]) {
            let mut y = vec![0.0; saved.len()];
            map::binary(Pair::Gradient(op), level, &[g], &saved, &mut y).expect("the op has a gradient");
            for (&s, &y) in saved.iter().zip(&y) {
                let (name, expected) = (op.name(), scalar(g, s));
                assert!(
                    level == Isa::Portable || same(y, expected),
                    "{level} {name}: {g} at {s:e} gives {y:e}, not {expected:e}"
                );
                // Where two terms cancel, the error is relative to them, not to what is left.
                let exact = exact(f64::from(g), f64::from(s));
                assert!(
                    s.abs() > 20.0 || ulps(y, exact) <= 16.0 || (f64::from(y) - exact).abs() < 1e-6,
                    "{level} {name}: {g} at {s:e} gives {y:e}, exactly {exact:e}"
                );
            }
        }
        let mut wrong = [0i32];
        assert_eq!(map::binary(Pair::Gradient(op), isa::isa(), &[1], &[1], &mut wrong), Err(FloatOnly));
    }
}

/// Every way of calling a binary op gives what it gives pair by pair, and nothing is written beyond the end.
fn check_lengths<T: Element + std::fmt::Debug>(convert: impl Fn(i32) -> T) {
    for &level in isa::available() {
        for n in (0..68).chain([255, 1024, 1025, 2100]) {
            let a: Vec<T> = (0..n).map(|i| convert(i * 7 % 23 - 9)).collect();
            let b: Vec<T> = (0..n).map(|i| convert(i * 5 % 11 + 1)).collect();
            let guard = convert(77);
            let n = n as usize;
            let zero = T::default();

            let mut y = vec![guard; n + 3];
            map::unary(UnaryOp::Square, level, &a, &mut y[..n]).expect("every dtype has squares");
            assert!(y[n..].iter().all(|&y| y == guard), "{n} at {level}");
            let mut x = a.clone();
            map::unary_inplace(UnaryOp::Square, level, &mut x).expect("every dtype has squares");
            assert_eq!(x, y[..n]);
            for i in 0..n {
                let mut one = [zero];
                map::unary(UnaryOp::Square, level, &a[i..=i], &mut one).expect("every dtype has squares");
                assert_eq!(one[0], x[i], "{n} at {level}");
            }

            for op in [BinaryOp::Sub, BinaryOp::Fmod] {
                let run = |a: &[T], b: &[T]| {
                    let mut y = vec![guard; n + 3];
                    map::binary(op, level, a, b, &mut y[..n]).expect("every dtype subtracts");
                    assert!(y[n..].iter().all(|&y| y == guard), "{n} at {level}");
                    y.truncate(n);
                    y
                };
                let pairwise = |a: &dyn Fn(usize) -> T, b: &dyn Fn(usize) -> T| -> Vec<T> {
                    let mut y = vec![zero; n];
                    for i in 0..n {
                        map::binary(op, level, &[a(i)], &[b(i)], &mut y[i..=i])
                            .expect("every dtype subtracts");
                    }
                    y
                };
                let expected = pairwise(&|i| a[i], &|i| b[i]);
                assert_eq!(run(&a, &b), expected);
                assert_eq!(run(&a, &[convert(3)]), pairwise(&|i| a[i], &|_| convert(3)));
                assert_eq!(run(&[convert(5)], &b), pairwise(&|_| convert(5), &|i| b[i]));
                let (mut left, mut right) = (a.clone(), b.clone());
                map::binary_into_left(op, level, &mut left, &b).expect("every dtype subtracts");
                map::binary_into_right(op, level, &a, &mut right).expect("every dtype subtracts");
                assert_eq!((&left, &right), (&expected, &expected));
            }

            let mut y = vec![9u8; n + 3];
            map::compare(CompareOp::Lt, level, &a, &b, &mut y[..n]);
            assert!((0..n).all(|i| y[i] == u8::from(a[i] < b[i])) && y[n..] == [9; 3]);
            map::compare(CompareOp::Ge, level, &a, &[convert(2)], &mut y[..n]);
            assert!((0..n).all(|i| y[i] == u8::from(a[i] >= convert(2))) && y[n..] == [9; 3]);
            map::predicate(PredicateOp::LogicalNot, level, &a, &mut y[..n]);
            assert!((0..n).all(|i| y[i] == u8::from(a[i] == zero)) && y[n..] == [9; 3]);
        }
    }
}

#[test]
fn any_length_in_place_or_repeated_gives_the_same_elements() {
    check_lengths(|i| i as f32);
    check_lengths(f64::from);
    check_lengths(|i| f16::from_f32(i as f32));
    check_lengths(|i| bf16::from_f32(i as f32));
    check_lengths(|i| i);
    check_lengths(i64::from);
    check_lengths(|i| i as i8);
    check_lengths(|i| i as u8);
    check_lengths(|i| i as u32);
}

/// The formula of an op on doubles: of the C library at the portable level, else of `math64`.
struct Doubles(Isa);
impl UnaryVisitor for Doubles {
    type Output = fn(f64) -> f64;
    fn visit<F: UnaryFormula>(self) -> Self::Output {
        if self.0 == Isa::Portable { F::eval::<f64> } else { |x| F::eval(Fused(x)).0 }
    }
}
impl BinaryVisitor for Doubles {
    type Output = fn(f64, f64) -> f64;
    fn visit<F: BinaryFormula>(self) -> Self::Output {
        if self.0 == Isa::Portable { F::eval::<f64> } else { |a, b| F::eval(Fused(a), Fused(b)).0 }
    }
}

#[test]
fn doubles_equal_the_formula_bit_for_bit() {
    let x: Vec<f64> = GRID.into_iter().map(f64::from).chain([1e300, -1e-310, 709.0, 0.1]).collect();
    let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    for &level in isa::available() {
        let mut y = vec![0.0; x.len()];
        for &op in UnaryOp::ALL {
            let formula = op.dispatch(Doubles(level));
            map::unary(op, level, &x, &mut y).expect("f64 is a float");
            for (&x, &y) in x.iter().zip(&y) {
                let expected = formula(x);
                assert!(same(y, expected), "{level} {}({x:e}) = {y:e}, not {expected:e}", op.name());
            }
        }
        for &op in BinaryOp::ALL {
            let formula = op.dispatch(Doubles(level));
            for &b in &x {
                map::binary(op, level, &x, &[b], &mut y).expect("f64 is a float");
                for (&a, &y) in x.iter().zip(&y) {
                    let expected = formula(a, b);
                    let name = op.name();
                    assert!(same(y, expected), "{level} {name}({a:e}, {b:e}) = {y:e}, not {expected:e}");
                }
            }
        }
    }
}

#[test]
fn sixteen_bit_floats_are_computed_in_f32_and_rounded_once() {
    let x: Vec<bf16> = (0..=u16::MAX).step_by(7).map(bf16::from_bits).collect();
    let wide: Vec<f32> = x.iter().map(|&x| f32::from(x)).collect();
    for &level in isa::available() {
        for &op in UnaryOp::ALL {
            let (mut y, mut expected) = (vec![bf16::ZERO; x.len()], vec![0.0; x.len()]);
            map::unary(op, level, &x, &mut y).expect("bf16 is a float");
            map::unary(op, level, &wide, &mut expected).expect("f32 is a float");
            for (y, expected) in y.into_iter().zip(expected) {
                assert!(same(f32::from(y), f32::from(bf16::from_f32(expected))), "{level} {}", op.name());
            }
        }
    }
}

#[test]
fn integers_have_the_ops_that_stay_integers() {
    let x = [i32::MIN, -7, -1, 0, 1, 7, i32::MAX];
    for &level in isa::available() {
        let mut y = x;
        for &op in UnaryOp::ALL {
            let result = map::unary(op, level, &x, &mut y);
            use UnaryOp::*;
            let expected: fn(i32) -> i32 = match op {
                Neg => i32::wrapping_neg,
                Abs => i32::wrapping_abs,
                Sign => i32::signum,
                Square => |x| x.wrapping_mul(x),
                Relu => |x| x.max(0),
                Floor | Ceil | Round | Trunc => |x| x,
                _ => {
                    assert_eq!(result, Err(FloatOnly), "{}", op.name());
                    continue;
                }
            };
            assert_eq!((result, y), (Ok(()), x.map(expected)), "{}", op.name());
        }
        assert_eq!(map::binary(BinaryOp::Div, level, &x, &x, &mut y), Err(FloatOnly));
        map::binary(BinaryOp::FloorDivide, level, &x, &[-2], &mut y).expect("integers divide");
        assert_eq!(y, [1 << 30, 3, 0, 0, -1, -4, -(1 << 30)]);
        map::binary(BinaryOp::FloorDivide, level, &x, &[0], &mut y).expect("integers divide");
        assert_eq!(y, [0; 7]);
        map::binary(BinaryOp::FloorDivide, level, &x, &[-1], &mut y).expect("integers divide");
        assert_eq!(y[0], i32::MIN);
    }
}

#[test]
fn questions_get_the_scalar_answer() {
    let (mut y, mut p) = (vec![9u8; GRID.len()], vec![9u8; GRID.len()]);
    for &level in isa::available() {
        for &op in CompareOp::ALL {
            for b in GRID {
                map::compare(op, level, &GRID, &[b], &mut y);
                assert!(
                    GRID.iter().zip(&y).all(|(&a, &y)| y == u8::from(op.scalar(a, b))),
                    "{} {b}",
                    op.name()
                );
            }
        }
        for &op in PredicateOp::ALL {
            map::predicate(op, level, &GRID, &mut p);
            assert!(GRID.iter().zip(&p).all(|(&x, &y)| y == u8::from(op.scalar(x))), "{}", op.name());
        }
    }
}
