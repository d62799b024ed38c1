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

    /// The even and the odd lanes of `self` and `other`, one after the other.
    #[inline(always)]
    unsafe fn deal(self, other: Self) -> (Self, Self) {
        let lanes = both(self, other);
        let mut parts = [[Self::Elem::ZERO; MAX_LANES]; 2];
        for i in 0..Self::LANES {
            (parts[0][i], parts[1][i]) = (lanes[2 * i], lanes[2 * i + 1]);
        }
        // SAFETY: the arrays have `MAX_LANES >= LANES` elements.
        unsafe { (Self::load(parts[0].as_ptr()), Self::load(parts[1].as_ptr())) }
    }

    /// The lanes of `self` and `other` in turn: what [`deal`](Self::deal) undoes.
    #[inline(always)]
    unsafe fn weave(self, other: Self) -> (Self, Self) {
        let lanes = both(self, other);
        let mut woven = [Self::Elem::ZERO; 2 * MAX_LANES];
        for i in 0..Self::LANES {
            (woven[2 * i], woven[2 * i + 1]) = (lanes[i], lanes[Self::LANES + i]);
        }
        // SAFETY: the array has `2 * MAX_LANES >= 2 * LANES` elements.
        unsafe { (Self::load(woven.as_ptr()), Self::load(woven.as_ptr().add(Self::LANES))) }
    }

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

/// The most lanes of a vector.
const MAX_LANES: usize = 16;

/// The lanes of two vectors, one after the other.
#[inline(always)]
fn both<V: Vector>(first: V, second: V) -> [V::Elem; 2 * MAX_LANES] {
    const { assert!(V::LANES <= MAX_LANES) };
    let mut lanes = [V::Elem::ZERO; 2 * MAX_LANES];
    // SAFETY: there is room for all lanes; who has a vector may use its instructions.
    unsafe {
        first.store(lanes.as_mut_ptr());
        second.store(lanes.as_mut_ptr().add(V::LANES));
    }
    lanes
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::isa::{self, Isa};

    /// Deals and weaves the numbers from 0 on, at one level.
    unsafe fn check<V: Vector<Elem = f32>>() {
        let numbers: [f32; 2 * MAX_LANES] = std::array::from_fn(|i| i as f32);
        let mut out = [f32::NAN; 2 * MAX_LANES];
        // SAFETY: the caller vouches for the instructions; the arrays have twice the lanes.
        unsafe {
            let (a, b) = (V::load(numbers.as_ptr()), V::load(numbers.as_ptr().add(V::LANES)));
            let (even, odd) = a.deal(b);
            even.store(out.as_mut_ptr());
            odd.store(out.as_mut_ptr().add(V::LANES));
            for i in 0..V::LANES {
                assert_eq!((out[i], out[V::LANES + i]), ((2 * i) as f32, (2 * i + 1) as f32), "lane {i}");
            }
            let (first, second) = even.weave(odd);
            first.store(out.as_mut_ptr());
            second.store(out.as_mut_ptr().add(V::LANES));
            assert_eq!(out[..2 * V::LANES], numbers[..2 * V::LANES]);
        }
    }

    #[test]
    fn weaving_undoes_dealing() {
        // SAFETY: plain arrays need no instructions; the others are those of levels that the machine has.
        unsafe {
            check::<Lanes<f32, 4>>();
            check::<Lanes<f32, 16>>();
            for &level in isa::available() {
                match level {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => check::<super::super::F32x8>(),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => check::<super::super::F32x16>(),
                    #[cfg(target_arch = "aarch64")]
                    Isa::Neon => check::<super::super::F32x4>(),
                    _ => {}
                }
            }
        }
    }
}
