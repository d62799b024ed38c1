//! Products of bytes, exact in `i32`: the loops of [`driver`](super::driver) over blocks of 64 steps.

use super::driver::PANELS;
use super::panels::DEPTH;
use super::square::{Square, Sums};
use super::words::{self, bits, depth};
use super::{BLOCK, LEAST_LINES, Row, Session, TileFn, TileJob, Unit};
use crate::cpu::gemm::bytes::Byte;
use crate::cpu::gemm::matrix::{MatRef, Target};
use crate::cpu::gemm::packed::Side;
use crate::cpu::gemm::plan::{self, KBlocks, Split};
use crate::cpu::gemm::scratch::Scratch;
use crate::cpu::isa::Isa;
use crate::cpu::threads::{SharedMut, parallel_for};
use std::ops::Range;

/// What multiplies bytes at a level, if tiles should.
pub(in crate::cpu::gemm) fn unit(isa: Isa, m: usize, n: usize, steps: usize) -> Option<&'static Unit> {
    let pays = m >= 2 && n >= LEAST_LINES && steps >= depth::<u8>();
    match isa {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        Isa::Amx if pays => Some(&super::tile::UNIT),
        _ => {
            let _ = pays;
            None
        }
    }
}

/// `C = A·B`; sums beyond 32 bits wrap. The rows of C, or else its columns, are contiguous.
pub(in crate::cpu::gemm) fn run<A: Byte, B: Byte>(
    unit: &'static Unit,
    isa: Isa,
    a: MatRef<A>,
    b: MatRef<B>,
    c: Target<i32>,
) {
    if c.col != 1 {
        return run(unit, isa, b.t(), a.t(), c.t());
    }
    let signs = usize::from(A::SIGNED) * 2 + usize::from(B::SIGNED);
    let kernels = [unit.bytes[signs], unit.short_bytes[signs]];
    let blocks = plan::k_blocks(a.cols().div_ceil(depth::<u8>()), DEPTH);
    Product { unit, kernels, isa, a: bits(a), b: bits(b.t()), c, blocks }.run();
}

/// A product; both operands are lists of lines.
struct Product<'a> {
    unit: &'static Unit,
    /// For a whole panel of A, and for half of one.
    kernels: [TileFn; 2],
    isa: Isa,
    a: MatRef<'a, u8>,
    b: MatRef<'a, u8>,
    c: Target<i32>,
    blocks: KBlocks,
}

impl Product<'_> {
    fn run(&self) {
        let (m, n, steps) = (self.a.rows(), self.b.rows(), self.a.cols());
        let split = plan::split(m, n);
        let (streamed, shared_lines, shared_side) = match split {
            Split::Rows => (m, n, Side::B),
            Split::Cols => (n, m, Side::A),
        };
        // Bytes are a quarter of the numbers that the plan counts in, and products of them much faster.
        let held = plan::held(steps.div_ceil(4), BLOCK);
        for first in (0..shared_lines).step_by(held) {
            let lines = first..shared_lines.min(first + held);
            let panels = lines.len().div_ceil(BLOCK);
            let mut shared = Scratch::<Row>::new(panels * steps.div_ceil(depth::<u8>()) * BLOCK);
            self.pack_all(shared_side, lines.clone(), shared.as_mut_slice());
            let shared = shared.as_slice();
            let strip_depth = self.blocks.depth() * WORDS_OF_BLOCK;
            let strip = plan::strip(split, streamed, lines.len(), steps.div_ceil(8), strip_depth, BLOCK);
            parallel_for(streamed.div_ceil(strip), |at| {
                let own = at * strip..streamed.min((at + 1) * strip);
                match split {
                    Split::Rows => self.strip(split, own, lines.clone(), shared),
                    Split::Cols => self.strip(split, lines.clone(), own, shared),
                }
            });
        }
    }

    /// Packs one block of k of some lines, panel after panel.
    fn pack(&self, side: Side, lines: &Range<usize>, k: &Range<usize>, rows: &mut [Row]) {
        let operand = if side == Side::A { &self.a } else { &self.b };
        for (at, rows) in rows.chunks_exact_mut(k.len() * BLOCK).enumerate() {
            let first = lines.start + at * BLOCK;
            words::panel(self.isa, side, operand, first..lines.end.min(first + BLOCK), k, rows);
        }
    }

    /// Packs all steps of some lines, in parallel.
    fn pack_all(&self, side: Side, lines: Range<usize>, rows: &mut [Row]) {
        /// Panels of a task.
        const GROUP: usize = 4;
        let panels = lines.len().div_ceil(BLOCK);
        let groups = panels.div_ceil(GROUP);
        let rows = SharedMut::new(rows);
        parallel_for(groups * self.blocks.count(), |task| {
            let k = self.blocks.get(task / groups);
            let own = task % groups * GROUP..panels.min((task % groups + 1) * GROUP);
            let from = (k.start * panels + own.start * k.len()) * BLOCK;
            // SAFETY: each panel of each block of k belongs to one task, and their rows are disjoint.
            let rows = unsafe { rows.slice(from..from + own.len() * k.len() * BLOCK) };
            let first = lines.start + own.start * BLOCK;
            self.pack(side, &(first..lines.end.min(lines.start + own.end * BLOCK)), &k, rows);
        });
    }

    /// All of k for one strip of C.
    fn strip(&self, split: Split, rows: Range<usize>, cols: Range<usize>, shared: &[Row]) {
        let (side, lines, others) = match split {
            Split::Rows => (Side::A, &rows, cols.len().div_ceil(BLOCK)),
            Split::Cols => (Side::B, &cols, rows.len().div_ceil(BLOCK)),
        };
        let panels = lines.len().div_ceil(BLOCK);
        let mut own = Scratch::<Row>::new(panels * self.blocks.depth() * BLOCK);
        let start = self.c.at(rows.start, cols.start);
        let sums = Sums { start, row: self.c.row, height: rows.len(), width: cols.len(), step: BLOCK };
        let session = Session::new(self.unit);
        for at in 0..self.blocks.count() {
            let k = self.blocks.get(at);
            let own = &mut own.as_mut_slice()[..panels * k.len() * BLOCK];
            self.pack(side, lines, &k, own);
            let other = &shared[k.start * others * BLOCK..k.end * others * BLOCK];
            let (a, b) = if split == Split::Rows { (&*own, other) } else { (other, &*own) };
            // SAFETY: the sums are C's elements of this strip, which no other task touches.
            unsafe { self.block(&session, &sums, k.len(), a, b, at > 0) };
        }
    }

    /// One block of k, `blocks` blocks of steps: square after square.
    ///
    /// # Safety
    /// The sums belong to the caller, and the unit's tiles are configured.
    unsafe fn block(&self, _: &Session, sums: &Sums<i32>, blocks: usize, a: &[Row], b: &[Row], add: bool) {
        let panel = blocks * BLOCK;
        let mut square = Square::zero();
        for (chunk, a) in a.chunks(PANELS * panel).enumerate() {
            for (j, b) in b.chunks_exact(panel).enumerate() {
                for (i, a) in a.chunks_exact(panel).enumerate() {
                    let ahead = b.as_ptr().wrapping_add(panel + i * (panel / PANELS));
                    let job = |c: *mut i32, c_row: isize| {
                        let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.cast());
                        TileJob { a, b, blocks, c, c_row, add, ahead }
                    };
                    let i = chunk * PANELS + i;
                    let short = sums.height - i * BLOCK <= BLOCK / 2;
                    let kernel = self.kernels[usize::from(short)];
                    // SAFETY: the panels hold `blocks` blocks (sliced so above). C is the square in the sums, if it is whole,
                    // or the copy.
                    unsafe {
                        if sums.is_direct(i, j, short) {
                            kernel(&job(sums.at(i, j), sums.row));
                        } else {
                            if add {
                                sums.load(i, j, &mut square);
                            }
                            kernel(&job(square.0.as_mut_ptr().cast(), BLOCK as isize));
                            sums.store(i, j, &square, |_, new| new);
                        }
                    }
                }
            }
        }
    }
}

/// What a line takes of a block, in the numbers of 32 bits that plans count in.
const WORDS_OF_BLOCK: usize = 16;

#[cfg(test)]
mod tests {
    use super::super::tests::{Random, native};
    use super::*;
    use crate::cpu::gemm::amx::model;
    use crate::cpu::gemm::matrix::MatMut;
    use crate::cpu::isa;
    use crate::cpu::threads::with_num_threads;

    fn units() -> impl Iterator<Item = &'static Unit> {
        [&model::UNIT].into_iter().chain(native())
    }

    /// Every product of both kinds of layouts, against plain sums.
    fn check<A: Byte, B: Byte>(
        random: &mut Random,
        [m, n, k]: [usize; 3],
        a_of: fn(u8) -> A,
        b_of: fn(u8) -> B,
    ) {
        // Extremes more often than not.
        let mut byte = || match random.bits() {
            bits if bits & 3 == 0 => (bits >> 8) as u8,
            bits if bits & 3 == 1 => 128,
            _ => 127 + 128 * (random.bits() & 1) as u8,
        };
        let a: Vec<A> = (0..m * k).map(|_| a_of(byte())).collect();
        let b: Vec<B> = (0..k * n).map(|_| b_of(byte())).collect();
        let isa = *isa::available().last().unwrap();
        for layout in 0..8 {
            let [a_view, b_view] = [[[k, 1], [1, m]][layout & 1], [[n, 1], [1, k]][layout >> 1 & 1]]
                .map(|strides| strides.map(|s| s as isize));
            let a = MatRef::new(&a, 0, [m, k], a_view);
            let b = MatRef::new(&b, 0, [k, n], b_view);
            let c_strides = if layout < 4 { [n as isize, 1] } else { [1, m as isize] };
            // SAFETY: the elements are inside the matrices.
            let at = |i, p, j| unsafe { i32::from((*a.at(i, p)).value()) * i32::from((*b.at(p, j)).value()) };
            let sum = |i: usize, j: usize| (0..k).map(|p| at(i, p, j)).sum::<i32>();
            for unit in units() {
                let mut c = vec![7; m * n];
                let mut target = MatMut::new(&mut c, 0, [m, n], c_strides);
                run(unit, isa, a, b, target.target());
                for (i, j) in (0..m * n).map(|at| (at / n, at % n)) {
                    let place = i * c_strides[0] as usize + j * c_strides[1] as usize;
                    assert_eq!(c[place], sum(i, j), "layout {layout}, element {i} {j} of {m} {n} {k}");
                }
            }
        }
    }

    #[test]
    fn products_of_bytes_of_all_signs_and_layouts_are_exact() {
        let random = &mut Random(12);
        for shape in [[16, 16, 64], [33, 17, 65], [40, 70, 131], [20, 32, 1100], [3, 40, 64], [48, 20, 70]] {
            check(random, shape, |x| x as i8, |x| x as i8);
            check(random, shape, |x| x as i8, |x| x);
            check(random, shape, |x| x, |x| x as i8);
            check(random, shape, |x| x, |x| x);
        }
    }

    #[test]
    fn sums_wrap_at_32_bits() {
        let (m, k) = (16, 40_000);
        let ones = vec![255u8; m * k];
        let a = MatRef::row_major(&ones, m, k);
        for unit in units() {
            let mut c = vec![0; m * m];
            run(unit, isa::isa(), a, a.t(), MatMut::row_major(&mut c, m, m).target());
            assert!(c.iter().all(|&c| c == (255i64 * 255 * k as i64) as i32));
        }
    }

    #[test]
    fn strips_and_threads_change_nothing() {
        let [m, n, k] = [70, 300, 200];
        let random = &mut Random(13);
        let a: Vec<i8> = (0..m * k).map(|_| random.bits() as i8).collect();
        let b: Vec<i8> = (0..n * k).map(|_| random.bits() as i8).collect();
        let of = |threads| {
            let mut c = vec![0; m * n];
            let (a, b) = (MatRef::row_major(&a, m, k), MatRef::row_major(&b, k, n));
            let target = MatMut::row_major(&mut c, m, n).target();
            with_num_threads(threads, || run(&model::UNIT, isa::isa(), a, b, target));
            c
        };
        let one = of(1);
        assert!([2, 3, 7].into_iter().all(|threads| of(threads) == one));
        let exact = |i: usize, j: usize| {
            (0..k).map(|p| i32::from(a[i * k + p]) * i32::from(b[p * n + j])).sum::<i32>()
        };
        assert!((0..m * n).all(|at| one[at] == exact(at / n, at % n)));
    }
}
