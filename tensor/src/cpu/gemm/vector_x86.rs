//! The vectors of AVX2 and AVX-512.

use super::bytes::Pair;
use super::stream::Widen;
use super::vector::Vector;
use half::{bf16, f16};
use std::arch::x86_64::*;

/// Lane masks for AVX2: `n` ones followed by zeros start at `MASK[8 - n]`.
static MASK32: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
/// The same for four lanes of 64 bits: `MASK64[4 - n]`.
static MASK64: [i64; 8] = [-1, -1, -1, -1, 0, 0, 0, 0];

macro_rules! vector {
    (
        $(#[$doc:meta])* $name:ident($register:ident) = [$elem:ident; $lanes:literal],
        $zero:ident, $splat:ident, $load:ident, $store:ident, $add:ident, $fma:ident,
        load_first |$lp:ident, $ln:ident| $load_first:expr,
        store_first |$sv:ident, $sp:ident, $sn:ident| $store_first:expr
        $(, shuffles |$a:ident, $b:ident| deal $deal:expr, weave $weave:expr)?
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(in crate::cpu) struct $name($register);

        impl Vector for $name {
            type Elem = $elem;
            const LANES: usize = $lanes;

            #[inline(always)]
            unsafe fn zero() -> Self {
                // SAFETY: the caller vouches for the instructions.
                Self(unsafe { $zero() })
            }

            #[inline(always)]
            unsafe fn splat(x: $elem) -> Self {
                // SAFETY: the caller vouches for the instructions.
                Self(unsafe { $splat(x) })
            }

            #[inline(always)]
            unsafe fn load(p: *const $elem) -> Self {
                // SAFETY: the caller vouches for the instructions and for `LANES` elements.
                Self(unsafe { $load(p) })
            }

            #[inline(always)]
            unsafe fn store(self, p: *mut $elem) {
                // SAFETY: the caller vouches for the instructions and for `LANES` elements.
                unsafe { $store(p, self.0) }
            }

            #[inline(always)]
            unsafe fn load_first($lp: *const $elem, $ln: usize) -> Self {
                debug_assert!($ln < $lanes);
                // SAFETY: the caller vouches for the instructions and for `n` elements; masked lanes are not read.
                Self(unsafe { $load_first })
            }

            #[inline(always)]
            unsafe fn store_first(self, $sp: *mut $elem, $sn: usize) {
                debug_assert!($sn < $lanes);
                let $sv = self.0;
                // SAFETY: the caller vouches for the instructions and for `n` elements; masked lanes are not written.
                unsafe { $store_first }
            }

            #[inline(always)]
            unsafe fn plus(self, other: Self) -> Self {
                // SAFETY: the caller vouches for the instructions.
                Self(unsafe { $add(self.0, other.0) })
            }

            #[inline(always)]
            unsafe fn times_plus(self, other: Self, sum: Self) -> Self {
                // SAFETY: the caller vouches for the instructions.
                Self(unsafe { $fma(self.0, other.0, sum.0) })
            }

            $(
                #[inline(always)]
                unsafe fn deal(self, other: Self) -> (Self, Self) {
                    let ($a, $b) = (self.0, other.0);
                    // SAFETY: the caller vouches for the instructions.
                    let (even, odd) = unsafe { $deal };
                    (Self(even), Self(odd))
                }

                #[inline(always)]
                unsafe fn weave(self, other: Self) -> (Self, Self) {
                    let ($a, $b) = (self.0, other.0);
                    // SAFETY: the caller vouches for the instructions.
                    let (first, second) = unsafe { $weave };
                    (Self(first), Self(second))
                }
            )?

            #[inline(always)]
            fn prefetch(p: *const $elem) {
                // SAFETY: every x86-64 has the instruction, which reads nothing that the program could see.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
            }

            #[inline(always)]
            fn prefetch_far(p: *const $elem) {
                // SAFETY: as above.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
            }
        }
    };
}

vector! {
    /// Eight `f32` in an AVX2 register.
    F32x8(__m256) = [f32; 8],
    _mm256_setzero_ps, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, _mm256_fmadd_ps,
    load_first |p, n| _mm256_maskload_ps(p, _mm256_loadu_si256(MASK32.as_ptr().add(8 - n).cast())),
    store_first |v, p, n| _mm256_maskstore_ps(p, _mm256_loadu_si256(MASK32.as_ptr().add(8 - n).cast()), v),
    shuffles |a, b| deal {
        // Within halves of a register first, then the pairs of lanes into order.
        let even = _mm256_castps_pd(_mm256_shuffle_ps::<0x88>(a, b));
        let odd = _mm256_castps_pd(_mm256_shuffle_ps::<0xDD>(a, b));
        let ordered = (_mm256_permute4x64_pd::<0xD8>(even), _mm256_permute4x64_pd::<0xD8>(odd));
        (_mm256_castpd_ps(ordered.0), _mm256_castpd_ps(ordered.1))
    }, weave {
        let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        (_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high))
    }
}

vector! {
    /// Four `f64` in an AVX2 register.
    F64x4(__m256d) = [f64; 4],
    _mm256_setzero_pd, _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_add_pd, _mm256_fmadd_pd,
    load_first |p, n| _mm256_maskload_pd(p, _mm256_loadu_si256(MASK64.as_ptr().add(4 - n).cast())),
    store_first |v, p, n| _mm256_maskstore_pd(p, _mm256_loadu_si256(MASK64.as_ptr().add(4 - n).cast()), v),
    shuffles |a, b| deal {
        let (even, odd) = (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
        (_mm256_permute4x64_pd::<0xD8>(even), _mm256_permute4x64_pd::<0xD8>(odd))
    }, weave {
        let (low, high) = (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
        (_mm256_permute2f128_pd::<0x20>(low, high), _mm256_permute2f128_pd::<0x31>(low, high))
    }
}

vector! {
    /// Sixteen `f32` in an AVX-512 register.
    F32x16(__m512) = [f32; 16],
    _mm512_setzero_ps, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps, _mm512_fmadd_ps,
    load_first |p, n| _mm512_maskz_loadu_ps((1u16 << n) - 1, p),
    store_first |v, p, n| _mm512_mask_storeu_ps(p, (1u16 << n) - 1, v),
    shuffles |a, b| deal {
        // Lanes from 16 on are those of b.
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
        (_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b))
    }, weave {
        let first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        let second = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        (_mm512_permutex2var_ps(a, first, b), _mm512_permutex2var_ps(a, second, b))
    }
}

vector! {
    /// Eight `f64` in an AVX-512 register.
    F64x8(__m512d) = [f64; 8],
    _mm512_setzero_pd, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_add_pd, _mm512_fmadd_pd,
    load_first |p, n| _mm512_maskz_loadu_pd((1u8 << n) - 1, p),
    store_first |v, p, n| _mm512_mask_storeu_pd(p, (1u8 << n) - 1, v),
    shuffles |a, b| deal {
        // Lanes from 8 on are those of b.
        let even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
        let odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
        (_mm512_permutex2var_pd(a, even, b), _mm512_permutex2var_pd(a, odd, b))
    }, weave {
        let first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
        let second = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
        (_mm512_permutex2var_pd(a, first, b), _mm512_permutex2var_pd(a, second, b))
    }
}

/// The intrinsics that pairs lack, under the names and signatures that [`vector!`] wants. Their callers have the features.
macro_rules! pairs {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $Arg:ty),*) $(-> $R:ty)? = $body:expr;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        unsafe fn $name($($arg: $Arg),*) $(-> $R)? {
            // SAFETY: the caller vouches for the instructions and for what pointers lead to.
            unsafe { $body }
        }
    )*};
}

pairs! {
    fn splat_pair8(x: Pair) -> __m256i = _mm256_set1_epi32(bytemuck::cast(x));
    fn load_pair8(p: *const Pair) -> __m256i = _mm256_loadu_si256(p.cast());
    fn store_pair8(p: *mut Pair, x: __m256i) = _mm256_storeu_si256(p.cast(), x);
    fn madd_pair8(a: __m256i, b: __m256i, sum: __m256i) -> __m256i =
        _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
    fn splat_pair16(x: Pair) -> __m512i = _mm512_set1_epi32(bytemuck::cast(x));
    fn load_pair16(p: *const Pair) -> __m512i = _mm512_loadu_si512(p.cast());
    fn store_pair16(p: *mut Pair, x: __m512i) = _mm512_storeu_si512(p.cast(), x);
    fn madd_pair16(a: __m512i, b: __m512i, sum: __m512i) -> __m512i =
        _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
    fn dot_pair16(a: __m512i, b: __m512i, sum: __m512i) -> __m512i = _mm512_dpwssd_epi32(sum, a, b);
}

vector! {
    /// Eight pairs in an AVX2 register.
    Pairx8(__m256i) = [Pair; 8],
    _mm256_setzero_si256, splat_pair8, load_pair8, store_pair8, _mm256_add_epi32, madd_pair8,
    load_first |p, n| _mm256_maskload_epi32(p.cast(), _mm256_loadu_si256(MASK32.as_ptr().add(8 - n).cast())),
    store_first |v, p, n| _mm256_maskstore_epi32(p.cast(), _mm256_loadu_si256(MASK32.as_ptr().add(8 - n).cast()), v)
}

vector! {
    /// Sixteen pairs in an AVX-512 register.
    Pairx16(__m512i) = [Pair; 16],
    _mm512_setzero_si512, splat_pair16, load_pair16, store_pair16, _mm512_add_epi32, madd_pair16,
    load_first |p, n| _mm512_maskz_loadu_epi32((1u16 << n) - 1, p.cast()),
    store_first |v, p, n| _mm512_mask_storeu_epi32(p.cast(), (1u16 << n) - 1, v)
}

vector! {
    /// Sixteen pairs in an AVX-512 register, multiplied and added by the neural-network extension.
    PairVnni(__m512i) = [Pair; 16],
    _mm512_setzero_si512, splat_pair16, load_pair16, store_pair16, _mm512_add_epi32, dot_pair16,
    load_first |p, n| _mm512_maskz_loadu_epi32((1u16 << n) - 1, p.cast()),
    store_first |v, p, n| _mm512_mask_storeu_epi32(p.cast(), (1u16 << n) - 1, v)
}

/// Loads of a vector from numbers of its own or a narrower type.
macro_rules! widen {
    ($($vector:ident from $t:ty: |$p:ident| $load:expr;)*) => {$(
        impl Widen<$t> for $vector {
            #[inline(always)]
            unsafe fn widen($p: *const $t) -> Self {
                // SAFETY: the caller vouches for the instructions and for `LANES` numbers.
                Self(unsafe { $load })
            }
        }
    )*};
}

widen! {
    F32x8 from f32: |p| _mm256_loadu_ps(p);
    F32x8 from bf16: |p| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()))));
    F32x8 from f16: |p| _mm256_cvtph_ps(_mm_loadu_si128(p.cast()));
    F32x16 from f32: |p| _mm512_loadu_ps(p);
    F32x16 from bf16: |p| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()))));
    F32x16 from f16: |p| _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()));
    F64x4 from f64: |p| _mm256_loadu_pd(p);
    F64x8 from f64: |p| _mm512_loadu_pd(p);
}
