//! The few vector operations that the micro-kernels need, and their portable version.

use super::scalar::Scalar;

/// A register's worth of [`Elem`](Vector::Elem)s.
///
/// Implementations are `#[inline(always)]` and carry no `target_feature`: they take the features of the function that
/// they are inlined into.
///
/// # Safety
/// Every method may only run where the instructions of the implementing type exist. Pointer arguments must be valid for
/// the number of elements that the method names; they need no alignment.
pub(in crate::cpu) trait Vector: Copy {
    /// The type of a lane.
    type Elem: Scalar;
    /// Lanes in a register.
    const LANES: usize;

    /// All lanes zero.
    unsafe fn zero() -> Self;
    /// All lanes `x`.
    unsafe fn splat(x: Self::Elem) -> Self;
    /// `LANES` elements from `p`.
    unsafe fn load(p: *const Self::Elem) -> Self;
    /// `LANES` elements to `p`.
    unsafe fn store(self, p: *mut Self::Elem);
    /// The first `n < LANES` elements from `p`, zeros after them; touches nothing beyond them.
    unsafe fn load_first(p: *const Self::Elem, n: usize) -> Self;
    /// The first `n < LANES` lanes to `p`; touches nothing beyond them.
    unsafe fn store_first(self, p: *mut Self::Elem, n: usize);
    /// `self + other`.
    unsafe fn plus(self, other: Self) -> Self;
    /// `self · other + sum`.
    unsafe fn times_plus(self, other: Self, sum: Self) -> Self;

    /// `acc[i][j] += a[i] · row[j]`, for R values at `a`.
    #[inline(always)]
    unsafe fn add_outer<const R: usize, const N: usize>(
        acc: &mut [[Self; N]; R],
        a: *const Self::Elem,
        row: [Self; N],
    ) {
        for (i, sums) in acc.iter_mut().enumerate() {
            // SAFETY: the caller vouches for the instructions and for R values.
            unsafe {
                let x = Self::splat(*a.add(i));
                for (sum, v) in sums.iter_mut().zip(row) {
                    *sum = x.times_plus(v, *sum);
                }
            }
        }
    }

    /// Asks for the cache line at `p`, which may be any address, where the level can.
    #[inline(always)]
    fn prefetch(_p: *const Self::Elem) {}

    /// Asks for the cache line at `p`, which may be any address, as far as the second-level cache, where the level can.
    #[inline(always)]
    fn prefetch_far(_p: *const Self::Elem) {}
}

/// `N` lanes as a plain array: what runs on a machine without a kernel of its own, and, with 16 lanes, the twin of the
/// AVX-512 kernels in tests.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Lanes<S, const N: usize>([S; N]);

impl<S, const N: usize> Lanes<S, N> {
    #[inline(always)]
    pub(super) fn from_lanes(lanes: [S; N]) -> Self {
        Self(lanes)
    }
}

impl<S: Scalar, const N: usize> Vector for Lanes<S, N> {
    type Elem = S;
    const LANES: usize = N;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([S::ZERO; N])
    }

    #[inline(always)]
    unsafe fn splat(x: S) -> Self {
        Self([x; N])
    }

    #[inline(always)]
    unsafe fn load(p: *const S) -> Self {
        // SAFETY: the caller vouches for `N` elements.
        Self(unsafe { p.cast::<[S; N]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut S) {
        // SAFETY: the caller vouches for `N` elements.
        unsafe { p.cast::<[S; N]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn load_first(p: *const S, n: usize) -> Self {
        let mut lanes = [S::ZERO; N];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            // SAFETY: `i < n`, and the caller vouches for `n` elements.
            *lane = unsafe { p.add(i).read() };
        }
        Self(lanes)
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut S, n: usize) {
        for (i, lane) in self.0.iter().enumerate().take(n) {
            // SAFETY: `i < n`, and the caller vouches for `n` elements.
            unsafe { p.add(i).write(*lane) }
        }
    }

    #[inline(always)]
    unsafe fn plus(mut self, other: Self) -> Self {
        for i in 0..N {
            self.0[i] = self.0[i].plus(other.0[i]);
        }
        self
    }

    #[inline(always)]
    unsafe fn times_plus(self, other: Self, mut sum: Self) -> Self {
        for i in 0..N {
            sum.0[i] = self.0[i].times_plus(other.0[i], sum.0[i]);
        }
        sum
    }
}
