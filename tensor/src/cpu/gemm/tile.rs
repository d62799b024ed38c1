//! The micro-kernels, written once over [`Vector`]: one tile of C in registers, one pass over k.
//!
//! ```text
//!              B   one step: N vectors
//!          b0 ........ b1 ........
//!    a0    c00         c01             each step of k adds the outer product of a column of A and a row of B:
//! A  a1    c10         c11             R · N fused multiply-adds for N loads and R broadcasts
//!    ..
//! ```

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
    /// What is wanted after this tile: kernels in place ask for two cache lines of it for every four steps.
    pub next: *const S,
    /// Whether to add to C. If not, C is only written.
    pub add: bool,
}

/// A micro-kernel for one number of rows and of vectors per row.
///
/// # Safety
/// The instructions that it was compiled for must exist, and the pointers of the tile be valid for what the tile says.
pub(super) type TileFn<S> = unsafe fn(&Tile<S>);

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
        if t.last == V::LANES {
            direct_steps::<V, R, N, false>(&mut acc, t);
        } else {
            direct_steps::<V, R, N, true>(&mut acc, t);
        }
        write(&acc, t);
    }
}

/// All steps of a tile straight from the operands.
#[inline(always)]
unsafe fn direct_steps<V: Vector, const R: usize, const N: usize, const PARTIAL: bool>(
    acc: &mut [[V; N]; R],
    t: &Tile<V::Elem>,
) {
    // SAFETY: the tile's strides lead to R values of A and N vectors of B (`last` lanes in the last) in each of `k` steps; what is
    // asked for ahead may be any address.
    unsafe {
        let (mut a, mut b, mut next) = (t.a, t.b, t.next);
        for _ in 0..t.k / 4 {
            V::prefetch_far(next);
            V::prefetch_far(next.wrapping_byte_add(64));
            next = next.wrapping_byte_add(128);
            for _ in 0..4 {
                direct_step::<V, R, N, PARTIAL>(acc, a, t.a_row, b, t.last);
                (a, b) = (a.wrapping_offset(t.a_step), b.wrapping_offset(t.b_step));
            }
        }
        for _ in 0..t.k % 4 {
            direct_step::<V, R, N, PARTIAL>(acc, a, t.a_row, b, t.last);
            (a, b) = (a.wrapping_offset(t.a_step), b.wrapping_offset(t.b_step));
        }
    }
}
