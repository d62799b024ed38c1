//! Every reduction, once: what it starts from and how it takes in one more element.
//!
//! Only what cannot be written in terms of something else is here; `mean`, `var`, `logsumexp` and the norms are
//! composed of these. Partial results combine by the same formula as elements do.

use super::real::{Int, Real};

/// A row of the reductions.
pub trait ReduceFormula {
    /// What an empty reduction gives; combining it with `x` gives `x`, or the truth of `x` for `any` and `all`.
    fn init<T: Real>() -> T;
    /// The result so far combined with one more element, or with another result.
    fn combine<T: Real>(a: T, b: T) -> T;
    /// As `init`, for integers.
    fn init_int<T: Int>() -> T;
    /// As `combine`, for integers.
    fn combine_int<T: Int>(a: T, b: T) -> T;
}

/// Something to be done with a row chosen at run time; it is compiled once for each row.
pub trait ReduceVisitor {
    /// What it returns.
    type Output;
    /// Does it with the row `F`.
    fn visit<F: ReduceFormula>(self) -> Self::Output;
}

macro_rules! reduce_ops {
    ($(
        $(#[$doc:meta])+ $Op:ident $name:ident
        float $init:expr, |$a:ident, $b:ident| $combine:expr;
        int $int_init:expr, |$i:ident, $j:ident| $int_combine:expr;
    )+) => {
        /// A reduction of many elements to one.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        pub enum ReduceOp { $( $(#[$doc])+ $Op, )+ }

        /// The rows as types, one for each op.
        pub mod row {
            use super::*;
            $(
                $(#[$doc])+
                #[derive(Clone, Copy, Debug)]
                pub struct $Op;

                impl ReduceFormula for $Op {
                    #[inline(always)]
                    fn init<T: Real>() -> T { $init }
                    #[inline(always)]
                    fn combine<T: Real>($a: T, $b: T) -> T { $combine }
                    #[inline(always)]
                    fn init_int<T: Int>() -> T { $int_init }
                    #[inline(always)]
                    fn combine_int<T: Int>($i: T, $j: T) -> T { $int_combine }
                }
            )+
        }

        impl ReduceOp {
            /// All of them, in the order of the table.
            pub const ALL: &'static [ReduceOp] = &[$(ReduceOp::$Op),+];

            /// The name of the method, which is PyTorch's name.
            pub fn name(self) -> &'static str {
                match self { $(ReduceOp::$Op => stringify!($name),)+ }
            }

            /// Hands the op's row to `visitor`.
            #[inline]
            pub fn dispatch<V: ReduceVisitor>(self, visitor: V) -> V::Output {
                match self { $(ReduceOp::$Op => visitor.visit::<row::$Op>(),)+ }
            }
        }
    };
}

reduce_ops! {
    /// The sum. Of nothing: 0.
    Sum sum
        float T::zero(), |a, b| a + b;
        int T::ZERO, |a, b| a.add(b);
    /// The product. Of nothing: 1.
    Prod prod
        float T::one(), |a, b| a * b;
        int T::ONE, |a, b| a.mul(b);
    /// The largest element; NaN if one is NaN.
    Amax amax
        float -T::splat(f64::INFINITY), |a, b| a.max(b);
        int T::MIN, |a, b| a.max(b);
    /// The smallest element; NaN if one is NaN.
    Amin amin
        float T::splat(f64::INFINITY), |a, b| a.min(b);
        int T::MAX, |a, b| a.min(b);
    /// 1 if an element is not zero, else 0. Of nothing: 0.
    Any any
        float T::zero(), |a, b| T::select(a.ne(T::zero()) | b.ne(T::zero()), T::one(), T::zero());
        int T::ZERO, |a, b| if (a != T::ZERO) | (b != T::ZERO) { T::ONE } else { T::ZERO };
    /// 1 if no element is zero, else 0. Of nothing: 1.
    All all
        float T::one(), |a, b| T::select(a.ne(T::zero()) & b.ne(T::zero()), T::one(), T::zero());
        int T::ONE, |a, b| if (a != T::ZERO) & (b != T::ZERO) { T::ONE } else { T::ZERO };
}

impl ReduceOp {
    /// Whether the reduction of no elements has a value: `amax` and `amin` of nothing are errors.
    pub fn has_identity(self) -> bool {
        match self {
            ReduceOp::Sum | ReduceOp::Prod | ReduceOp::Any | ReduceOp::All => true,
            ReduceOp::Amax | ReduceOp::Amin => false,
        }
    }
}

/// A search for the index of one element.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ArgOp {
    /// The index of the largest element: the first of equals, the first NaN if there is one.
    ArgMax,
    /// The index of the smallest element: the first of equals, the first NaN if there is one.
    ArgMin,
}

impl ArgOp {
    /// Both of them.
    pub const ALL: &'static [ArgOp] = &[ArgOp::ArgMax, ArgOp::ArgMin];

    /// The name of the method, which is PyTorch's name.
    pub fn name(self) -> &'static str {
        match self {
            ArgOp::ArgMax => "argmax",
            ArgOp::ArgMin => "argmin",
        }
    }

    /// Whether a later element takes the place of the best one so far.
    #[inline(always)]
    pub fn replaces<T: super::compare::Comparable>(self, later: T, best: T) -> bool {
        let further = match self {
            ArgOp::ArgMax => later > best,
            ArgOp::ArgMin => later < best,
        };
        further || (later.is_nan() && !best.is_nan())
    }
}

/// A running reduction along one dim.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ScanOp {
    /// `y[i] = x[0] + … + x[i]`.
    CumSum,
    /// `y[i] = x[0] · … · x[i]`.
    CumProd,
}

impl ScanOp {
    /// Both of them.
    pub const ALL: &'static [ScanOp] = &[ScanOp::CumSum, ScanOp::CumProd];

    /// The name of the method, which is PyTorch's name.
    pub fn name(self) -> &'static str {
        match self {
            ScanOp::CumSum => "cumsum",
            ScanOp::CumProd => "cumprod",
        }
    }

    /// The reduction whose running results these are.
    pub fn reduction(self) -> ReduceOp {
        match self {
            ScanOp::CumSum => ReduceOp::Sum,
            ScanOp::CumProd => ReduceOp::Prod,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ArgOp, Int, ReduceFormula, ReduceOp, ReduceVisitor};

    struct Floats<'a>(&'a [f64]);
    impl ReduceVisitor for Floats<'_> {
        type Output = f64;
        fn visit<F: ReduceFormula>(self) -> f64 {
            self.0.iter().fold(F::init(), |a, &b| F::combine(a, b))
        }
    }

    struct Ints<'a, T>(&'a [T]);
    impl<T: Int> ReduceVisitor for Ints<'_, T> {
        type Output = T;
        fn visit<F: ReduceFormula>(self) -> T {
            self.0.iter().fold(F::init_int(), |a, &b| F::combine_int(a, b))
        }
    }

    #[test]
    fn reductions_of_few_elements_are_those_of_arithmetic() {
        use ReduceOp::{All, Amax, Amin, Any, Prod, Sum};
        let ops = [Sum, Prod, Amax, Amin, Any, All];
        assert_eq!(ops, ReduceOp::ALL);
        let inf = f64::INFINITY;
        assert_eq!(ops.map(|op| op.dispatch(Floats(&[]))), [0.0, 1.0, -inf, inf, 0.0, 1.0]);
        assert_eq!(ops.map(|op| op.dispatch(Floats(&[-3.0]))), [-3.0, -3.0, -3.0, -3.0, 1.0, 1.0]);
        assert_eq!(ops.map(|op| op.dispatch(Floats(&[2.0, 0.0, 5.0]))), [7.0, 0.0, 5.0, 0.0, 1.0, 0.0]);
        assert_eq!(ops.map(|op| op.dispatch(Ints(&[100i8, 100]))), [-56, 16, 100, 100, 1, 1]);
        assert_eq!(ops.map(|op| op.dispatch(Ints::<u8>(&[]))), [0, 1, 0, 255, 0, 1]);
    }

    #[test]
    fn nan_wins_every_numeric_reduction() {
        for op in [ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Amax, ReduceOp::Amin] {
            for x in [[f64::NAN, 1.0], [1.0, f64::NAN]] {
                assert!(op.dispatch(Floats(&x)).is_nan(), "{}", op.name());
            }
        }
    }

    #[test]
    fn the_first_nan_wins_a_search() {
        let search = |op: ArgOp, x: &[f32]| {
            (1..x.len()).fold(0, |best, i| if op.replaces(x[i], x[best]) { i } else { best })
        };
        assert_eq!(search(ArgOp::ArgMax, &[1.0, 3.0, 3.0, 2.0]), 1);
        assert_eq!(search(ArgOp::ArgMin, &[1.0, 0.0, -0.0, 2.0]), 1);
        assert_eq!(search(ArgOp::ArgMax, &[1.0, f32::NAN, 9.0, f32::NAN]), 1);
        assert_eq!(search(ArgOp::ArgMin, &[1.0, f32::NAN, 0.0, f32::NAN]), 1);
    }
}
