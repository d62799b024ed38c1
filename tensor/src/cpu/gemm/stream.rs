//! Kernels that read a matrix once, in its own order and type, and widen its values on the way: few rows times a matrix wait for
//! memory, so what counts is that it is read in long runs and that nothing else is.

use super::bytes::Pair;
use super::scalar::{GemmElement, Scalar};
use super::vector::{Lanes, Vector};
use crate::cpu::isa::Isa;
use half::{bf16, f16};

/// Vectors that can be loaded from numbers of type T.
pub(super) trait Widen<T: GemmElement<Acc = Self::Elem>>: Vector {
    /// `LANES` numbers from `p`.
    ///
    /// # Safety
    /// See [`Vector`].
    unsafe fn widen(p: *const T) -> Self;

    /// The first `n < LANES` numbers from `p`, zeros after them; touches nothing beyond them.
    ///
    /// # Safety
    /// See [`Vector`].
    #[inline(always)]
    unsafe fn widen_first(p: *const T, n: usize) -> Self {
        const MOST: usize = 16;
        debug_assert!(n < Self::LANES && Self::LANES <= MOST);
        let mut values = [T::zeroed(); MOST];
        // SAFETY: the caller vouches for `n` numbers; the array holds a vector of them.
        unsafe {
            std::ptr::copy_nonoverlapping(p, values.as_mut_ptr(), n);
            Self::widen(values.as_ptr())
        }
    }
}

impl<T: GemmElement, const N: usize> Widen<T> for Lanes<T::Acc, N> {
    #[inline(always)]
    unsafe fn widen(p: *const T) -> Self {
        // SAFETY: the caller vouches for `N` numbers.
        Self::from_lanes(unsafe { p.cast::<[T; N]>().read_unaligned() }.map(T::widen))
    }
}

/// How far ahead memory is asked for, in bytes: the processor's own prefetching stops at the end of each page.
const AHEAD: usize = 1024;

/// Rows of numbers that are contiguous in each: the first number, and the distance between rows.
pub(super) type Grid<T> = (*const T, isize);

/// `sums[i · sums_row + l] += Σ_p lines[l][p] · x[i][p]` for L lines and M rows of x, `k` numbers each. In the FIRST pass over the
/// lines, what follows in them is asked for.
///
/// # Safety
/// The lines and the rows hold `k` numbers, and there are sums for all of them; the instructions of `V` exist.
#[inline(always)]
unsafe fn dots<
    V: Widen<T>,
    T: GemmElement<Acc = V::Elem>,
    const L: usize,
    const M: usize,
    const FIRST: bool,
>(
    k: usize,
    (lines, line): Grid<T>,
    (x, x_row): Grid<V::Elem>,
    sums: *mut V::Elem,
    sums_row: usize,
) {
    // SAFETY: every access is below `k` in one of the lines or rows; what is asked for ahead may be any address.
    unsafe {
        // A single row has two chains of sums, since an addition takes longer than it takes to begin the next.
        let mut acc = [[[V::zero(); M]; L]; 2];
        let mut p = 0;
        while p + 2 * V::LANES <= k {
            for half in 0..2 {
                let acc = &mut acc[if M == 1 { half } else { 0 }];
                let at = p + half * V::LANES;
                let mut values = [V::zero(); M];
                for (i, value) in values.iter_mut().enumerate() {
                    *value = V::load(x.offset(i as isize * x_row).add(at));
                }
                for (l, acc) in acc.iter_mut().enumerate() {
                    let w = lines.offset(l as isize * line).add(at);
                    if FIRST && (half == 0 || V::LANES * size_of::<T>() >= 64) {
                        V::prefetch(w.wrapping_byte_add(AHEAD).cast());
                    }
                    let w = V::widen(w);
                    for (acc, value) in acc.iter_mut().zip(values) {
                        *acc = w.times_plus(value, *acc);
                    }
                }
            }
            p += 2 * V::LANES;
        }
        while p < k {
            let n = V::LANES.min(k - p);
            for (l, acc) in acc[0].iter_mut().enumerate() {
                let w = lines.offset(l as isize * line).add(p);
                let w = if n == V::LANES { V::widen(w) } else { V::widen_first(w, n) };
                for (i, acc) in acc.iter_mut().enumerate() {
                    let x = x.offset(i as isize * x_row).add(p);
                    let value = if n == V::LANES { V::load(x) } else { V::load_first(x, n) };
                    *acc = w.times_plus(value, *acc);
                }
            }
            p += n;
        }
        for l in 0..L {
            for i in 0..M {
                let sum = sums.add(i * sums_row + l);
                *sum = (*sum).plus(total(acc[0][l][i].plus(acc[1][l][i])));
            }
        }
    }
}

/// The sum of a vector's lanes, by halves.
#[inline(always)]
unsafe fn total<V: Vector>(x: V) -> V::Elem {
    let mut lanes = [V::Elem::ZERO; 16];
    debug_assert!(V::LANES <= 16);
    // SAFETY: the array has a vector's numbers; the caller vouches for the instructions.
    unsafe { x.store(lanes.as_mut_ptr()) };
    let mut width = V::LANES;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            lanes[i] = lanes[i].plus(lanes[i + width]);
        }
    }
    lanes[0]
}

/// `y[i · y_row + j] += Σ_r x[i][r] · rows[r][j]` for M rows of x and R rows of `n` numbers, added in the order of r. In the FIRST
/// pass over the rows, what follows in them is asked for.
///
/// # Safety
/// The R rows and the M rows of y hold `n` numbers, the rows of x hold R; the instructions of `V` exist.
#[inline(always)]
unsafe fn add_rows<
    V: Widen<T>,
    T: GemmElement<Acc = V::Elem>,
    const R: usize,
    const M: usize,
    const FIRST: bool,
>(
    n: usize,
    (x, x_row): Grid<V::Elem>,
    (rows, row): Grid<T>,
    y: *mut V::Elem,
    y_row: usize,
) {
    // SAFETY: every access is below `n` in one of the rows; what is asked for ahead may be any address.
    unsafe {
        let mut factors = [[V::zero(); R]; M];
        for (i, factors) in factors.iter_mut().enumerate() {
            for (r, factor) in factors.iter_mut().enumerate() {
                *factor = V::splat(*x.offset(i as isize * x_row).add(r));
            }
        }
        let mut j = 0;
        while j + V::LANES <= n {
            let mut sums = [V::zero(); M];
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = V::load(y.add(i * y_row + j));
            }
            for r in 0..R {
                let w = rows.offset(r as isize * row).add(j);
                if FIRST {
                    V::prefetch(w.wrapping_byte_add(AHEAD).cast());
                }
                let w = V::widen(w);
                for (sum, factors) in sums.iter_mut().zip(&factors) {
                    *sum = factors[r].times_plus(w, *sum);
                }
            }
            for (i, sum) in sums.iter().enumerate() {
                sum.store(y.add(i * y_row + j));
            }
            j += V::LANES;
        }
        if j < n {
            for (i, factors) in factors.iter().enumerate() {
                let y = y.add(i * y_row + j);
                let mut sum = V::load_first(y, n - j);
                for (r, factor) in factors.iter().enumerate() {
                    sum = factor.times_plus(V::widen_first(rows.offset(r as isize * row).add(j), n - j), sum);
                }
                sum.store_first(y, n - j);
            }
        }
    }
}

/// Lines, or rows of the matrix, that the wide kernels take at a time.
pub(super) const GROUP: usize = 4;

/// The kernels of a type at one instruction level. Each is for one line or row of the matrix, or [`GROUP`], and for one row of x, or
/// two: `[in cache or not][one or many][one or two]`.
pub struct Streams<T: GemmElement> {
    /// [`dots`], for lines in cache and for those that are read the first time.
    pub(super) dots: [[[DotsFn<T>; 2]; 2]; 2],
    /// [`add_rows`], likewise.
    pub(super) add_rows: [[[AddRowsFn<T>; 2]; 2]; 2],
}

/// See [`dots`].
pub(super) type DotsFn<T> =
    unsafe fn(usize, Grid<T>, Grid<<T as GemmElement>::Acc>, *mut <T as GemmElement>::Acc, usize);

/// See [`add_rows`].
pub(super) type AddRowsFn<T> =
    unsafe fn(usize, Grid<<T as GemmElement>::Acc>, Grid<T>, *mut <T as GemmElement>::Acc, usize);

macro_rules! instance {
    // The kernels of the second and later passes, then those of the first.
    ([$t:ty] in $vector:ty, asking [$later:literal $first:literal] $(, $feature:meta)?) => {{
        type Acc = <$t as GemmElement>::Acc;

        $(#[$feature])?
        unsafe fn dots<const L: usize, const M: usize, const FIRST: bool>(
            k: usize, lines: Grid<$t>, x: Grid<Acc>, sums: *mut Acc, sums_row: usize,
        ) {
            // SAFETY: the contract is the same, and this function has the features.
            unsafe { super::dots::<$vector, $t, L, M, FIRST>(k, lines, x, sums, sums_row) }
        }

        $(#[$feature])?
        unsafe fn add_rows<const R: usize, const M: usize, const FIRST: bool>(
            n: usize, x: Grid<Acc>, rows: Grid<$t>, y: *mut Acc, y_row: usize,
        ) {
            // SAFETY: the contract is the same, and this function has the features.
            unsafe { super::add_rows::<$vector, $t, R, M, FIRST>(n, x, rows, y, y_row) }
        }

        static STREAMS: Streams<$t> = Streams {
            dots: [
                [[dots::<1, 1, $later>, dots::<1, 2, $later>], [dots::<GROUP, 1, $later>, dots::<GROUP, 2, $later>]],
                [[dots::<1, 1, $first>, dots::<1, 2, $first>], [dots::<GROUP, 1, $first>, dots::<GROUP, 2, $first>]],
            ],
            add_rows: [
                [
                    [add_rows::<1, 1, $later>, add_rows::<1, 2, $later>],
                    [add_rows::<GROUP, 1, $later>, add_rows::<GROUP, 2, $later>],
                ],
                [
                    [add_rows::<1, 1, $first>, add_rows::<1, 2, $first>],
                    [add_rows::<GROUP, 1, $first>, add_rows::<GROUP, 2, $first>],
                ],
            ],
        };
        &STREAMS
    }};
    ([$t:ty] in $vector:ty $(, $feature:meta)?) => { instance!([$t] in $vector, asking [false true] $(, $feature)?) };
}

/// The table of each type, by level.
pub(super) mod tables {
    use super::*;
    #[cfg(target_arch = "aarch64")]
    use crate::cpu::gemm::vector_neon::{F32x4, F64x2};
    #[cfg(target_arch = "x86_64")]
    use crate::cpu::gemm::vector_x86::{F32x8, F32x16, F64x4, F64x8};

    macro_rules! table {
        ($($t:ident: $portable:ty, $avx2:ty, $avx512:ty, $neon:ty;)*) => {$(
            /// The kernels of this type at a level, or the nearest below it that has some.
            #[allow(non_snake_case, reason = "the function of a type has its name")]
            pub(in super::super) fn $t(isa: Isa) -> &'static Streams<$t> {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 | Isa::Amx => instance!(
                        [$t] in $avx512,
                        target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")
                    ),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => instance!([$t] in $avx2, target_feature(enable = "avx2,fma,f16c")),
                    #[cfg(target_arch = "aarch64")]
                    Isa::Neon => instance!([$t] in $neon),
                    _ => instance!([$t] in $portable),
                }
            }
        )*};
    }

    table! {
        f32: Lanes<f32, 4>, F32x8, F32x16, F32x4;
        bf16: Lanes<f32, 4>, F32x8, F32x16, F32x4;
        f16: Lanes<f32, 4>, F32x8, F32x16, F32x4;
        f64: Lanes<f64, 2>, F64x4, F64x8, F64x2;
    }

    /// Integers have one kernel for all passes, and that of AVX2 above it: a faster one would not pay for the time to compile it.
    macro_rules! integer_table {
        ($($t:ident: $portable:ty, $avx2:ty;)*) => {$(
            /// The kernels of this type at a level, or the nearest below it that has some.
            #[allow(non_snake_case, reason = "the function of a type has its name")]
            pub(in super::super) fn $t(isa: Isa) -> &'static Streams<$t> {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    level if level >= Isa::Avx2 => {
                        instance!([$t] in $avx2, asking [true true], target_feature(enable = "avx2"))
                    }
                    _ => instance!([$t] in $portable, asking [true true]),
                }
            }
        )*};
    }

    integer_table! {
        i32: Lanes<i32, 4>, Lanes<i32, 8>;
        u32: Lanes<i32, 4>, Lanes<i32, 8>;
        i8: Lanes<i32, 4>, Lanes<i32, 8>;
        u8: Lanes<i32, 4>, Lanes<i32, 8>;
        i64: Lanes<i64, 2>, Lanes<i64, 4>;
        Pair: Lanes<Pair, 4>, Lanes<Pair, 8>;
    }
}
