//! Every unary op, once. A row is: doc, variant, method name, formula, a formula for integers if they have one, and what the
//! gradient is if one pass can compute it: from the gradient `g` of the result, and from the input `x` or the result `y`,
//! whichever the op's rule in `autograd` saves.

use super::binary::{BinaryFormula, BinaryVisitor};
use super::real::{Int, Real};

/// A row of the table: a formula for every floating-point type and width.
pub trait UnaryFormula {
    /// The value of the op at `x`.
    fn eval<T: Real>(x: T) -> T;
}

/// A row that also has a formula for integers.
pub trait UnaryIntFormula {
    /// The value of the op at `x`.
    fn eval<T: Int>(x: T) -> T;
}

/// Something to be done with a row chosen at run time; it is compiled once for each row.
pub trait UnaryVisitor {
    /// What it returns.
    type Output;
    /// Does it with the row `F`.
    fn visit<F: UnaryFormula>(self) -> Self::Output;
}

/// As [`UnaryVisitor`], for the rows that have a formula for integers.
pub trait UnaryIntVisitor {
    /// What it returns.
    type Output;
    /// Does it with the row `F`.
    fn visit<F: UnaryIntFormula>(self) -> Self::Output;
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

/// `Some(visit)` for a row with a gradient, `None` for one without.
macro_rules! visit_gradient {
    ($visitor:ident $Op:ident) => {
        None
    };
    ($visitor:ident $Op:ident $formula:expr) => {
        Some($visitor.visit::<row::$Op>())
    };
}

macro_rules! unary_ops {
    ($( $(#[$doc:meta])+ $Op:ident $name:ident |$x:ident| $formula:expr
        $(, int |$i:ident| $int:expr)? $(, back |$g:ident, $s:ident| $back:expr)?; )+) => {
        /// A function of one element.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        pub enum UnaryOp { $( $(#[$doc])+ $Op, )+ }

        /// The rows as types, one for each op.
        pub mod row {
            use super::*;
            $(
                $(#[$doc])+
                #[derive(Clone, Copy, Debug)]
                pub struct $Op;

                impl UnaryFormula for $Op {
                    #[inline(always)]
                    fn eval<T: Real>($x: T) -> T { $formula }
                }

                $( impl UnaryIntFormula for $Op {
                    #[inline(always)]
                    fn eval<T: Int>($i: T) -> T { $int }
                } )?

                // The gradient of the op, as a function of that of its result and of what was saved.
                $( impl BinaryFormula for $Op {
                    #[inline(always)]
                    fn eval<T: Real>($g: T, $s: T) -> T { $back }
                } )?
            )+
        }

        impl UnaryOp {
            /// All of them, in the order of the table.
            pub const ALL: &'static [UnaryOp] = &[$(UnaryOp::$Op),+];

            /// The name of the method, which is PyTorch's name.
            pub fn name(self) -> &'static str {
                match self { $(UnaryOp::$Op => stringify!($name),)+ }
            }

            /// Hands the op's row to `visitor`.
            #[inline]
            pub fn dispatch<V: UnaryVisitor>(self, visitor: V) -> V::Output {
                match self { $(UnaryOp::$Op => visitor.visit::<row::$Op>(),)+ }
            }

            /// Hands the op's integer formula to `visitor`; `None` if the op is defined for floating point only.
            #[inline]
            pub fn dispatch_int<V: UnaryIntVisitor>(self, visitor: V) -> Option<V::Output> {
                match self { $(UnaryOp::$Op => visit_int!(visitor $Op $($int)?),)+ }
            }

            /// Hands the op's gradient, as a function of that of its result and of what its rule saves, to `visitor`; `None` if
            /// it is not computed in one pass.
            #[inline]
            pub fn dispatch_gradient<V: BinaryVisitor>(self, visitor: V) -> Option<V::Output> {
                match self { $(UnaryOp::$Op => visit_gradient!(visitor $Op $($back)?),)+ }
            }

            /// The op as a function of one `f64`: what every kernel is compared with.
            pub fn scalar_f64(self) -> fn(f64) -> f64 {
                match self { $(UnaryOp::$Op => <row::$Op as UnaryFormula>::eval::<f64>,)+ }
            }
        }

        /// Writes one documented method of `Tensor` for each row.
        #[allow(unused_macros, reason = "a table is usable without the tensor that it gives methods to")]
        macro_rules! unary_methods { () => {
            impl $crate::Tensor { $(
                $(#[$doc])+
                pub fn $name(&self) -> $crate::Result<$crate::Tensor> {
                    self.unary($crate::op::UnaryOp::$Op)
                }
            )+ }
        } }
        #[allow(unused_imports, reason = "as above")]
        pub(crate) use unary_methods;
    };
}

unary_ops! {
    /// `-x`.
    Neg neg |x| -x, int |x| x.neg();
    /// `|x|`.
    Abs abs |x| x.abs(), int |x| x.abs(),
        back |g, x| g * sign(x);
    /// -1, 0 or 1, as `x` is negative, zero or positive. NaN gives 0, as in PyTorch.
    Sign sign |x| sign(x), int |x| x.sign();
    /// `1 / x`.
    Recip reciprocal |x| T::one() / x,
        back |g, y| -(g * (y * y));
    /// `x²`.
    Square square |x| x * x, int |x| x.mul(x),
        back |g, x| g * (x + x);
    /// `√x`; NaN below 0.
    Sqrt sqrt |x| x.sqrt(),
        back |g, y| g / (y + y);
    /// `1 / √x`.
    Rsqrt rsqrt |x| T::one() / x.sqrt(),
        back |g, y| g * (y * y * y) * T::splat(-0.5);
    /// `e^x`.
    Exp exp |x| x.exp();
    /// `2^x`.
    Exp2 exp2 |x| x.exp2();
    /// `e^x - 1`, accurate near 0.
    Expm1 expm1 |x| x.exp_m1();
    /// The natural logarithm.
    Log log |x| x.ln();
    /// The logarithm to base 2.
    Log2 log2 |x| x.log2();
    /// The logarithm to base 10.
    Log10 log10 |x| x.log10();
    /// `log(1 + x)`, accurate near 0.
    Log1p log1p |x| x.ln_1p(),
        back |g, x| g / (x + T::one());
    /// Sine of an angle in radians.
    Sin sin |x| x.sin(),
        back |g, x| g * x.cos();
    /// Cosine of an angle in radians.
    Cos cos |x| x.cos(),
        back |g, x| -(g * x.sin());
    /// Tangent of an angle in radians.
    Tan tan |x| x.tan();
    /// The angle in `[-π/2, π/2]` whose sine is `x`; NaN outside `[-1, 1]`.
    Asin asin |x| x.asin();
    /// The angle in `[0, π]` whose cosine is `x`; NaN outside `[-1, 1]`.
    Acos acos |x| x.acos();
    /// The angle in `[-π/2, π/2]` whose tangent is `x`.
    Atan atan |x| x.atan();
    /// Hyperbolic sine.
    Sinh sinh |x| x.sinh();
    /// Hyperbolic cosine.
    Cosh cosh |x| x.cosh();
    /// Hyperbolic tangent.
    Tanh tanh |x| x.tanh(),
        back |g, y| g * (-y).mul_add(y, T::one());
    /// `1 / (1 + e^(-x))`.
    Sigmoid sigmoid |x| logistic(x),
        back |g, y| g * ((T::one() - y) * y);
    /// `max(x, 0)`. The gradient at 0 is 0.
    Relu relu |x| T::select(x.le(T::zero()), T::zero(), x), int |x| x.max(T::ZERO),
        back |g, y| T::select(y.le(T::zero()), T::zero(), g);
    /// `min(max(x, 0), 6)`.
    Relu6 relu6 |x| clamp_to_6(x),
        back |g, x| T::select(x.le(T::zero()) | x.ge(T::splat(6.0)), T::zero(), g);
    /// `x · Φ(x)`, with the distribution `Φ` of a standard normal. `-∞` gives NaN, as in PyTorch.
    Gelu gelu |x| x * x.normal_cdf(),
        back |g, x| {
        // Φ(x) + x · φ(x)
        let density = (x * x * T::splat(-0.5)).exp() * T::splat(0.398_942_280_401_432_7);
        g * x.mul_add(density, x.normal_cdf())
    };
    /// `x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))`, the usual approximation of `gelu`.
    GeluTanh gelu_tanh |x| {
        // (1 + tanh(u)) / 2 is logistic(2u), which does not cancel in the lower tail.
        let cubic = (x * x * T::splat(0.044715)).mul_add(x, x);
        x * logistic(cubic * T::splat(1.595_769_121_605_730_7))
    },
        back |g, x| {
        // With s = logistic(2u): s + x · s · (1 - s) · 2u', where nothing cancels.
        let square = x * x;
        let u = (square * T::splat(0.044715)).mul_add(x, x) * T::splat(1.595_769_121_605_730_7);
        let (s, slope) = logistic_and_slope(u);
        let steep = square.mul_add(T::splat(0.214_064_448_817_800_7), T::splat(1.595_769_121_605_730_7));
        g * (x * slope).mul_add(steep, s)
    };
    /// `x · sigmoid(x)`. `-∞` gives NaN, as in PyTorch.
    Silu silu |x| x * logistic(x),
        back |g, x| {
        let (s, slope) = logistic_and_slope(x);
        g * x.mul_add(slope, s)
    };
    /// `log(1 + e^x)`, taken as `x` above 20.
    Softplus softplus |x| T::select(x.gt(T::splat(20.0)), x, x.exp().ln_1p()),
        back |g, x| g * T::select(x.gt(T::splat(20.0)), T::one(), logistic(x));
    /// `x · tanh(softplus(x))`. `-∞` gives NaN, as in PyTorch.
    Mish mish |x| {
        // tanh(log(1 + e)) = n / (n + 2) with n = e² + 2e.
        let e = x.exp();
        let n = e * (e + T::splat(2.0));
        x * T::select(x.gt(T::splat(20.0)), T::one(), n / (n + T::splat(2.0)))
    },
        back |g, x| {
        // With n = e² + 2e as above: n / (n + 2) + x · 4e (1 + e) / (n + 2)².
        let e = x.exp();
        let n = e * (e + T::splat(2.0));
        let inverse = T::one() / (n + T::splat(2.0));
        let slope = T::splat(4.0) * e * (T::one() + e) * inverse * inverse;
        g * T::select(x.gt(T::splat(20.0)), T::one(), x.mul_add(slope, n * inverse))
    };
    /// `x · relu6(x + 3) / 6`. `-∞` gives NaN, as in PyTorch.
    Hardswish hardswish |x| x * (clamp_to_6(x + T::splat(3.0)) / T::splat(6.0)),
        back |g, x| {
        let three = T::splat(3.0);
        let middle = g * (x / three + T::splat(0.5));
        T::select(x.le(-three), T::zero(), T::select(x.lt(three), middle, g))
    };
    /// `relu6(x + 3) / 6`.
    Hardsigmoid hardsigmoid |x| clamp_to_6(x + T::splat(3.0)) / T::splat(6.0),
        back |g, x| {
        let three = T::splat(3.0);
        T::select(x.gt(-three) & x.lt(three), g / T::splat(6.0), T::zero())
    };
    /// `log(sigmoid(x))`.
    Logsigmoid logsigmoid |x| x.min(T::zero()) - (-x.abs()).exp().ln_1p(),
        back |g, x| g * logistic(-x);
    /// The error function, `2/√π · ∫₀ˣ e^(-t²) dt`.
    Erf erf |x| x.erf(),
        back |g, x| g * (-(x * x)).exp() * T::splat(std::f64::consts::FRAC_2_SQRT_PI);
    /// The largest integer `<= x`.
    Floor floor |x| x.floor(), int |x| x;
    /// The smallest integer `>= x`.
    Ceil ceil |x| x.ceil(), int |x| x;
    /// The nearest integer; halves go to the even one.
    Round round |x| x.round(), int |x| x;
    /// `x` without its fraction.
    Trunc trunc |x| x.trunc(), int |x| x;
}

/// -1, 0 or 1; 0 for NaN.
#[inline(always)]
fn sign<T: Real>(x: T) -> T {
    let negative = T::select(x.lt(T::zero()), -T::one(), T::zero());
    T::select(x.gt(T::zero()), T::one(), negative)
}

/// [`logistic`] and its slope `s · (1 - s)`, whose factors are both accurate far out.
#[inline(always)]
fn logistic_and_slope<T: Real>(x: T) -> (T, T) {
    let e = (-x.abs()).exp();
    let inverse = T::one() / (T::one() + e);
    (T::select(x.lt(T::zero()), e, T::one()) * inverse, e * inverse * inverse)
}

/// `1 / (1 + e^(-x))`, without overflow: `e^x / (1 + e^x)` below 0.
#[inline(always)]
fn logistic<T: Real>(x: T) -> T {
    let e = (-x.abs()).exp();
    T::select(x.lt(T::zero()), e, T::one()) / (T::one() + e)
}

/// `min(max(x, 0), 6)`, NaN for NaN.
#[inline(always)]
fn clamp_to_6<T: Real>(x: T) -> T {
    let six = T::splat(6.0);
    T::select(x.le(T::zero()), T::zero(), T::select(x.gt(six), six, x))
}

#[cfg(test)]
mod tests {
    use super::UnaryOp;

    const INF: f64 = f64::INFINITY;
    const NAN: f64 = f64::NAN;

    /// Bit for bit, except that any NaN equals any NaN.
    fn same(a: f64, b: f64) -> bool {
        a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
    }

    #[test]
    fn formulas_are_right_at_the_edges() {
        use UnaryOp::*;
        let cases: &[(UnaryOp, f64, f64)] = &[
            (Sign, -0.0, 0.0),
            (Sign, NAN, 0.0),
            (Sign, -INF, -1.0),
            (Recip, -0.0, -INF),
            (Rsqrt, 0.0, INF),
            (Relu, -0.0, 0.0),
            (Relu, -INF, 0.0),
            (Relu, NAN, NAN),
            (Relu6, 7.0, 6.0),
            (Relu6, NAN, NAN),
            (Sigmoid, -INF, 0.0),
            (Sigmoid, INF, 1.0),
            (Sigmoid, 0.0, 0.5),
            (Sigmoid, NAN, NAN),
            (Silu, INF, INF),
            (Silu, -1e4, -0.0),
            (Gelu, INF, INF),
            (Gelu, 0.0, 0.0),
            (Gelu, -0.0, -0.0),
            (GeluTanh, INF, INF),
            (GeluTanh, -1e300, -0.0),
            (GeluTanh, 1e300, 1e300),
            (Softplus, 1e300, 1e300),
            (Softplus, -INF, 0.0),
            (Softplus, INF, INF),
            (Softplus, NAN, NAN),
            (Mish, 1e300, 1e300),
            (Mish, INF, INF),
            (Mish, 0.0, 0.0),
            (Mish, NAN, NAN),
            (Hardswish, -3.0, -0.0),
            (Hardswish, 1e308, 1e308),
            (Hardswish, 3.0, 3.0),
            (Hardsigmoid, 0.0, 0.5),
            (Hardsigmoid, NAN, NAN),
            (Logsigmoid, -INF, -INF),
            (Logsigmoid, -1e300, -1e300),
            (Logsigmoid, INF, 0.0),
            (Logsigmoid, NAN, NAN),
            (Round, 0.5, 0.0),
            (Round, 1.5, 2.0),
            (Round, -2.5, -2.0),
            (Log, -1.0, NAN),
            (Log, 0.0, -INF),
            (Expm1, -INF, -1.0),
        ];
        for &(op, x, expected) in cases {
            let y = op.scalar_f64()(x);
            assert!(same(y, expected), "{}({x}) = {y}, expected {expected}", op.name());
        }
    }

    #[test]
    fn stable_forms_equal_the_textbook_formulas_where_those_are_exact_enough() {
        use UnaryOp::*;
        let textbook: &[(UnaryOp, fn(f64) -> f64)] = &[
            (Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
            (Silu, |x| x / (1.0 + (-x).exp())),
            (Softplus, |x| (1.0 + x.exp()).ln()),
            (Mish, |x| x * (1.0 + x.exp()).ln().tanh()),
            (Logsigmoid, |x| -(1.0 + (-x).exp()).ln()),
            (GeluTanh, |x| 0.5 * x * (1.0 + (0.7978845608028654 * (x + 0.044715 * x * x * x)).tanh())),
        ];
        for (op, expected) in textbook {
            for i in -100..=100 {
                let x = f64::from(i) * 0.1;
                let (y, expected) = (op.scalar_f64()(x), expected(x));
                assert!((y - expected).abs() < 1e-12, "{}({x}) = {y}, expected {expected}", op.name());
            }
        }
    }

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<_> = UnaryOp::ALL.iter().map(|op| op.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), UnaryOp::ALL.len());
    }
}
