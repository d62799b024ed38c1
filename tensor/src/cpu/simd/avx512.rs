//! Sixteen lanes: AVX-512 F, BW, VL and DQ.

use super::lanes::{BitLanes, Lanes};
use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// Sixteen `f32`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct F32x16(__m512);

/// The bits of a [`F32x16`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bits16(__m512i);

/// An intrinsic that has no requirement but its instruction set.
macro_rules! avx512 {
    ($call:expr) => {
        // SAFETY: vectors of this module are used only inside functions compiled for AVX-512 (see `lanes`).
        unsafe { $call }
    };
}

macro_rules! operators {
    ($($T:ident: $Op:ident $op:ident $intrinsic:ident)+) => { $(
        impl $Op for $T {
            type Output = $T;
            #[inline(always)]
            fn $op(self, other: $T) -> $T {
                $T(avx512!($intrinsic(self.0, other.0)))
            }
        }
    )+ };
}
operators! {
    F32x16: Add add _mm512_add_ps
    F32x16: Sub sub _mm512_sub_ps
    F32x16: Mul mul _mm512_mul_ps
    F32x16: Div div _mm512_div_ps
}

impl Neg for F32x16 {
    type Output = F32x16;
    #[inline(always)]
    fn neg(self) -> F32x16 {
        F32x16(avx512!(_mm512_xor_ps(self.0, _mm512_set1_ps(-0.0))))
    }
}

impl Lanes for F32x16 {
    type Mask = __mmask16;
    type Bits = Bits16;
    const WIDTH: usize = 16;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        F32x16(avx512!(_mm512_set1_ps(value)))
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise; the instruction set as in `avx512!`.
        F32x16(unsafe { _mm512_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise; the instruction set as in `avx512!`.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        F32x16(avx512!(_mm512_fmadd_ps(self.0, factor.0, term.0)))
    }
    #[inline(always)]
    fn mul_add_exact(self, factor: Self, term: Self) -> Self {
        self.mul_add(factor, term)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        F32x16(avx512!(_mm512_sqrt_ps(self.0)))
    }
    #[inline(always)]
    fn floor(self) -> Self {
        F32x16(avx512!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(self.0)))
    }
    #[inline(always)]
    fn ceil(self) -> Self {
        F32x16(avx512!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC }>(self.0)))
    }
    #[inline(always)]
    fn trunc(self) -> Self {
        F32x16(avx512!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(self.0)))
    }
    #[inline(always)]
    fn round(self) -> Self {
        F32x16(avx512!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)))
    }
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        F32x16(avx512!(_mm512_max_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        F32x16(avx512!(_mm512_min_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn lt(self, other: Self) -> __mmask16 {
        avx512!(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0))
    }
    #[inline(always)]
    fn le(self, other: Self) -> __mmask16 {
        avx512!(_mm512_cmp_ps_mask::<_CMP_LE_OQ>(self.0, other.0))
    }
    #[inline(always)]
    fn eq(self, other: Self) -> __mmask16 {
        avx512!(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, other.0))
    }
    #[inline(always)]
    fn select(mask: __mmask16, yes: Self, no: Self) -> Self {
        F32x16(avx512!(_mm512_mask_blend_ps(mask, no.0, yes.0)))
    }
    #[inline(always)]
    fn any(mask: __mmask16) -> bool {
        mask != 0
    }
    #[inline(always)]
    fn bits(self) -> Bits16 {
        Bits16(avx512!(_mm512_castps_si512(self.0)))
    }
    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        F32x16(avx512!(_mm512_scalef_ps(self.0, n.0)))
    }
    #[inline(always)]
    fn split_pairs(self, next: Self) -> (Self, Self) {
        (pick(self, next, &EVEN), pick(self, next, &ODD))
    }
    #[inline(always)]
    fn join_pairs(self, odd: Self) -> (Self, Self) {
        (pick(self, odd, &FIRST), pick(self, odd, &SECOND))
    }
}

/// Which lanes of two vectors, those of the second from 16 on, make the results of `split_pairs`.
const EVEN: [i32; 16] = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30];
const ODD: [i32; 16] = [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31];

/// As [`EVEN`], of `join_pairs`.
const FIRST: [i32; 16] = [0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23];
const SECOND: [i32; 16] = [8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31];

/// Lanes of `a` and of `b`, which count from 16.
#[inline(always)]
fn pick(a: F32x16, b: F32x16, lanes: &[i32; 16]) -> F32x16 {
    // SAFETY: the array has the 64 bytes that are read; the instruction set as in `avx512!`.
    unsafe { F32x16(_mm512_permutex2var_ps(a.0, _mm512_loadu_si512(lanes.as_ptr().cast()), b.0)) }
}

impl BitLanes for Bits16 {
    type Float = F32x16;

    #[inline(always)]
    fn splat(value: i32) -> Self {
        Bits16(avx512!(_mm512_set1_epi32(value)))
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Bits16(avx512!(_mm512_add_epi32(self.0, other.0)))
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Bits16(avx512!(_mm512_sub_epi32(self.0, other.0)))
    }
    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Bits16(avx512!(_mm512_and_si512(self.0, other.0)))
    }
    #[inline(always)]
    fn or(self, other: Self) -> Self {
        Bits16(avx512!(_mm512_or_si512(self.0, other.0)))
    }
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Bits16(avx512!(_mm512_xor_si512(self.0, other.0)))
    }
    #[inline(always)]
    fn shl<const N: u32>(self) -> Self {
        Bits16(avx512!(_mm512_sllv_epi32(self.0, _mm512_set1_epi32(N as i32))))
    }
    #[inline(always)]
    fn shr<const N: u32>(self) -> Self {
        Bits16(avx512!(_mm512_srav_epi32(self.0, _mm512_set1_epi32(N as i32))))
    }
    #[inline(always)]
    fn is_zero(self) -> __mmask16 {
        avx512!(_mm512_testn_epi32_mask(self.0, self.0))
    }
    #[inline(always)]
    fn to_float(self) -> F32x16 {
        F32x16(avx512!(_mm512_cvtepi32_ps(self.0)))
    }
    #[inline(always)]
    fn as_float(self) -> F32x16 {
        F32x16(avx512!(_mm512_castsi512_ps(self.0)))
    }
}

/// `to[i] = from[i]`, past the caches.
///
/// # Safety
/// The machine has AVX-512 F; `to` begins at a multiple of 64 bytes, and both have one length, which is another.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn stream(from: &[u8], to: &mut [u8]) {
    let (x, y) = (from.as_ptr(), to.as_mut_ptr());
    for i in (0..to.len()).step_by(64) {
        // SAFETY: 64 bytes from `i` on are within both, and the place of the result is aligned.
        unsafe { _mm512_stream_si512(y.add(i).cast(), _mm512_loadu_si512(x.add(i).cast())) };
    }
}
