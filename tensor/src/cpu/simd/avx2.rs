//! Eight lanes: AVX2 and FMA.

use super::lanes::{BitLanes, Lanes};
use half::{bf16, f16};
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
    #[inline(always)]
    fn split_pairs(self, next: Self) -> (Self, Self) {
        /// Shuffles work on halves of 128 bits each by itself; this puts pairs of lanes in order.
        #[inline(always)]
        fn ordered(mixed: __m256) -> F32x8 {
            avx2!(F32x8(_mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(mixed)))))
        }
        (
            ordered(avx2!(_mm256_shuffle_ps::<0b10_00_10_00>(self.0, next.0))),
            ordered(avx2!(_mm256_shuffle_ps::<0b11_01_11_01>(self.0, next.0))),
        )
    }
    #[inline(always)]
    fn join_pairs(self, odd: Self) -> (Self, Self) {
        let low = avx2!(_mm256_unpacklo_ps(self.0, odd.0));
        let high = avx2!(_mm256_unpackhi_ps(self.0, odd.0));
        (
            F32x8(avx2!(_mm256_permute2f128_ps::<0x20>(low, high))),
            F32x8(avx2!(_mm256_permute2f128_ps::<0x31>(low, high))),
        )
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

/// `to[i] = from[i]`, past the caches.
///
/// # Safety
/// The machine has AVX2; `to` begins at a multiple of 64 bytes, and both have one length, which is another.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn stream(from: &[u8], to: &mut [u8]) {
    let (x, y) = (from.as_ptr(), to.as_mut_ptr());
    for i in (0..to.len()).step_by(64) {
        // SAFETY: 64 bytes from `i` on are within both, and the place of the result is aligned.
        unsafe {
            let line = [_mm256_loadu_si256(x.add(i).cast()), _mm256_loadu_si256(x.add(i + 32).cast())];
            _mm256_stream_si256(y.add(i).cast(), line[0]);
            _mm256_stream_si256(y.add(i + 32).cast(), line[1]);
        }
    }
}

/// A 16-bit format, eight elements at a time.
pub(super) trait Eight: Copy + Default {
    /// Eight elements.
    ///
    /// # Safety
    /// They are readable; called inside a function compiled for AVX2 and F16C.
    unsafe fn widen_8(from: *const Self) -> F32x8;
    /// Eight elements, rounded.
    ///
    /// # Safety
    /// There is room for them; called inside a function compiled for AVX2 and F16C.
    unsafe fn narrow_8(wide: F32x8, to: *mut Self);
}

impl Eight for f16 {
    #[inline(always)]
    unsafe fn widen_8(from: *const f16) -> F32x8 {
        // SAFETY: the caller's promise.
        F32x8(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) })
    }
    #[inline(always)]
    unsafe fn narrow_8(wide: F32x8, to: *mut f16) {
        // SAFETY: the caller's promise.
        unsafe { _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(wide.0)) }
    }
}

impl Eight for bf16 {
    #[inline(always)]
    unsafe fn widen_8(from: *const bf16) -> F32x8 {
        // SAFETY: the caller's promise. The 16 bits become the upper half.
        F32x8(unsafe {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        })
    }
    #[inline(always)]
    unsafe fn narrow_8(wide: F32x8, to: *mut bf16) {
        // SAFETY: the caller's promise.
        unsafe {
            let bits = _mm256_castps_si256(wide.0);
            let upper = _mm256_srli_epi32::<16>(bits);
            let odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
            let up = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
            let rounded = _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, up));
            // Rounding could carry a NaN into infinity: keep it, and quiet.
            let nan = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
            let is_nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(wide.0, wide.0));
            let halves = _mm256_blendv_epi8(rounded, nan, is_nan);
            let packed =
                _mm_packus_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
            _mm_storeu_si128(to.cast(), packed);
        }
    }
}

/// `to[i] = from[i]`.
///
/// # Safety
/// The machine has AVX2 and F16C; both have one length.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn widen_f16(from: &[f16], to: &mut [f32]) {
    let (n, x, y) = (to.len(), from.as_ptr(), to.as_mut_ptr());
    for i in (0..n / 8 * 8).step_by(8) {
        // SAFETY: eight elements from `i` on are within both.
        unsafe { f16::widen_8(x.add(i)).store(y.add(i)) };
    }
    for i in n / 8 * 8..n {
        to[i] = _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(from[i].to_bits()))));
    }
}

/// `to[i] = from[i]`, rounded.
///
/// # Safety
/// The machine has AVX2 and F16C; both have one length.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn narrow<T: Eight>(from: &[f32], to: &mut [T]) {
    let (n, x, y) = (to.len(), from.as_ptr(), to.as_mut_ptr());
    for i in (0..n / 8 * 8).step_by(8) {
        // SAFETY: eight elements from `i` on are within both.
        unsafe { T::narrow_8(F32x8::load(x.add(i)), y.add(i)) };
    }
    let (whole, mut wide, mut rest) = (n / 8 * 8, [0.0; 8], [T::default(); 8]);
    wide[..n - whole].copy_from_slice(&from[whole..n]);
    // SAFETY: there are eight of them.
    unsafe { T::narrow_8(F32x8::load(wide.as_ptr()), rest.as_mut_ptr()) };
    to[whole..].copy_from_slice(&rest[..n - whole]);
}

/// `to[c, r] = from[r, c]` for eight rows and columns, whose lines are as far apart as the second numbers say.
///
/// # Safety
/// The machine has AVX2; `from` is readable and `to` writable there.
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn transpose_8x8_u32(to: (*mut u32, isize), from: (*const u32, isize)) {
    let mut rows = [_mm256_setzero_si256(); 8];
    for (r, row) in rows.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *row = unsafe { _mm256_loadu_si256(from.0.offset(r as isize * from.1).cast()) };
    }
    // Pairs of two rows each, then of four, then whole columns.
    let [a, b, c, d, e, f, g, h] = rows;
    let two = |x, y| (_mm256_unpacklo_epi32(x, y), _mm256_unpackhi_epi32(x, y));
    let ((ab0, ab1), (cd0, cd1), (ef0, ef1), (gh0, gh1)) = (two(a, b), two(c, d), two(e, f), two(g, h));
    let four = |x, y| (_mm256_unpacklo_epi64(x, y), _mm256_unpackhi_epi64(x, y));
    let ((l0, l1), (l2, l3)) = (four(ab0, cd0), four(ab1, cd1));
    let ((h0, h1), (h2, h3)) = (four(ef0, gh0), four(ef1, gh1));
    for (i, (l, h)) in [(l0, h0), (l1, h1), (l2, h2), (l3, h3)].into_iter().enumerate() {
        let (left, right) =
            (_mm256_permute2x128_si256::<0x20>(l, h), _mm256_permute2x128_si256::<0x31>(l, h));
        // SAFETY: the caller's promise.
        unsafe {
            _mm256_storeu_si256(to.0.offset(i as isize * to.1).cast(), left);
            _mm256_storeu_si256(to.0.offset((i + 4) as isize * to.1).cast(), right);
        }
    }
}

/// As [`transpose_8x8_u32`], of 16-bit elements.
///
/// # Safety
/// As for [`transpose_8x8_u32`].
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn transpose_8x8_u16(to: (*mut u16, isize), from: (*const u16, isize)) {
    let mut rows = [_mm_setzero_si128(); 8];
    for (r, row) in rows.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *row = unsafe { _mm_loadu_si128(from.0.offset(r as isize * from.1).cast()) };
    }
    let [a, b, c, d, e, f, g, h] = rows;
    let two = |x, y| (_mm_unpacklo_epi16(x, y), _mm_unpackhi_epi16(x, y));
    let ((ab0, ab1), (cd0, cd1), (ef0, ef1), (gh0, gh1)) = (two(a, b), two(c, d), two(e, f), two(g, h));
    let four = |x, y| (_mm_unpacklo_epi32(x, y), _mm_unpackhi_epi32(x, y));
    let ((l0, l1), (l2, l3)) = (four(ab0, cd0), four(ab1, cd1));
    let ((h0, h1), (h2, h3)) = (four(ef0, gh0), four(ef1, gh1));
    for (i, (l, h)) in [(l0, h0), (l1, h1), (l2, h2), (l3, h3)].into_iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            _mm_storeu_si128(to.0.offset(2 * i as isize * to.1).cast(), _mm_unpacklo_epi64(l, h));
            _mm_storeu_si128(to.0.offset((2 * i + 1) as isize * to.1).cast(), _mm_unpackhi_epi64(l, h));
        }
    }
}
