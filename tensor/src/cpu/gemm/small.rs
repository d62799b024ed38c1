//! Products too small to pack: the micro-kernels read both operands where they are.

use super::epilogue::{Beta, Epilogue};
use super::kernel::Kernels;
use super::matrix::{MatRef, Target};
use super::scalar::GemmElement;
use super::tile::Tile;

/// The most products `m·n·k` for which packing does not pay.
const SMALL: usize = 40 * 40 * 40;

/// Whether [`run`] can do this product, and should.
pub(super) fn suits<T: GemmElement>(a: &MatRef<T>, b: &MatRef<T>, c: &Target<T>) -> bool {
    T::NATIVE
        && c.col == 1
        && (b.col_stride() == 1 || b.cols() == 1)
        && a.rows().saturating_mul(b.cols()).saturating_mul(a.cols()) <= SMALL
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
    assert!(suits(a, b, &c), "a small product has contiguous rows in B and C");
    let (m, n) = (a.rows(), b.cols());
    for j in (0..n).step_by(kernels.nr) {
        let width = kernels.nr.min(n - j);
        let vectors = width.div_ceil(kernels.lanes);
        for i in (0..m).step_by(kernels.mr) {
            let height = kernels.mr.min(m - i);
            let tile = Tile {
                k: a.cols(),
                a: a.at(i, 0).cast(),
                a_row: a.row_stride(),
                a_step: a.col_stride(),
                b: b.at(0, j).cast(),
                b_step: b.row_stride(),
                c: c.at(i, j).cast(),
                c_row: c.row,
                last: width - (vectors - 1) * kernels.lanes,
                add: beta == Beta::One,
            };
            // SAFETY: `T` is the kernels' type (`suits`). The tile lies inside the three matrices, and B and C have
            // contiguous rows; C belongs to the caller.
            unsafe { kernels.direct[height - 1][vectors - 1](&tile) }
        }
    }
    if !epilogue.is_identity() {
        // SAFETY: C is the caller's, and the sums are in it.
        unsafe { epilogue.store(c.start.cast(), c.row, c, 0..m, 0..n) }
    }
}
