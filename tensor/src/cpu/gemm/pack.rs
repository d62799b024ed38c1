//! Packing a strided matrix: a copy where the lines lie side by side, a transpose where each line is contiguous.

use super::matrix::MatRef;
use super::scalar::GemmElement;
use super::source::{Block, PackSource};

/// The rows of a matrix as lines: what A is.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T>(pub MatRef<'a, T>);

/// The columns of a matrix as lines: what B is.
#[derive(Clone, Copy, Debug)]
pub struct Cols<'a, T>(pub MatRef<'a, T>);

impl<T: GemmElement> PackSource<T::Acc> for Rows<'_, T> {
    fn lines(&self) -> usize {
        self.0.rows()
    }

    fn steps(&self) -> usize {
        self.0.cols()
    }

    fn pack(&self, block: &Block, panels: &mut [T::Acc]) {
        pack(&self.0, block, panels);
    }
}

impl<T: GemmElement> PackSource<T::Acc> for Cols<'_, T> {
    fn lines(&self) -> usize {
        self.0.cols()
    }

    fn steps(&self) -> usize {
        self.0.rows()
    }

    fn pack(&self, block: &Block, panels: &mut [T::Acc]) {
        pack(&self.0.t(), block, panels);
    }
}

/// Packs the rows of `lines`.
fn pack<T: GemmElement>(lines: &MatRef<T>, block: &Block, panels: &mut [T::Acc]) {
    assert!(
        block.lines.end <= lines.rows() && block.k.end <= lines.cols(),
        "a block lies outside its operand"
    );
    assert_eq!(panels.len(), block.volume(), "the panels of a block have exactly its volume");
    if panels.is_empty() {
        return;
    }
    let depth = block.k.len();
    if lines.row_stride() == 1 {
        return pack_side_by_side(lines, block, panels);
    }
    for (at, panel) in panels.chunks_exact_mut(block.width * depth).enumerate() {
        let first = block.lines.start + at * block.width;
        let filled = block.width.min(block.lines.end - first);
        match (filled == block.width, block.width) {
            (true, 4) => transpose::<T, 4>(lines, first, block.k.start, panel),
            (true, 6) => transpose::<T, 6>(lines, first, block.k.start, panel),
            (true, 8) => transpose::<T, 8>(lines, first, block.k.start, panel),
            (true, 16) => transpose::<T, 16>(lines, first, block.k.start, panel),
            (true, 24) => transpose::<T, 24>(lines, first, block.k.start, panel),
            (true, 48) => transpose::<T, 48>(lines, first, block.k.start, panel),
            _ => pack_any(lines, first, filled, block.k.start, block.width, panel),
        }
    }
}

/// Steps are contiguous across lines: each panel row is a short copy. Goes along the rows of the matrix, so that memory is
/// read in order, a few rows at a time, so that the panels stay near.
fn pack_side_by_side<T: GemmElement>(lines: &MatRef<T>, block: &Block, panels: &mut [T::Acc]) {
    const ROWS: usize = 8;
    let (depth, width) = (block.k.len(), block.width);
    for some in (0..depth).step_by(ROWS) {
        for (at, panel) in panels.chunks_exact_mut(width * depth).enumerate() {
            let first = block.lines.start + at * width;
            let filled = width.min(block.lines.end - first);
            for p in some..depth.min(some + ROWS) {
                // SAFETY: the lines `first..first + filled` and the step are inside the matrix (asserted by `pack`), and
                // lie side by side.
                let values =
                    unsafe { std::slice::from_raw_parts(lines.at(first, block.k.start + p), filled) };
                let row = &mut panel[p * width..(p + 1) * width];
                if filled == width {
                    widen_fixed::<T>(values, row);
                } else {
                    T::widen_slice(values, &mut row[..filled]);
                    row[filled..].fill(bytemuck::Zeroable::zeroed());
                }
            }
        }
    }
}

/// `widen_slice` with the usual widths as constants, so that each becomes a few vector moves.
#[inline(always)]
fn widen_fixed<T: GemmElement>(values: &[T], wide: &mut [T::Acc]) {
    #[inline(always)]
    fn fixed<T: GemmElement, const W: usize>(values: &[T], wide: &mut [T::Acc]) {
        for i in 0..W {
            wide[i] = values[i].widen();
        }
    }
    match wide.len() {
        8 => fixed::<T, 8>(&values[..8], &mut wide[..8]),
        16 => fixed::<T, 16>(&values[..16], &mut wide[..16]),
        48 => fixed::<T, 48>(&values[..48], &mut wide[..48]),
        _ => T::widen_slice(values, wide),
    }
}

/// A full panel of `W` lines.
fn transpose<T: GemmElement, const W: usize>(
    lines: &MatRef<T>,
    first: usize,
    k: usize,
    panel: &mut [T::Acc],
) {
    let starts: [*const T; W] = std::array::from_fn(|i| lines.at(first + i, k));
    let step = lines.col_stride();
    for (p, row) in panel.chunks_exact_mut(W).enumerate() {
        for (value, start) in row.iter_mut().zip(starts) {
            // SAFETY: the line and the step are inside the matrix (asserted by `pack`).
            *value = unsafe { *start.wrapping_offset(p as isize * step) }.widen();
        }
    }
}

/// Any panel: `filled` lines, then padding.
fn pack_any<T: GemmElement>(
    lines: &MatRef<T>,
    first: usize,
    filled: usize,
    k: usize,
    width: usize,
    panel: &mut [T::Acc],
) {
    for (p, row) in panel.chunks_exact_mut(width).enumerate() {
        for (i, value) in row[..filled].iter_mut().enumerate() {
            // SAFETY: the line and the step are inside the matrix (asserted by `pack`).
            *value = unsafe { *lines.at(first + i, k + p) }.widen();
        }
        row[filled..].fill(bytemuck::Zeroable::zeroed());
    }
}
