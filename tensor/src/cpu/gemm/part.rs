//! Rows that are read where they are, times columns of a packed operand.
//!
//! Few rows are not worth packing: each of their values is used once for a panel of columns, which is the same number of loads
//! either way, and tiles need not be cut where panels of rows end.

use super::driver::Problem;
use super::epilogue::Beta;
use super::kernel::Kernels;
use super::matrix::{MatMut, MatRef, Target};
use super::packed::{Packed, Side};
use super::plan::{self, Split};
use super::scalar::{GemmElement, Scalar};
use super::source::Operand;
use super::tile::Tile;
use crate::cpu::threads;
use std::ops::Range;

/// The most rows that are not packed.
const ROWS: usize = 96;

/// Does a problem with few rows in place and a packed right operand, if it is one: strips of columns on all threads.
pub(super) fn run<T: GemmElement>(problem: &Problem<T>) -> bool {
    let (Operand::Source(a), Operand::Packed(b)) = (problem.a, problem.b) else { return false };
    let (c, m, n) = (problem.c, problem.m, problem.n);
    if m > ROWS || !T::NATIVE || c.col != 1 {
        return false;
    }
    let Some(a) = a.rows() else { return false };
    let kernels = b.kernels();
    let depth = plan::k_blocks(b.steps(), kernels.kc).depth();
    let strip = plan::strip(Split::Cols, n, m, b.steps(), depth, kernels.nr);
    threads::parallel_for(n.div_ceil(strip), |at| {
        let cols = at * strip..n.min((at + 1) * strip);
        let own = Target { start: c.at(0, cols.start).cast::<T::Acc>(), row: c.row, col: c.col };
        add_part(&a, b, cols.clone(), own, problem.beta);
        if !problem.epilogue.is_identity() {
            // SAFETY: the strip is this task's, and the sums are in it.
            unsafe { problem.epilogue.store(kernels.isa, own.start, c.row, c, 0..m, cols) }
        }
    });
    true
}

/// `C = beta·C + A · B[:, cols]` on the calling thread, with the very bits that the whole product has: for those who cut a product
/// themselves, such as the steps of recurrent layers.
///
/// # Shapes
/// - a: `[m, k]`, b: k steps of n lines, cols inside `0..n`, c: `[m, cols]` with contiguous rows
///
/// # Panics
/// If the shapes do not fit together, if B was packed for the left side, or if the rows of C are not contiguous.
pub(in crate::cpu) fn gemm_part<S: Scalar>(
    a: MatRef<S>,
    b: &Packed<S>,
    cols: Range<usize>,
    mut c: MatMut<S>,
    beta: Beta,
) {
    assert_eq!(b.side(), Side::B, "an operand is used on the side that it was packed for");
    assert_eq!(a.cols(), b.steps(), "the operands of a product have sums of one length");
    assert!(cols.start <= cols.end && cols.end <= b.lines(), "the columns are B's");
    assert_eq!(
        (c.rows(), c.cols()),
        (a.rows(), cols.len()),
        "the result has A's rows and the columns asked for"
    );
    let c = c.target();
    assert!(c.col == 1 || cols.len() <= 1, "the rows of a part are contiguous");
    add_part(&a, b, cols, c, beta);
}

/// As [`gemm_part`], with operands that were found to fit together.
fn add_part<S: Scalar>(a: &MatRef<S>, b: &Packed<S>, cols: Range<usize>, c: Target<S>, beta: Beta) {
    let (kernels, panels) = (b.kernels(), b.panels());
    let (nr, blocks) = (kernels.nr, plan::k_blocks(b.steps(), kernels.kc));
    for at in 0..blocks.count() {
        let k = blocks.get(at);
        let mut first = cols.start;
        while first < cols.end {
            let inside = first % nr;
            let width = (nr - inside).min(cols.end - first);
            let panel = panels.block(&k, &(first - inside..first - inside + 1));
            let c = Target { start: c.at(0, first - cols.start), ..c };
            let add = at > 0 || beta == Beta::One;
            // SAFETY: the rows of A have `k.end` values; the panel holds `k.len()` steps of `nr` values, of which those from
            // `inside` on are as many as C is wide here; C is the caller's.
            unsafe { panel_product(kernels, a, &k, panel[inside..].as_ptr(), c, width, add) }
            first += width;
        }
    }
}

/// All rows of A times one panel, or the end of one.
///
/// # Safety
/// `panel` leads to steps of `nr` values, `k.len()` of them, `width <= nr` of each being read; A has the steps `k`; C has a
/// place for each row of A and each of `width` columns, contiguous in a row; the instructions of the kernels exist.
unsafe fn panel_product<S: Scalar>(
    kernels: &Kernels<S>,
    a: &MatRef<S>,
    k: &Range<usize>,
    panel: *const S,
    c: Target<S>,
    width: usize,
    add: bool,
) {
    let vectors = width.div_ceil(kernels.lanes);
    // The next panel follows this one in memory. Each tile asks for two lines of it for every four steps.
    let next = panel.wrapping_add(kernels.nr * k.len());
    for (at, rows) in plan::tiles(a.rows(), kernels.mr).enumerate() {
        let tile = Tile {
            k: k.len(),
            a: a.at(rows.start, k.start),
            a_row: a.row_stride(),
            a_step: a.col_stride(),
            b: panel,
            b_step: kernels.nr as isize,
            c: c.at(rows.start, 0),
            c_row: c.row,
            next: next.wrapping_byte_add(at * (k.len() / 4) * 128),
            last: width - (vectors - 1) * kernels.lanes,
            add,
        };
        // SAFETY: the caller vouches for the panel, and the tile is inside A and C.
        unsafe { kernels.direct[rows.len() - 1][vectors - 1](&tile) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Epilogue, Rows, gemm, gemm_with};
    use super::*;
    use crate::cpu::isa;

    #[test]
    fn parts_of_a_product_and_products_with_few_rows_have_the_bits_of_the_whole() {
        // Too large for the product without panels, with sums of several blocks.
        for (m, k, n) in [(20, 601, 117), (97, 300, 64), (13, 1030, 131)] {
            let number = |at: usize| (at * 7919 % 263) as f32 / 131.0 - 1.0;
            let a: Vec<f32> = (0..m * k).map(number).collect();
            let b: Vec<f32> = (0..k * n).map(|at| number(at + 17)).collect();
            for &level in isa::available() {
                isa::with_isa(level, || {
                    let (left, right) = (MatRef::row_major(&a, m, k), MatRef::row_major(&b, k, n));
                    let mut whole = vec![f32::NAN; m * n];
                    let out = MatMut::row_major(&mut whole, m, n);
                    gemm(left, right, out, Beta::Zero, Epilogue::default());
                    let packed = Packed::b(right);
                    if packed.is_for_tiles() {
                        return;
                    }
                    for cols in [0..n, 3..4, 5..n - 1, n / 2..n, 7..7] {
                        let width = cols.len();
                        let mut part = vec![f32::NAN; m * width];
                        let out = MatMut::row_major(&mut part, m, width);
                        gemm_part(left, &packed, cols.clone(), out, Beta::Zero);
                        for (i, row) in part.chunks_exact(width.max(1)).enumerate() {
                            assert_eq!(
                                row,
                                &whole[i * n..][cols.clone()],
                                "row {i}, columns {cols:?} at {level}"
                            );
                        }
                    }
                    let mut few = vec![f32::NAN; m * n];
                    let out = MatMut::row_major(&mut few, m, n);
                    let operands = (Operand::Source(&Rows(left)), Operand::Packed(&packed));
                    gemm_with(operands.0, operands.1, out, Beta::Zero, Epilogue::default());
                    assert_eq!(few, whole, "{m} x {k} x {n} at {level}");
                });
            }
        }
    }
}
