//! The five loops over squares of 32 x 32 of C, as in [`driver`](crate::cpu::gemm::driver): one operand is packed whole and shared, the
//! other cut into strips, one task each.
//!
//! An element of C is summed block of k after block of k, each of which a kernel adds to what is there. Neither the strips nor the threads change
//! a bit, nor does the place of a square: where it is not all in C, the kernel works on a copy.

use super::packed::View;
use super::panels::{Packer, k_blocks};
use super::range::{Head, Way, scale};
use super::square::{Square, Sums};
use super::{BLOCK, Plan, Row, Session, TileJob, strict};
use crate::cpu::gemm::driver::Problem;
use crate::cpu::gemm::epilogue::Beta;
use crate::cpu::gemm::packed::Side;
use crate::cpu::gemm::plan::{self, Split};
use crate::cpu::gemm::scalar::GemmElement;
use crate::cpu::gemm::scratch::Scratch;
use crate::cpu::gemm::source::Operand;
use crate::cpu::isa::Isa;
use crate::cpu::threads;
use std::ops::Range;

/// The most panels of A that are multiplied with a panel of B before the next: their parts stay in the second-level cache.
pub(super) const PANELS: usize = 8;

/// Runs a problem as planned.
pub(in crate::cpu::gemm) fn run<T: GemmElement>(plan: Plan, isa: Isa, problem: &Problem<T>) {
    let (m, n, steps) = (problem.m, problem.n, problem.a.steps());
    assert_eq!(problem.b.steps(), steps, "the operands of a product have sums of one length");
    let packer = |side| Packer { products: plan.products, side, isa };
    let split = plan::split(m, n);
    let (streamed, shared, shared_lines, shared_side) = match split {
        Split::Rows => (m, problem.b, n, Side::B),
        Split::Cols => (n, problem.a, m, Side::A),
    };
    let blocks = k_blocks(steps);
    let held = plan::held(steps, BLOCK);
    for first in (0..shared_lines).step_by(held) {
        let lines = first..shared_lines.min(first + held);
        let (mut rows, mut heads);
        let shared = match shared {
            Operand::Packed(packed) => packed.tiled().expect("a plan is made for operands packed so").view(),
            Operand::Source(source) => {
                let packer = packer(shared_side);
                let panels = lines.len().div_ceil(BLOCK);
                rows = Scratch::<Row>::new(panels * steps.div_ceil(BLOCK) * packer.rows());
                heads = vec![Head::PLAIN; panels * blocks.count()];
                packer.all(source, lines.clone(), rows.as_mut_slice(), &mut heads);
                View::new(packer, rows.as_slice(), &heads, lines.clone())
            }
        };
        let strip = plan::strip(split, streamed, lines.len(), steps, blocks.depth() * BLOCK, BLOCK);
        threads::parallel_for(streamed.div_ceil(strip), |at| {
            let own = at * strip..streamed.min((at + 1) * strip);
            let (rows, cols) = match split {
                Split::Rows => (own, lines.clone()),
                Split::Cols => (lines.clone(), own),
            };
            Strip { plan: &plan, isa, problem, split, shared, rows, cols }.run();
        });
    }
}

/// All of k for one strip of C.
struct Strip<'a, T: GemmElement> {
    plan: &'a Plan,
    isa: Isa,
    problem: &'a Problem<'a, T>,
    split: Split,
    shared: View<'a>,
    rows: Range<usize>,
    cols: Range<usize>,
}

impl<T: GemmElement> Strip<'_, T> {
    fn run(&self) {
        let problem = self.problem;
        let (own, side, lines) = match self.split {
            Split::Rows => (&problem.a, Side::A, &self.rows),
            Split::Cols => (&problem.b, Side::B, &self.cols),
        };
        let packer = Packer { products: self.plan.products, side, isa: self.isa };
        let blocks = k_blocks(own.steps());
        let panels = lines.len().div_ceil(BLOCK);
        let packs = matches!(own, Operand::Source(_));
        let mut own_rows =
            Scratch::<Row>::new(if packs { panels * blocks.depth() * packer.rows() } else { 0 });
        let mut own_heads = vec![Head::PLAIN; panels];
        // Sums go to C itself if the kernels can write it; else to whole squares in scratch until they are complete.
        let in_place = T::NATIVE && problem.c.col == 1;
        let (height, width) = (self.rows.len(), self.cols.len());
        let padded = [height, width].map(|len| len.next_multiple_of(BLOCK));
        let reads = !in_place && problem.beta == Beta::One;
        // Squares that are complete at once need one place among them.
        let one = !in_place && !reads && blocks.count() == 1;
        let (row, step) = if one { (BLOCK, 0) } else { (padded[1] + 16, BLOCK) };
        let size = if one { BLOCK * BLOCK } else { padded[0] * row };
        let mut scratch = Scratch::<f32>::new(if in_place { 0 } else { size });
        let sums = if in_place {
            let start = problem.c.at(self.rows.start, self.cols.start).cast();
            Sums { start, row: problem.c.row, height, width, step }
        } else {
            let start = scratch.as_mut_slice().as_mut_ptr();
            Sums { start, row: row as isize, height: padded[0], width: padded[1], step }
        };
        if reads {
            self.read(&sums);
        }
        let session = Session::new(self.plan.unit);
        for at in 0..blocks.count() {
            let k = blocks.get(at);
            let own = match own {
                Operand::Packed(packed) => {
                    let packed = packed.tiled().expect("a plan is made for operands packed so");
                    packed.view().block(at, &k, lines.start)
                }
                Operand::Source(source) => {
                    let rows = &mut own_rows.as_mut_slice()[..panels * k.len() * packer.rows()];
                    let each = rows.chunks_exact_mut(k.len() * packer.rows());
                    for (panel, (rows, head)) in each.zip(&mut own_heads).enumerate() {
                        let first = lines.start + panel * BLOCK;
                        *head = packer.panel(*source, first..lines.end.min(first + BLOCK), &k, rows);
                    }
                    (&*rows, &own_heads[..])
                }
            };
            let other = match self.split {
                Split::Rows => self.shared.block(at, &k, self.cols.start),
                Split::Cols => self.shared.block(at, &k, self.rows.start),
            };
            let (a, b) = match self.split {
                Split::Rows => (own, other),
                Split::Cols => (other, own),
            };
            let add = problem.beta == Beta::One || at > 0;
            let finish = at + 1 == blocks.count() && (!in_place || !problem.epilogue.is_identity());
            // SAFETY: the sums are C's elements of this strip, which no other task touches, or scratch.
            unsafe { self.block(&session, &sums, k.len(), a, b, add, finish) }
        }
    }

    /// Stores a square whose sums are complete.
    ///
    /// # Safety
    /// The sums and the square of C belong to the caller.
    unsafe fn finish(&self, sums: &Sums<f32>, i: usize, j: usize) {
        let part = |of: &Range<usize>, at: usize| {
            let start = of.start + at * BLOCK;
            start..of.end.min(start + BLOCK)
        };
        let (rows, cols) = (part(&self.rows, i), part(&self.cols, j));
        let (from, problem) = (sums.at(i, j).cast::<T::Acc>(), self.problem);
        // SAFETY: the caller's word; `T::Acc` is `f32`, the only type that tiles sum in.
        unsafe { problem.epilogue.store(self.isa, from, sums.row, problem.c, rows, cols) }
    }

    /// Widens the strip of C into scratch.
    fn read(&self, sums: &Sums<f32>) {
        for (r, i) in self.rows.clone().enumerate() {
            for (s, j) in self.cols.clone().enumerate() {
                // SAFETY: the scratch has a place for each element of the strip, and the strip is the task's own.
                unsafe {
                    let value = (*self.problem.c.at(i, j)).widen();
                    sums.start.offset(r as isize * sums.row).add(s).cast::<T::Acc>().write(value);
                }
            }
        }
    }

    /// One block of k, `blocks` blocks of steps: square after square, each finished while it is near if it is complete.
    ///
    /// # Safety
    /// The sums belong to the caller.
    unsafe fn block(
        &self,
        session: &Session,
        sums: &Sums<f32>,
        blocks: usize,
        a: (&[Row], &[Head]),
        b: (&[Row], &[Head]),
        add: bool,
        finish: bool,
    ) {
        let panel = blocks * self.plan.products.parts() * BLOCK;
        let rows = self.rows.len().div_ceil(BLOCK);
        let mut square = Square::zero();
        for first in (0..rows).step_by(PANELS) {
            let some = first..rows.min(first + PANELS);
            for j in 0..self.cols.len().div_ceil(BLOCK) {
                let (b_rows, b_head) = (&b.0[j * panel..(j + 1) * panel], b.1[j]);
                for i in some.clone() {
                    let (a_rows, a_head) = (&a.0[i * panel..(i + 1) * panel], a.1[i]);
                    let ahead = b_rows.as_ptr().wrapping_add(panel + (i - first) * (panel / PANELS));
                    let job = |c: *mut f32, c_row: isize, add: bool| TileJob {
                        a: a_rows.as_ptr(),
                        b: b_rows.as_ptr(),
                        blocks,
                        c,
                        c_row,
                        add,
                        ahead,
                    };
                    let way = a_head.way(b_head);
                    let short = self.rows.len() - i * BLOCK <= BLOCK / 2;
                    let products = self.plan.products;
                    // SAFETY: the panels hold `blocks` blocks (sliced so above). C is the square in the sums, if it is whole,
                    // or the copy.
                    unsafe {
                        match way {
                            Way::Tiles if sums.is_direct(i, j, short) => {
                                session.run(products, short, &job(sums.at(i, j), sums.row, add));
                            }
                            Way::Tiles => {
                                if add {
                                    sums.load(i, j, &mut square);
                                }
                                let c = square.0.as_mut_ptr().cast();
                                session.run(products, short, &job(c, BLOCK as isize, add));
                                sums.store(i, j, &square, |_, new| new);
                            }
                            Way::ScaledTiles(by) => {
                                let c = square.0.as_mut_ptr().cast();
                                session.run(products, short, &job(c, BLOCK as isize, false));
                                let sum = |old, new| if add { old + scale(new, by) } else { scale(new, by) };
                                sums.store(i, j, &square, sum);
                            }
                            Way::Strict => {
                                self.strict((a_rows, a_head), (b_rows, b_head), blocks, &mut square);
                                sums.store(i, j, &square, |old, new| if add { old + new } else { new });
                            }
                        }
                        if finish {
                            self.finish(sums, i, j);
                        }
                    }
                }
            }
        }
    }

    /// The product of two panels by multiply-adds.
    fn strict(&self, a: (&[Row], Head), b: (&[Row], Head), blocks: usize, square: &mut Square<f32>) {
        let values = blocks * BLOCK * BLOCK;
        let mut scratch = Scratch::<f32>::new(2 * values);
        let (left, right) = scratch.as_mut_slice().split_at_mut(values);
        let packer = |side| Packer { products: self.plan.products, side, isa: self.isa };
        packer(Side::A).unpack(a.1, a.0, left);
        packer(Side::B).unpack(b.1, b.0, right);
        strict::product(self.isa, left, right, &mut square.0);
    }
}
