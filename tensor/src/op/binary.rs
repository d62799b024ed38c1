//! Every binary op, once. A row is: doc, variant, method name, formula, and a formula for integers if they have one.
//!
//! Ops with one parameter (`leaky_relu`, `elu`) are binary ops too: the parameter is the right-hand side, usually a
//! single element that broadcasts.

use super::real::{Int, Real};

/// A row of the table: a formula for every floating-point type and width.
pub trait BinaryFormula {
    /// The value of the op at `(a, b)`.
    fn eval<T: Real>(a: T, b: T) -> T;
}

/// A row that also has a formula for integers.
pub trait BinaryIntFormula {
    /// The value of the op at `(a, b)`.
    fn eval<T: Int>(a: T, b: T) -> T;
}

/// Something to be done with a row chosen at run time; it is compiled once for each row.
pub trait BinaryVisitor {
    /// What it returns.
    type Output;
    /// Does it with the row `F`.
    fn visit<F: BinaryFormula>(self) -> Self::Output;
}

/// As [`BinaryVisitor`], for the rows that have a formula for integers.
pub trait BinaryIntVisitor {
    /// What it returns.
    type Output;
    /// Does it with the row `F`.
    fn visit<F: BinaryIntFormula>(self) -> Self::Output;
}

/// `Some(visit)` for a row with an integer formula, `None` for one without.
macro_rules! visit_int {
    ($visitor:ident $Op:ident) => {
        None
    };
    ($visitor:ident $Op:ident $formula:expr) => {
        Some($visitor.visit::<row::$Op>())
    };
}

macro_rules! binary_ops {
    ($( $(#[$doc:meta])+ $Op:ident $name:ident |$a:ident, $b:ident| $formula:expr
        $(, int |$i:ident, $j:ident| $int:expr)?; )+) => {
        /// A function of two elements, `a` on the left and `b` on the right.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        pub enum BinaryOp { $( $(#[$doc])+ $Op, )+ }

        /// The rows as types, one for each op.
        pub mod row {
            use super::*;
            $(
                $(#[$doc])+
                #[derive(Clone, Copy, Debug)]
                pub struct $Op;

                impl BinaryFormula for $Op {
                    #[inline(always)]
                    fn eval<T: Real>($a: T, $b: T) -> T { $formula }
                }

                $( impl BinaryIntFormula for $Op {
                    #[inline(always)]
                    fn eval<T: Int>($i: T, $j: T) -> T { $int }
                } )?
            )+
        }

        impl BinaryOp {
            /// All of them, in the order of the table.
            pub const ALL: &'static [BinaryOp] = &[$(BinaryOp::$Op),+];

            /// The name of the method, which is PyTorch's name.
            pub fn name(self) -> &'static str {
                match self { $(BinaryOp::$Op => stringify!($name),)+ }
            }

            /// Hands the op's row to `visitor`.
            #[inline]
            pub fn dispatch<V: BinaryVisitor>(self, visitor: V) -> V::Output {
                match self { $(BinaryOp::$Op => visitor.visit::<row::$Op>(),)+ }
            }

            /// Hands the op's integer formula to `visitor`; `None` if the op is defined for floating point only.
            #[inline]
            pub fn dispatch_int<V: BinaryIntVisitor>(self, visitor: V) -> Option<V::Output> {
                match self { $(BinaryOp::$Op => visit_int!(visitor $Op $($int)?),)+ }
            }

            /// The op as a function of two `f64`: what every kernel is compared with.
            pub fn scalar_f64(self) -> fn(f64, f64) -> f64 {
                match self { $(BinaryOp::$Op => <row::$Op as BinaryFormula>::eval::<f64>,)+ }
            }
        }

        /// Writes one documented method of `Tensor` for each row.
        #[allow(unused_macros, reason = "a table is usable without the tensor that it gives methods to")]
        macro_rules! binary_methods { () => {
            impl $crate::Tensor { $(
                $(#[$doc])+
                pub fn $name(&self, other: &$crate::Tensor) -> $crate::Result<$crate::Tensor> {
                    self.binary($crate::op::BinaryOp::$Op, other)
                }
            )+ }
        } }
        #[allow(unused_imports, reason = "as above")]
        pub(crate) use binary_methods;
    };
}

binary_ops! {
    /// `a + b`.
    Add add |a, b| a + b, int |a, b| a.add(b);
    /// `a - b`.
    Sub sub |a, b| a - b, int |a, b| a.sub(b);
    /// `a · b`.
    Mul mul |a, b| a * b, int |a, b| a.mul(b);
    /// `a / b`, of floating-point numbers only: see `floor_divide` for integers.
    Div div |a, b| a / b;
    /// `⌊a / b⌋`. An integer divided by 0 gives 0.
    FloorDivide floor_divide |a, b| {
        // What is left after the remainder divides evenly, up to rounding, unlike `a` itself.
        let rest = a.fmod(b);
        let towards_zero = (a - rest) / b;
        let quotient = T::select(signs_differ(rest, b), towards_zero - T::one(), towards_zero).round();
        let zero = T::zero().copysign(a / b);
        let quotient = T::select(quotient.eq(T::zero()), zero, quotient);
        T::select(b.eq(T::zero()), a / b, quotient)
    }, int |a, b| a.floor_div(b);
    /// `a - b · ⌊a / b⌋`, which has the sign of `b`. An integer modulo 0 gives 0.
    Remainder remainder |a, b| remainder(a, b), int |a, b| a.remainder(b);
    /// `a - b · trunc(a / b)`, which has the sign of `a`. An integer modulo 0 gives 0.
    Fmod fmod |a, b| a.fmod(b), int |a, b| a.fmod(b);
    /// `a^b`. Integers wrap; a negative integer exponent truncates the power to an integer.
    Pow pow |a, b| a.powf(b), int |a, b| a.pow(b);
    /// The larger one; NaN if either is NaN.
    Maximum maximum |a, b| a.max(b), int |a, b| a.max(b);
    /// The smaller one; NaN if either is NaN.
    Minimum minimum |a, b| a.min(b), int |a, b| a.min(b);
    /// The angle of the point `(b, a)`, in `[-π, π]`.
    Atan2 atan2 |a, b| a.atan2(b);
    /// `√(a² + b²)`, without overflow.
    Hypot hypot |a, b| {
        let (a, b) = (a.abs(), b.abs());
        let (long, short) = (a.max(b), a.min(b));
        let ratio = short / long;
        let length = long * ratio.mul_add(ratio, T::one()).sqrt();
        let infinity = T::splat(f64::INFINITY);
        let length = T::select(long.eq(T::zero()), long, length);
        T::select(a.eq(infinity) | b.eq(infinity), infinity, length)
    };
    /// `log(e^a + e^b)`, without overflow.
    Logaddexp logaddexp |a, b| {
        let apart = (-(a - b).abs()).exp().ln_1p();
        // Equal infinities have no difference.
        a.max(b) + T::select(a.eq(b), T::splat(std::f64::consts::LN_2), apart)
    };
    /// `a · log(b)`; 0 where `a` is 0, unless `b` is NaN.
    Xlogy xlogy |a, b| T::select(a.eq(T::zero()) & b.eq(b), T::zero(), a * b.ln());
    /// `a` above 0, `b · a` elsewhere: `b` is the slope.
    LeakyRelu leaky_relu |a, b| T::select(a.gt(T::zero()), a, a * b);
    /// `a` above 0, `b · (e^a - 1)` elsewhere: `b` is PyTorch's `alpha`.
    Elu elu |a, b| T::select(a.gt(T::zero()), a, b * a.exp_m1());
}

/// `a - b · ⌊a / b⌋`.
#[inline(always)]
fn remainder<T: Real>(a: T, b: T) -> T {
    let rest = a.fmod(b);
    T::select(signs_differ(rest, b), rest + b, rest)
}

/// Whether one of them is below zero and the other above.
#[inline(always)]
fn signs_differ<T: Real>(a: T, b: T) -> T::Mask {
    let zero = T::zero();
    (a.lt(zero) & b.gt(zero)) | (a.gt(zero) & b.lt(zero))
}

#[cfg(test)]
mod tests {
    use super::BinaryOp;

    const INF: f64 = f64::INFINITY;
    const NAN: f64 = f64::NAN;

    #[test]
    fn formulas_are_right_at_the_edges() {
        use BinaryOp::*;
        let cases: &[(BinaryOp, f64, f64, f64)] = &[
            (FloorDivide, 7.0, 2.0, 3.0),
            (FloorDivide, -7.0, 2.0, -4.0),
            (FloorDivide, 1.0, 0.1, 9.0),
            (FloorDivide, 1.0, 0.0, INF),
            (FloorDivide, 0.0, -1.0, -0.0),
            (FloorDivide, 1.0, INF, 0.0),
            (FloorDivide, -1.0, INF, -1.0),
            (Remainder, -7.0, 3.0, 2.0),
            (Remainder, 7.0, -3.0, -2.0),
            (Remainder, 6.0, 3.0, 0.0),
            (Remainder, 1.0, 0.0, NAN),
            (Remainder, -1.0, INF, INF),
            (Fmod, -7.0, 3.0, -1.0),
            (Fmod, 7.0, -3.0, 1.0),
            (Pow, 0.0, 0.0, 1.0),
            (Pow, -8.0, 1.0 / 3.0, NAN),
            (Pow, NAN, 0.0, 1.0),
            (Maximum, NAN, 1.0, NAN),
            (Maximum, 1.0, NAN, NAN),
            (Minimum, 1.0, NAN, NAN),
            (Hypot, 3.0, -4.0, 5.0),
            (Hypot, 0.0, 0.0, 0.0),
            (Hypot, 3e300, 4e300, 5e300),
            (Hypot, -INF, NAN, INF),
            (Logaddexp, -INF, -INF, -INF),
            (Logaddexp, INF, INF, INF),
            (Logaddexp, INF, -INF, INF),
            (Logaddexp, 1000.0, 0.0, 1000.0),
            (Logaddexp, NAN, 0.0, NAN),
            (Xlogy, 0.0, 0.0, 0.0),
            (Xlogy, 0.0, INF, 0.0),
            (Xlogy, 0.0, NAN, NAN),
            (Xlogy, 1.0, 0.0, -INF),
            (LeakyRelu, -2.0, 0.25, -0.5),
            (LeakyRelu, NAN, 0.1, NAN),
            (Elu, -INF, 2.0, -2.0),
            (Elu, INF, 2.0, INF),
            (Elu, 0.0, 1.0, 0.0),
        ];
        for &(op, a, b, expected) in cases {
            let y = op.scalar_f64()(a, b);
            let same = y.to_bits() == expected.to_bits() || (y.is_nan() && expected.is_nan());
            assert!(same, "{}({a}, {b}) = {y}, expected {expected}", op.name());
        }
    }
}
