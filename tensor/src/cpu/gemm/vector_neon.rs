//! The vectors of Advanced SIMD, which every 64-bit Arm machine has.

use super::scalar::GemmElement;
use super::stream::Widen;
use super::vector::Vector;
use half::{bf16, f16};
use std::arch::aarch64::*;

macro_rules! vector {
    (
        $(#[$doc:meta])* $name:ident($register:ident) = [$elem:ident; $lanes:literal],
        $splat:ident, $load:ident, $store:ident, $add:ident, $fma:ident, $fma_lane:ident [$($lane:literal)*],
        load_first |$lp:ident, $ln:ident| $load_first:expr,
        store_first |$sv:ident, $sp:ident, $sn:ident| $store_first:expr
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(in crate::cpu) struct $name($register);

        impl Vector for $name {
            type Elem = $elem;
            const LANES: usize = $lanes;

            #[inline(always)]
            unsafe fn zero() -> Self {
                // SAFETY: the architecture has the instruction.
                Self(unsafe { $splat(0.0) })
            }

            #[inline(always)]
            unsafe fn splat(x: $elem) -> Self {
                // SAFETY: the architecture has the instruction.
                Self(unsafe { $splat(x) })
            }

            #[inline(always)]
            unsafe fn load(p: *const $elem) -> Self {
                // SAFETY: the caller vouches for `LANES` elements.
                Self(unsafe { $load(p) })
            }

            #[inline(always)]
            unsafe fn store(self, p: *mut $elem) {
                // SAFETY: the caller vouches for `LANES` elements.
                unsafe { $store(p, self.0) }
            }

            #[inline(always)]
            unsafe fn load_first($lp: *const $elem, $ln: usize) -> Self {
                debug_assert!($ln < $lanes);
                // SAFETY: the caller vouches for `n` elements, and no others are read.
                Self(unsafe { $load_first })
            }

            #[inline(always)]
            unsafe fn store_first(self, $sp: *mut $elem, $sn: usize) {
                debug_assert!($sn < $lanes);
                let $sv = self.0;
                // SAFETY: the caller vouches for `n` elements, and no others are written.
                unsafe { $store_first }
            }

            #[inline(always)]
            unsafe fn plus(self, other: Self) -> Self {
                // SAFETY: the architecture has the instruction.
                Self(unsafe { $add(self.0, other.0) })
            }

            #[inline(always)]
            unsafe fn times_plus(self, other: Self, sum: Self) -> Self {
                // SAFETY: the architecture has the instruction.
                Self(unsafe { $fma(sum.0, self.0, other.0) })
            }

            // A product by one lane of a register costs nothing, where a broadcast takes a slot of the arithmetic units.
            #[inline(always)]
            unsafe fn add_outer<const R: usize, const N: usize>(
                acc: &mut [[Self; N]; R],
                a: *const $elem,
                row: [Self; N],
            ) {
                for (group, rows) in acc.chunks_mut($lanes).enumerate() {
                    // SAFETY: the caller vouches for R values of A.
                    let a = unsafe { a.add(group * $lanes) };
                    for j in 0..N {
                        // SAFETY: as above; a group that is not full is read value by value.
                        unsafe {
                            if rows.len() == $lanes {
                                let x = $load(a);
                                $(rows[$lane][j].0 = $fma_lane::<$lane>(rows[$lane][j].0, row[j].0, x);)*
                            } else {
                                for (i, sums) in rows.iter_mut().enumerate() {
                                    sums[j] = Self::splat(*a.add(i)).times_plus(row[j], sums[j]);
                                }
                            }
                        }
                    }
                }
            }
        }
    };
}

vector! {
    /// Four `f32`.
    F32x4(float32x4_t) = [f32; 4],
    vdupq_n_f32, vld1q_f32, vst1q_f32, vaddq_f32, vfmaq_f32, vfmaq_laneq_f32 [0 1 2 3],
    load_first |p, n| match n {
        0 => vdupq_n_f32(0.0),
        1 => vld1q_lane_f32::<0>(p, vdupq_n_f32(0.0)),
        2 => vcombine_f32(vld1_f32(p), vdup_n_f32(0.0)),
        _ => vld1q_lane_f32::<2>(p.add(2), vcombine_f32(vld1_f32(p), vdup_n_f32(0.0))),
    },
    store_first |v, p, n| {
        if n >= 2 {
            vst1_f32(p, vget_low_f32(v));
        }
        match n {
            1 => vst1q_lane_f32::<0>(p, v),
            3 => vst1q_lane_f32::<2>(p.add(2), v),
            _ => (),
        }
    }
}

vector! {
    /// Two `f64`.
    F64x2(float64x2_t) = [f64; 2],
    vdupq_n_f64, vld1q_f64, vst1q_f64, vaddq_f64, vfmaq_f64, vfmaq_laneq_f64 [0 1],
    load_first |p, n| {
        let zero = vdupq_n_f64(0.0);
        if n == 0 { zero } else { vld1q_lane_f64::<0>(p, zero) }
    },
    store_first |v, p, n| {
        if n > 0 {
            vst1q_lane_f64::<0>(p, v);
        }
    }
}

/// Loads of a vector from numbers of its own or a narrower type.
macro_rules! widen {
    ($($vector:ident from $($t:ty),*;)*) => {$($(
        impl Widen<$t> for $vector {
            #[inline(always)]
            unsafe fn widen(p: *const $t) -> Self {
                // SAFETY: the caller vouches for `LANES` numbers, and the array has as many.
                unsafe {
                    let values = p.cast::<[$t; Self::LANES]>().read_unaligned().map(GemmElement::widen);
                    Self::load(values.as_ptr())
                }
            }
        }
    )*)*};
}

widen! {
    F32x4 from f32, bf16, f16;
    F64x2 from f64;
}
