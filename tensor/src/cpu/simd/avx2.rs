//! Eight lanes: AVX2 and FMA.

use super::lanes::{BitLanes, Lanes};
use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Not, Sub};

/// Eight `f32`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct F32x8(__m256);

/// The answers to a comparison of [`F32x8`]: all bits of a lane, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mask8(__m256);

/// The bits of a [`F32x8`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bits8(__m256i);

/// An intrinsic that has no requirement but its instruction set.
macro_rules! avx2 {
    ($call:expr) => {
        // SAFETY: vectors of this module are used only inside functions compiled for AVX2, FMA and F16C (see `lanes`).
        unsafe { $call }
    };
}

macro_rules! operators {
    ($($T:ident: $Op:ident $op:ident $intrinsic:ident)+) => { $(
        impl $Op for $T {
            type Output = $T;
            #[inline(always)]
            fn $op(self, other: $T) -> $T {
                $T(avx2!($intrinsic(self.0, other.0)))
            }
        }
    )+ };
}
operators! {
    F32x8: Add add _mm256_add_ps
    F32x8: Sub sub _mm256_sub_ps
    F32x8: Mul mul _mm256_mul_ps
    F32x8: Div div _mm256_div_ps
    Mask8: BitAnd bitand _mm256_and_ps
    Mask8: BitOr bitor _mm256_or_ps
}

impl Neg for F32x8 {
    type Output = F32x8;
    #[inline(always)]
    fn neg(self) -> F32x8 {
        F32x8(avx2!(_mm256_xor_ps(self.0, _mm256_set1_ps(-0.0))))
    }
}

impl Not for Mask8 {
    type Output = Mask8;
    #[inline(always)]
    fn not(self) -> Mask8 {
        Mask8(avx2!(_mm256_xor_ps(self.0, _mm256_castsi256_ps(_mm256_set1_epi32(-1)))))
    }
}

impl Lanes for F32x8 {
    type Mask = Mask8;
    type Bits = Bits8;
    const WIDTH: usize = 8;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        F32x8(avx2!(_mm256_set1_ps(value)))
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise; the instruction set as in `avx2!`.
        F32x8(unsafe { _mm256_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise; the instruction set as in `avx2!`.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        F32x8(avx2!(_mm256_fmadd_ps(self.0, factor.0, term.0)))
    }
    #[inline(always)]
    fn mul_add_exact(self, factor: Self, term: Self) -> Self {
        self.mul_add(factor, term)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        F32x8(avx2!(_mm256_sqrt_ps(self.0)))
    }
    #[inline(always)]
    fn floor(self) -> Self {
        F32x8(avx2!(_mm256_floor_ps(self.0)))
    }
    #[inline(always)]
    fn ceil(self) -> Self {
        F32x8(avx2!(_mm256_ceil_ps(self.0)))
    }
    #[inline(always)]
    fn trunc(self) -> Self {
        F32x8(avx2!(_mm256_round_ps::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(self.0)))
    }
    #[inline(always)]
    fn round(self) -> Self {
        F32x8(avx2!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)))
    }
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        F32x8(avx2!(_mm256_max_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        F32x8(avx2!(_mm256_min_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn lt(self, other: Self) -> Mask8 {
        Mask8(avx2!(_mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0)))
    }
    #[inline(always)]
    fn le(self, other: Self) -> Mask8 {
        Mask8(avx2!(_mm256_cmp_ps::<_CMP_LE_OQ>(self.0, other.0)))
    }
    #[inline(always)]
    fn eq(self, other: Self) -> Mask8 {
        Mask8(avx2!(_mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, other.0)))
    }
    #[inline(always)]
    fn select(mask: Mask8, yes: Self, no: Self) -> Self {
        F32x8(avx2!(_mm256_blendv_ps(no.0, yes.0, mask.0)))
    }
    #[inline(always)]
    fn any(mask: Mask8) -> bool {
        avx2!(_mm256_movemask_ps(mask.0)) != 0
    }
    #[inline(always)]
    fn bits(self) -> Bits8 {
        Bits8(avx2!(_mm256_castps_si256(self.0)))
    }
}

impl BitLanes for Bits8 {
    type Float = F32x8;

    #[inline(always)]
    fn splat(value: i32) -> Self {
        Bits8(avx2!(_mm256_set1_epi32(value)))
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Bits8(avx2!(_mm256_add_epi32(self.0, other.0)))
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Bits8(avx2!(_mm256_sub_epi32(self.0, other.0)))
    }
    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Bits8(avx2!(_mm256_and_si256(self.0, other.0)))
    }
    #[inline(always)]
    fn or(self, other: Self) -> Self {
        Bits8(avx2!(_mm256_or_si256(self.0, other.0)))
    }
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Bits8(avx2!(_mm256_xor_si256(self.0, other.0)))
    }
    #[inline(always)]
    fn shl<const N: u32>(self) -> Self {
        Bits8(avx2!(_mm256_sllv_epi32(self.0, _mm256_set1_epi32(N as i32))))
    }
    #[inline(always)]
    fn shr<const N: u32>(self) -> Self {
        Bits8(avx2!(_mm256_srav_epi32(self.0, _mm256_set1_epi32(N as i32))))
    }
    #[inline(always)]
    fn is_zero(self) -> Mask8 {
        Mask8(avx2!(_mm256_castsi256_ps(_mm256_cmpeq_epi32(self.0, _mm256_setzero_si256()))))
    }
    #[inline(always)]
    fn to_float(self) -> F32x8 {
        F32x8(avx2!(_mm256_cvtepi32_ps(self.0)))
    }
    #[inline(always)]
    fn as_float(self) -> F32x8 {
        F32x8(avx2!(_mm256_castsi256_ps(self.0)))
    }
}
