//! What sums are kept in: f32 for the floats up to 32 bits, f64 for f64, i64 for integers and bools.
//!
//! Kernels that accumulate are written for these three types; a slice of any other dtype is widened first, a cache-sized
//! piece at a time, and results are rounded once, at the end.

use crate::cpu::simd::half::Half;
use crate::op::compare::Comparable;
use crate::op::{Real, ReduceFormula};
use crate::{Bool, Scalar, bf16, f16};

/// A type that partial results are kept in.
pub(crate) trait Accumulator: Scalar + Comparable {
    /// What an empty reduction gives.
    fn init<F: ReduceFormula>() -> Self;
    /// Two partial results made one.
    fn combine<F: ReduceFormula>(a: Self, b: Self) -> Self;
}

macro_rules! accumulators {
    ($($A:ty: $init:ident $combine:ident),+) => { $(
        impl Accumulator for $A {
            #[inline(always)]
            fn init<F: ReduceFormula>() -> Self {
                F::$init()
            }
            #[inline(always)]
            fn combine<F: ReduceFormula>(a: Self, b: Self) -> Self {
                F::$combine(a, b)
            }
        }
    )+ };
}
accumulators!(f32: init combine, f64: init combine, i64: init_int combine_int);

/// An accumulator of floats.
pub(crate) trait WideFloat: Accumulator + Real {}
impl<A: Accumulator + Real> WideFloat for A {}

/// An element type and what its sums are kept in.
pub(crate) trait Wide: Scalar {
    /// What sums are kept in.
    type Acc: Accumulator;
    /// The slice itself, if it needs no widening.
    fn as_wide(_x: &[Self]) -> Option<&[Self::Acc]> {
        None
    }
    /// The slice itself, if it needs no narrowing.
    fn as_wide_mut(_x: &mut [Self]) -> Option<&mut [Self::Acc]> {
        None
    }
    /// `y[i] = x[i]`.
    fn widen(x: &[Self], y: &mut [Self::Acc]);
    /// `y[i] = x[i]`, rounded.
    fn narrow(x: &[Self::Acc], y: &mut [Self]);
}

macro_rules! wide_already {
    ($($T:ty),+) => { $(
        impl Wide for $T {
            type Acc = $T;
            fn as_wide(x: &[$T]) -> Option<&[$T]> {
                Some(x)
            }
            fn as_wide_mut(x: &mut [$T]) -> Option<&mut [$T]> {
                Some(x)
            }
            fn widen(x: &[$T], y: &mut [$T]) {
                y.copy_from_slice(x);
            }
            fn narrow(x: &[$T], y: &mut [$T]) {
                y.copy_from_slice(x);
            }
        }
    )+ };
}
wide_already!(f32, f64, i64);

macro_rules! wide_integers {
    ($($T:ty),+) => { $(
        impl Wide for $T {
            type Acc = i64;
            fn widen(x: &[$T], y: &mut [i64]) {
                y.iter_mut().zip(x).for_each(|(y, x)| *y = x.to_i64());
            }
            fn narrow(x: &[i64], y: &mut [$T]) {
                y.iter_mut().zip(x).for_each(|(y, &x)| *y = Scalar::from_i64(x));
            }
        }
    )+ };
}
wide_integers!(i32, i8, u8, u32, Bool);

macro_rules! wide_halves {
    ($($T:ty),+) => { $(
        impl Wide for $T {
            type Acc = f32;
            fn widen(x: &[$T], y: &mut [f32]) {
                Half::widen(x, y);
            }
            fn narrow(x: &[f32], y: &mut [$T]) {
                Half::narrow(x, y);
            }
        }
    )+ };
}
wide_halves!(f16, bf16);

/// Room for widened pieces; takes no memory for types that need none.
pub(crate) struct Widened<T: Wide>(Vec<T::Acc>);

impl<T: Wide> Widened<T> {
    pub(crate) fn new() -> Self {
        Widened(Vec::new())
    }

    /// `x` in the wide type: itself, or a copy that lives until the next call.
    pub(crate) fn view<'a>(&'a mut self, x: &'a [T]) -> &'a [T::Acc] {
        if let Some(x) = T::as_wide(x) {
            return x;
        }
        let y = self.room(x.len());
        T::widen(x, y);
        y
    }

    /// Lets `f` write the wide form of `y`: in place, or beside it and rounded into it afterwards. What `f` finds there is
    /// unspecified.
    pub(crate) fn write<R>(&mut self, y: &mut [T], f: impl FnOnce(&mut [T::Acc]) -> R) -> R {
        if let Some(y) = T::as_wide_mut(y) {
            return f(y);
        }
        let wide = self.room(y.len());
        let result = f(wide);
        T::narrow(wide, y);
        result
    }

    fn room(&mut self, n: usize) -> &mut [T::Acc] {
        if self.0.len() < n {
            self.0.resize(n, T::Acc::default());
        }
        &mut self.0[..n]
    }
}

/// Defines a function whose loops are compiled for each level of instructions; its first argument chooses one.
///
/// The body is the same for all levels: plain loops over fixed numbers of lanes, which the compiler vectorises.
macro_rules! dispatch {
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident$(<$($G:ident: $Bound:path),+>)?($($arg:ident: $Arg:ty),+ $(,)?) $(-> $R:ty)? $body:block
    ) => {
        $(#[$doc])*
        $vis fn $name$(<$($G: $Bound),+>)?(isa: $crate::cpu::isa::Isa, $($arg: $Arg),+) $(-> $R)? {
            #[inline(always)]
            fn body$(<$($G: $Bound),+>)?($($arg: $Arg),+) $(-> $R)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2$(<$($G: $Bound),+>)?($($arg: $Arg),+) $(-> $R)? {
                body$(::<$($G),+>)?($($arg),+)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
            fn avx512$(<$($G: $Bound),+>)?($($arg: $Arg),+) $(-> $R)? {
                body$(::<$($G),+>)?($($arg),+)
            }

            match isa {
                // SAFETY: levels come from `isa::isa`, which gives none that the machine lacks.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::isa::Isa::Avx2 => unsafe { avx2$(::<$($G),+>)?($($arg),+) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::isa::Isa::Avx512 | $crate::cpu::isa::Isa::Amx => unsafe { avx512$(::<$($G),+>)?($($arg),+) },
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::isa::Isa::Portable | $crate::cpu::isa::Isa::Neon => body$(::<$($G),+>)?($($arg),+),
                // What a level asks for is part of these architectures, so the compiler knows it anyway.
                #[cfg(not(target_arch = "x86_64"))]
                _ => body$(::<$($G),+>)?($($arg),+),
            }
        }
    };
}
pub(crate) use dispatch;
