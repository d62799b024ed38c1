//! The five loops of Goto's algorithm, over packed blocks of both operands.
//!
//! ```text
//! LOOP 5  over the lines of the shared operand, as many as are packed at a time        one thread
//!   pack them, all of k
//!   LOOP 4  over strips of the other operand                                           all threads
//!     LOOP 3  over blocks of k: pack the strip's block
//!       (and over blocks of rows of A that fit the second-level cache)
//!       LOOP 2  over panels of B: one stays in the first-level cache
//!         LOOP 1  over panels of A: one micro-kernel each
//!     the epilogue, while the strip of C is in cache
//! ```
//!
//! An element of C is summed in the order of k, in blocks that depend on the depth of the product and on the kernels
//! only: neither the strips nor the threads change a bit.

use super::amx;
use super::epilogue::{Beta, Epilogue};
use super::kernel::Kernels;
use super::matrix::Target;
use super::packed::{self, Panels, Side};
use super::part;
use super::plan::{self, Split};
use super::scalar::GemmElement;
use super::scratch::Scratch;
use super::source::{Block, Operand};
use super::tile::Tile;
use crate::cpu::threads;
use std::ops::Range;

/// A product `C = epilogue(beta·C + A·B)` whose parts were found to fit together.
pub(super) struct Problem<'a, T: GemmElement> {
    /// Rows of C.
    pub m: usize,
    /// Columns of C.
    pub n: usize,
    /// The left operand: m lines.
    pub a: Operand<'a, T::Acc>,
    /// The right operand: n lines.
    pub b: Operand<'a, T::Acc>,
    /// The m x n result; its elements belong to the problem.
    pub c: Target<T>,
    /// Whether C is added to.
    pub beta: Beta,
    /// What happens before the store.
    pub epilogue: Epilogue<'a, T>,
}

/// Runs a problem with some kernels; operands packed before must have been packed for them.
pub(super) fn run<T: GemmElement>(kernels: &'static Kernels<T::Acc>, problem: Problem<T>) {
    let problem = problem.oriented();
    if let Some(plan) = amx::plan(kernels, &problem) {
        return amx::run(plan, kernels.isa, &problem);
    }
    let (m, n, steps) = (problem.m, problem.n, problem.a.steps());
    assert_eq!(problem.b.steps(), steps, "the operands of a product have sums of one length");
    if m == 0 || n == 0 || part::run(&problem) {
        return;
    }
    let split = plan::split(m, n);
    let (streamed, streamed_width, shared, shared_lines, shared_side) = match split {
        Split::Rows => (m, kernels.mr, problem.b, n, Side::B),
        Split::Cols => (n, kernels.nr, problem.a, m, Side::A),
    };
    let shared_width = shared_side.width(kernels);
    let blocks = plan::k_blocks(steps, kernels.kc);
    let held = plan::held(steps, shared_width);
    for first in (0..shared_lines).step_by(held) {
        let lines = first..shared_lines.min(first + held); // LOOP 5
        let mut scratch;
        let shared = match shared {
            Operand::Packed(packed) => packed.panels(),
            Operand::Source(source) => {
                scratch = packed::scratch_for(shared_width, lines.len(), steps);
                packed::pack_all(kernels, shared_side, source, lines.clone(), scratch.as_mut_slice());
                Panels::new(scratch.as_slice(), shared_width, lines.clone())
            }
        };
        let strip = plan::strip(split, streamed, lines.len(), steps, blocks.depth(), streamed_width);
        threads::parallel_for(streamed.div_ceil(strip), |at| {
            let own = at * strip..streamed.min((at + 1) * strip); // LOOP 4
            match split {
                Split::Rows => problem.strip(kernels, own, lines.clone(), split, shared),
                Split::Cols => problem.strip(kernels, lines.clone(), own, split, shared),
            }
        });
    }
}

impl<T: GemmElement> Problem<'_, T> {
    /// The problem, or its transpose `Cᵀ = Bᵀ·Aᵀ` if that has a C with contiguous rows and this has not.
    fn oriented(self) -> Self {
        let sources = matches!((&self.a, &self.b), (Operand::Source(_), Operand::Source(_)));
        if sources && self.c.row == 1 && self.c.col != 1 {
            let (a, b, c, epilogue) = (self.b, self.a, self.c.t(), self.epilogue.t());
            Self { m: self.n, n: self.m, a, b, c, epilogue, ..self }
        } else {
            self
        }
    }

    /// All of k for one strip of C, `rows` x `cols`.
    fn strip(
        &self,
        kernels: &Kernels<T::Acc>,
        rows: Range<usize>,
        cols: Range<usize>,
        split: Split,
        shared: Panels<T::Acc>,
    ) {
        let (own, own_side, own_lines) = match split {
            Split::Rows => (&self.a, Side::A, &rows),
            Split::Cols => (&self.b, Side::B, &cols),
        };
        let blocks = plan::k_blocks(own.steps(), kernels.kc);
        let width = own_side.width(kernels);
        let mut own_scratch = match own {
            Operand::Source(_) => Scratch::new(own_lines.len().next_multiple_of(width) * blocks.depth()),
            Operand::Packed(_) => Scratch::new(0),
        };
        // Sums go to C itself if the kernels can write it; else to a strip of their own until they are complete.
        let in_place = T::NATIVE && self.c.col == 1;
        let mut sums_scratch = Scratch::<T::Acc>::new(if in_place { 0 } else { rows.len() * cols.len() });
        let (sums, sums_row) = if in_place {
            (self.c.at(rows.start, cols.start).cast::<T::Acc>(), self.c.row)
        } else {
            (sums_scratch.as_mut_slice().as_mut_ptr(), cols.len() as isize)
        };
        if !in_place && self.beta == Beta::One {
            self.read(&rows, &cols, sums);
        }
        for at in 0..blocks.count() {
            let k = blocks.get(at); // LOOP 3
            let own_panels = match own {
                Operand::Packed(packed) => packed.panels().block(&k, own_lines),
                Operand::Source(source) => {
                    let block = Block { k: k.clone(), lines: own_lines.clone(), width, isa: kernels.isa };
                    let panels = &mut own_scratch.as_mut_slice()[..block.volume()];
                    source.pack(&block, panels);
                    &*panels
                }
            };
            let height = plan::row_block(k.len(), kernels.mr);
            for first in rows.clone().step_by(height) {
                let block = first..rows.end.min(first + height);
                let (a, b) = match split {
                    Split::Rows => {
                        let from = (first - rows.start) * k.len();
                        (&own_panels[from..], shared.block(&k, &cols))
                    }
                    Split::Cols => (shared.block(&k, &block), own_panels),
                };
                let add = self.beta == Beta::One || at > 0;
                // SAFETY: `sums` leads to the strip, whose elements no other task touches; the block's rows start
                // `first - rows.start` below its first.
                unsafe {
                    let c = sums.wrapping_offset((first - rows.start) as isize * sums_row);
                    block_product(kernels, k.len(), block.len(), cols.len(), a, b, c, sums_row, add);
                }
            }
        }
        if !in_place || !self.epilogue.is_identity() {
            // SAFETY: as above; the sums are C itself or as many elements in scratch.
            unsafe { self.epilogue.store(kernels.isa, sums, sums_row, self.c, rows, cols) }
        }
    }

    /// Widens a strip of C into scratch.
    fn read(&self, rows: &Range<usize>, cols: &Range<usize>, sums: *mut T::Acc) {
        for (r, i) in rows.clone().enumerate() {
            for (s, j) in cols.clone().enumerate() {
                // SAFETY: the scratch has a place for each element of the strip, and the strip is the task's own.
                unsafe { *sums.add(r * cols.len() + s) = (*self.c.at(i, j)).widen() }
            }
        }
    }
}

/// `C = (add ? C : 0) + A·B` for an m x n block from packed panels.
///
/// # Safety
/// `c` leads to m rows of n contiguous elements, `c_row` apart, that belong to the caller. The instructions of the kernels
/// exist.
#[allow(clippy::too_many_arguments)]
unsafe fn block_product<S: Copy>(
    kernels: &Kernels<S>,
    k: usize,
    m: usize,
    n: usize,
    a: &[S],
    b: &[S],
    c: *mut S,
    c_row: isize,
    add: bool,
) {
    let (mr, nr, lanes) = (kernels.mr, kernels.nr, kernels.lanes);
    assert!(a.len() >= m.div_ceil(mr) * mr * k, "the panels of A cover the block");
    assert!(b.len() >= n.div_ceil(nr) * nr * k, "the panels of B cover the block");
    for j in (0..n).step_by(nr) {
        let width = nr.min(n - j); // LOOP 2
        let vectors = width.div_ceil(lanes);
        for i in (0..m).step_by(mr) {
            let height = mr.min(m - i); // LOOP 1
            let tile = Tile {
                k,
                a: a[i * k..].as_ptr(),
                a_row: 1,
                a_step: mr as isize,
                b: b[j * k..].as_ptr(),
                b_step: nr as isize,
                c: c.wrapping_offset(i as isize * c_row + j as isize),
                c_row,
                next: b[j * k..].as_ptr(),
                last: width - (vectors - 1) * lanes,
                add,
            };
            // SAFETY: the panels hold `k` steps (asserted above), the tile of C is inside the caller's block.
            unsafe { kernels.packed[height - 1][vectors - 1](&tile) }
        }
    }
}
