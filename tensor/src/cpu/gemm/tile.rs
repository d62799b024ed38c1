//! The micro-kernels, written once over [`Vector`]: one tile of C in registers, one pass over k.
//!
//! ```text
//!              B   one step: N vectors
//!          b0 ........ b1 ........
//!    a0    c00         c01             each step of k adds the outer product of a column of A and a row of B:
//! A  a1    c10         c11             R · N fused multiply-adds for N loads and R broadcasts
//!    ..
//! ```

use super::scalar::Scalar;
use super::vector::Vector;

/// One tile of work: `C[..R, ..n] = (add ? C : 0) + A · B` over `k` steps.
pub(super) struct Tile<S> {
    /// Steps.
    pub k: usize,
    /// The first value of A.
    pub a: *const S,
    /// Distance between the rows of A. Packed panels have it 1 and ignore this.
    pub a_row: isize,
    /// Distance between the steps of A. Packed panels have it MR and ignore this.
    pub a_step: isize,
    /// The first value of B; each step is contiguous.
    pub b: *const S,
    /// Distance between the steps of B. Packed panels have it NR and ignore this.
    pub b_step: isize,
    /// The tile of C; its rows are contiguous.
    pub c: *mut S,
    /// Distance between the rows of C.
    pub c_row: isize,
    /// Valid lanes of the last vector of each row: `1..=LANES`.
    pub last: usize,
    /// Whether to add to C. If not, C is only written.
    pub add: bool,
}

/// A micro-kernel for one number of rows and of vectors per row.
///
/// # Safety
/// The instructions that it was compiled for must exist, and the pointers of the tile be valid for what the tile says.
pub(super) type TileFn<S> = unsafe fn(&Tile<S>);

/// [`dot`] for some vectors.
pub(super) type DotFn<S> = unsafe fn(usize, *const S, *const S) -> S;

/// [`axpy`] for some vectors and number of rows.
pub(super) type AxpyFn<S> = unsafe fn(usize, *const S, *const S, isize, *mut S);

/// N vectors of B; the last one partial if PARTIAL.
#[inline(always)]
unsafe fn load_row<V: Vector, const N: usize, const PARTIAL: bool>(b: *const V::Elem, last: usize) -> [V; N] {
    // SAFETY: the callers below vouch for the vectors and for the instructions.
    unsafe {
        let mut row = [V::zero(); N];
        for (j, v) in row.iter_mut().enumerate() {
            let p = b.add(j * V::LANES);
            *v = if PARTIAL && j == N - 1 { V::load_first(p, last) } else { V::load(p) };
        }
        row
    }
}

/// Adds one step of packed panels: the outer product of R values of A and N vectors of B.
#[inline(always)]
unsafe fn packed_step<V: Vector, const R: usize, const N: usize>(
    acc: &mut [[V; N]; R],
    a: *const V::Elem,
    b: *const V::Elem,
) {
    // SAFETY: the caller vouches for the values, the vectors and the instructions.
    unsafe { V::add_outer(acc, a, load_row::<V, N, false>(b, 0)) }
}

/// Adds one step of operands in place, the values of A a stride apart.
#[inline(always)]
unsafe fn direct_step<V: Vector, const R: usize, const N: usize, const PARTIAL: bool>(
    acc: &mut [[V; N]; R],
    a: *const V::Elem,
    a_row: isize,
    b: *const V::Elem,
    last: usize,
) {
    // SAFETY: the caller vouches for the values, the vectors and the instructions.
    unsafe {
        let row = load_row::<V, N, PARTIAL>(b, last);
        for (i, sums) in acc.iter_mut().enumerate() {
            let x = V::splat(*a.offset(i as isize * a_row));
            for (sum, v) in sums.iter_mut().zip(row) {
                *sum = x.times_plus(v, *sum);
            }
        }
    }
}

/// Writes the sums to C, or adds them to it.
#[inline(always)]
unsafe fn write<V: Vector, const R: usize, const N: usize>(acc: &[[V; N]; R], t: &Tile<V::Elem>) {
    // SAFETY: the caller vouches for R rows of C, each N vectors wide, the last one with `last` lanes.
    unsafe {
        for (i, sums) in acc.iter().enumerate() {
            for (j, sum) in sums.iter().enumerate() {
                let c = t.c.offset(i as isize * t.c_row).add(j * V::LANES);
                if j < N - 1 || t.last == V::LANES {
                    let sum = if t.add { V::load(c).plus(*sum) } else { *sum };
                    sum.store(c);
                } else {
                    let sum = if t.add { V::load_first(c, t.last).plus(*sum) } else { *sum };
                    sum.store_first(c, t.last);
                }
            }
        }
    }
}

/// A tile from packed panels: A has MR values per step (R of them used), B has NR (N vectors used).
///
/// # Safety
/// See [`TileFn`]. Panels hold `k` whole steps.
#[inline(always)]
pub(super) unsafe fn packed<V: Vector, const MR: usize, const NR: usize, const R: usize, const N: usize>(
    t: &Tile<V::Elem>,
) {
    // SAFETY: the panels hold `k` steps of MR and NR values, and R <= MR, N vectors <= NR.
    unsafe {
        // The tile of C comes while the products are summed.
        for i in 0..R {
            for j in 0..N {
                V::prefetch(t.c.wrapping_offset(i as isize * t.c_row).wrapping_add(j * V::LANES));
            }
        }
        let mut acc = [[V::zero(); N]; R];
        let (mut a, mut b) = (t.a, t.b);
        for _ in 0..t.k / 4 {
            packed_step(&mut acc, a, b);
            packed_step(&mut acc, a.add(MR), b.add(NR));
            packed_step(&mut acc, a.add(2 * MR), b.add(2 * NR));
            packed_step(&mut acc, a.add(3 * MR), b.add(3 * NR));
            a = a.add(4 * MR);
            b = b.add(4 * NR);
        }
        for _ in 0..t.k % 4 {
            packed_step(&mut acc, a, b);
            a = a.add(MR);
            b = b.add(NR);
        }
        write(&acc, t);
    }
}

/// A tile straight from the operands, for products too small to pack.
///
/// # Safety
/// See [`TileFn`].
#[inline(always)]
pub(super) unsafe fn direct<V: Vector, const R: usize, const N: usize>(t: &Tile<V::Elem>) {
    // SAFETY: the tile's strides lead to R values of A and N vectors of B (`last` lanes in the last) in each of `k` steps.
    unsafe {
        let mut acc = [[V::zero(); N]; R];
        let (mut a, mut b) = (t.a, t.b);
        if t.last == V::LANES {
            for _ in 0..t.k {
                direct_step::<V, R, N, false>(&mut acc, a, t.a_row, b, 0);
                (a, b) = (a.wrapping_offset(t.a_step), b.wrapping_offset(t.b_step));
            }
        } else {
            for _ in 0..t.k {
                direct_step::<V, R, N, true>(&mut acc, a, t.a_row, b, t.last);
                (a, b) = (a.wrapping_offset(t.a_step), b.wrapping_offset(t.b_step));
            }
        }
        write(&acc, t);
    }
}

/// `Σ x[i] · y[i]` over `k` contiguous values, in four interleaved chains of vectors.
///
/// # Safety
/// `x` and `y` hold `k` values; the instructions of `V` exist.
#[inline(always)]
pub(super) unsafe fn dot<V: Vector>(k: usize, x: *const V::Elem, y: *const V::Elem) -> V::Elem {
    // SAFETY: every access is below `k`.
    unsafe {
        let mut acc = [V::zero(); 4];
        let mut p = 0;
        while p + 4 * V::LANES <= k {
            for (j, sum) in acc.iter_mut().enumerate() {
                let at = p + j * V::LANES;
                *sum = V::load(x.add(at)).times_plus(V::load(y.add(at)), *sum);
            }
            p += 4 * V::LANES;
        }
        while p + V::LANES <= k {
            acc[0] = V::load(x.add(p)).times_plus(V::load(y.add(p)), acc[0]);
            p += V::LANES;
        }
        if p < k {
            acc[1] = V::load_first(x.add(p), k - p).times_plus(V::load_first(y.add(p), k - p), acc[1]);
        }
        let sum = acc[0].plus(acc[1]).plus(acc[2].plus(acc[3]));
        let mut lanes = [V::Elem::ZERO; 16];
        debug_assert!(V::LANES <= 16);
        sum.store(lanes.as_mut_ptr());
        let mut width = V::LANES;
        while width > 1 {
            width /= 2;
            for i in 0..width {
                lanes[i] = lanes[i].plus(lanes[i + width]);
            }
        }
        lanes[0]
    }
}

/// `y[j] += x[0] · rows[0][j] + … + x[R - 1] · rows[R - 1][j]`, added in this order.
///
/// # Safety
/// `y` and each of the R rows, `row` apart, hold `n` values, `x` holds R; the instructions of `V` exist.
#[inline(always)]
pub(super) unsafe fn axpy<V: Vector, const R: usize>(
    n: usize,
    x: *const V::Elem,
    rows: *const V::Elem,
    row: isize,
    y: *mut V::Elem,
) {
    // SAFETY: every access is below `n` in one of the R rows.
    unsafe {
        let mut factors = [V::zero(); R];
        for (i, factor) in factors.iter_mut().enumerate() {
            *factor = V::splat(*x.add(i));
        }
        let mut j = 0;
        while j + V::LANES <= n {
            let mut sum = V::load(y.add(j));
            for (i, factor) in factors.iter().enumerate() {
                sum = factor.times_plus(V::load(rows.offset(i as isize * row).add(j)), sum);
            }
            sum.store(y.add(j));
            j += V::LANES;
        }
        if j < n {
            let mut sum = V::load_first(y.add(j), n - j);
            for (i, factor) in factors.iter().enumerate() {
                sum = factor.times_plus(V::load_first(rows.offset(i as isize * row).add(j), n - j), sum);
            }
            sum.store_first(y.add(j), n - j);
        }
    }
}
