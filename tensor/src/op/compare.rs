//! Every question whose answer is a bool, once: comparisons of two elements and predicates of one.
//!
//! The formulas are scalar and hold for every dtype; loops of them vectorise by themselves.

use half::{bf16, f16};

/// An element that can be asked questions. Bools are stored as `u8`.
pub trait Comparable: Copy + PartialOrd + Default {
    /// Whether it is NaN; never, for an integer.
    fn is_nan(self) -> bool;
    /// Whether it is `∞` or `-∞`; never, for an integer.
    fn is_infinite(self) -> bool;
}

macro_rules! comparable {
    (float $($T:ident)+) => { $(
        impl Comparable for $T {
            #[inline(always)]
            fn is_nan(self) -> bool {
                $T::is_nan(self)
            }
            #[inline(always)]
            fn is_infinite(self) -> bool {
                $T::is_infinite(self)
            }
        }
    )+ };
    (int $($T:ident)+) => { $(
        impl Comparable for $T {
            #[inline(always)]
            fn is_nan(self) -> bool {
                false
            }
            #[inline(always)]
            fn is_infinite(self) -> bool {
                false
            }
        }
    )+ };
}

comparable!(float f32 f64 f16 bf16);
comparable!(int i8 i32 i64 u8 u32);

/// A row of the comparisons.
pub trait CompareFormula {
    /// The answer for `(a, b)`.
    fn eval<T: Comparable>(a: T, b: T) -> bool;
}

/// A row of the predicates.
pub trait PredicateFormula {
    /// The answer for `x`.
    fn eval<T: Comparable>(x: T) -> bool;
}

/// Something to be done with a comparison chosen at run time; it is compiled once for each row.
pub trait CompareVisitor {
    /// What it returns.
    type Output;
    /// Does it with the row `F`.
    fn visit<F: CompareFormula>(self) -> Self::Output;
}

/// Something to be done with a predicate chosen at run time; it is compiled once for each row.
pub trait PredicateVisitor {
    /// What it returns.
    type Output;
    /// Does it with the row `F`.
    fn visit<F: PredicateFormula>(self) -> Self::Output;
}

macro_rules! questions {
    (
        $(#[$about:meta])+ $Table:ident $Formula:ident $Visitor:ident $rows:ident $methods:ident
        $arity:ident;
        $( $(#[$doc:meta])+ $Op:ident $name:ident |$($x:ident),+| $formula:expr; )+
    ) => {
        $(#[$about])+
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        pub enum $Table { $( $(#[$doc])+ $Op, )+ }

        /// The rows as types, one for each op.
        pub mod $rows {
            use super::*;
            $(
                $(#[$doc])+
                #[derive(Clone, Copy, Debug)]
                pub struct $Op;

                impl $Formula for $Op {
                    #[inline(always)]
                    fn eval<T: Comparable>($($x: T),+) -> bool { $formula }
                }
            )+
        }

        impl $Table {
            /// All of them, in the order of the table.
            pub const ALL: &'static [$Table] = &[$($Table::$Op),+];

            /// The name of the method, which is PyTorch's name.
            pub fn name(self) -> &'static str {
                match self { $($Table::$Op => stringify!($name),)+ }
            }

            /// Hands the op's row to `visitor`.
            #[inline]
            pub fn dispatch<V: $Visitor>(self, visitor: V) -> V::Output {
                match self { $($Table::$Op => visitor.visit::<$rows::$Op>(),)+ }
            }
        }

        questions! { @methods $arity $Table $Formula $rows $methods; $( [$(#[$doc])+] $Op $name )+ }
    };
    (@methods binary $Table:ident $Formula:ident $rows:ident $methods:ident; $( [$(#[$doc:meta])+] $Op:ident $name:ident )+) => {
        impl $Table {
            /// The answer for single elements: what every kernel is compared with.
            pub fn scalar<T: Comparable>(self, a: T, b: T) -> bool {
                match self { $($Table::$Op => <$rows::$Op as $Formula>::eval(a, b),)+ }
            }
        }

        /// Writes one documented method of `Tensor` for each row.
        #[allow(unused_macros, reason = "a table is usable without the tensor that it gives methods to")]
        macro_rules! $methods { () => {
            impl $crate::Tensor { $(
                $(#[$doc])+
                pub fn $name(&self, other: &$crate::Tensor) -> $crate::Result<$crate::Tensor> {
                    self.compare($crate::op::$Table::$Op, other)
                }
            )+ }
        } }
        #[allow(unused_imports, reason = "as above")]
        pub(crate) use $methods;
    };
    (@methods unary $Table:ident $Formula:ident $rows:ident $methods:ident; $( [$(#[$doc:meta])+] $Op:ident $name:ident )+) => {
        impl $Table {
            /// The answer for single elements: what every kernel is compared with.
            pub fn scalar<T: Comparable>(self, x: T) -> bool {
                match self { $($Table::$Op => <$rows::$Op as $Formula>::eval(x),)+ }
            }
        }

        /// Writes one documented method of `Tensor` for each row.
        #[allow(unused_macros, reason = "a table is usable without the tensor that it gives methods to")]
        macro_rules! $methods { () => {
            impl $crate::Tensor { $(
                $(#[$doc])+
                pub fn $name(&self) -> $crate::Result<$crate::Tensor> {
                    self.predicate($crate::op::$Table::$Op)
                }
            )+ }
        } }
        #[allow(unused_imports, reason = "as above")]
        pub(crate) use $methods;
    };
}

questions! {
    /// A comparison of two elements. With NaN all are false, except `ne`.
    CompareOp CompareFormula CompareVisitor compare_row compare_methods binary;
    /// `a == b`.
    Eq eq |a, b| a == b;
    /// `a != b`; true if either is NaN.
    Ne ne |a, b| a != b;
    /// `a < b`.
    Lt lt |a, b| a < b;
    /// `a <= b`.
    Le le |a, b| a <= b;
    /// `a > b`.
    Gt gt |a, b| a > b;
    /// `a >= b`.
    Ge ge |a, b| a >= b;
    /// Whether both are not zero.
    LogicalAnd logical_and |a, b| truth(a) & truth(b);
    /// Whether one of them is not zero.
    LogicalOr logical_or |a, b| truth(a) | truth(b);
    /// Whether exactly one of them is not zero.
    LogicalXor logical_xor |a, b| truth(a) ^ truth(b);
}

questions! {
    /// A question about one element.
    PredicateOp PredicateFormula PredicateVisitor predicate_row predicate_methods unary;
    /// Whether `x` is NaN.
    IsNan isnan |x| x.is_nan();
    /// Whether `x` is `∞` or `-∞`.
    IsInf isinf |x| x.is_infinite();
    /// Whether `x` is neither NaN nor infinite.
    IsFinite isfinite |x| !(x.is_nan() | x.is_infinite());
    /// Whether `x` is zero.
    LogicalNot logical_not |x| !truth(x);
}

/// Whether `x` counts as true: anything but zero does, NaN too.
#[inline(always)]
fn truth<T: Comparable>(x: T) -> bool {
    x != T::default()
}

#[cfg(test)]
mod tests {
    use super::{CompareOp, PredicateOp};
    use half::f16;

    #[test]
    fn nan_differs_from_everything_and_is_true() {
        for &op in CompareOp::ALL {
            let expected = matches!(op, CompareOp::Ne | CompareOp::LogicalAnd | CompareOp::LogicalOr);
            assert_eq!(op.scalar(f32::NAN, 1.0), expected, "{}", op.name());
            assert_eq!(op.scalar(f64::NAN, f64::NAN), expected, "{}", op.name());
        }
    }

    #[test]
    fn zeros_of_either_sign_are_equal_and_false() {
        assert!(CompareOp::Eq.scalar(0.0f32, -0.0) && CompareOp::Le.scalar(f16::ZERO, f16::NEG_ZERO));
        assert!(!CompareOp::LogicalOr.scalar(0.0f32, -0.0));
        assert!(PredicateOp::LogicalNot.scalar(f16::NEG_ZERO) && PredicateOp::LogicalNot.scalar(0u8));
    }

    #[test]
    fn predicates_sort_the_floating_point_numbers() {
        use PredicateOp::{IsFinite, IsInf, IsNan};
        for (x, nan, inf) in [(0.0, false, false), (f32::NAN, true, false), (-f32::INFINITY, false, true)] {
            let answers = [IsNan, IsInf, IsFinite].map(|op| op.scalar(x));
            assert_eq!(answers, [nan, inf, !nan && !inf], "{x}");
        }
        assert_eq!([IsNan, IsInf, IsFinite].map(|op| op.scalar(i64::MAX)), [false, false, true]);
    }
}
