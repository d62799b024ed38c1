//! Products too small to pack: the micro-kernels read A where it is, and B too if its rows are contiguous.

use super::epilogue::{Beta, Epilogue};
use super::kernel::Kernels;
use super::matrix::{MatRef, Target};
use super::pack::Cols;
use super::plan;
use super::scalar::GemmElement;
use super::scratch::Scratch;
use super::source::{Block, PackSource};
use super::tile::Tile;

/// The most products `m·n·k` for which packing does not pay.
const SMALL: usize = 96 * 96 * 96;

/// Whether [`run`] can do this product, and should.
pub(super) fn suits<T: GemmElement>(a: &MatRef<T>, b: &MatRef<T>, c: &Target<T>) -> bool {
    T::NATIVE && c.col == 1 && is_small(a.rows(), b.cols(), a.cols())
}

/// Whether packing does not pay for an m x n result with sums of k products.
pub(super) fn is_small(m: usize, n: usize, k: usize) -> bool {
    m.saturating_mul(n).saturating_mul(k) <= SMALL
}

/// `C = epilogue(beta·C + A·B)` on the calling thread, where [`suits`] says so.
pub(super) fn run<T: GemmElement>(
    kernels: &Kernels<T::Acc>,
    a: &MatRef<T>,
    b: &MatRef<T>,
    c: Target<T>,
    beta: Beta,
    epilogue: &Epilogue<T>,
) {
    assert!(suits(a, b, &c), "a small product has contiguous rows in C");
    let (m, n, k) = (a.rows(), b.cols(), a.cols());
    let in_place = b.col_stride() == 1 || n == 1;
    let mut scratch;
    let panels = if in_place {
        &[][..]
    } else {
        scratch = Scratch::<T::Acc>::new(n.next_multiple_of(kernels.nr) * k);
        let block = Block { k: 0..k, lines: 0..n, width: kernels.nr, isa: kernels.isa };
        Cols(*b).pack(&block, scratch.as_mut_slice());
        scratch.as_slice()
    };
    for j in (0..n).step_by(kernels.nr) {
        let width = kernels.nr.min(n - j);
        let vectors = width.div_ceil(kernels.lanes);
        let (b, b_step) = if in_place {
            (b.at(0, j).cast::<T::Acc>(), b.row_stride())
        } else {
            (panels[j * k..].as_ptr(), kernels.nr as isize)
        };
        for rows in plan::tiles(m, kernels.mr) {
            let tile = Tile {
                k,
                a: a.at(rows.start, 0).cast(),
                a_row: a.row_stride(),
                a_step: a.col_stride(),
                b,
                b_step,
                c: c.at(rows.start, j).cast(),
                c_row: c.row,
                next: b,
                last: width - (vectors - 1) * kernels.lanes,
                add: beta == Beta::One,
            };
            // SAFETY: `T` is the kernels' type (`suits`). The tile lies inside the three matrices, or in panels of `k`
            // steps; B and C have contiguous rows; C belongs to the caller.
            unsafe { kernels.direct[rows.len() - 1][vectors - 1](&tile) }
        }
    }
    if !epilogue.is_identity() {
        // SAFETY: C is the caller's, and the sums are in it.
        unsafe { epilogue.store(kernels.isa, c.start.cast(), c.row, c, 0..m, 0..n) }
    }
}
