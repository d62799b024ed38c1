//! Numbers that tiles multiply as they are, packed word by word: bytes four to a word, `bf16` two.
//!
//! The panels are those of [`split`](super::split) with one part: a word holds neighbouring steps of one line, the first in its
//! lowest bits, so that a block of 32 lines is as many steps deep as 16 words hold.

use super::split::transpose;
use super::{BLOCK, Row};
use crate::cpu::gemm::matrix::MatRef;
use crate::cpu::gemm::packed::Side;
use crate::cpu::isa::Isa;
use crate::cpu::wide::dispatch;
use bytemuck::Pod;
use std::ops::Range as Span;

/// The bits of a number smaller than a word.
pub(super) trait Piece: Pod + Into<u32> {}

impl Piece for u8 {}
impl Piece for u16 {}

/// Words of a row.
const WORDS: usize = 16;

/// Numbers of a word.
const fn per_word<T>() -> usize {
    size_of::<u32>() / size_of::<T>()
}

/// Steps of a block.
pub(super) const fn depth<T>() -> usize {
    WORDS * per_word::<T>()
}

/// A matrix whose numbers are taken for their bits.
pub(super) fn bits<T: Pod, U: Piece>(matrix: MatRef<T>) -> MatRef<U> {
    const { assert!(size_of::<T>() == size_of::<U>() && align_of::<T>() == align_of::<U>()) };
    let strides = [matrix.row_stride(), matrix.col_stride()];
    MatRef::from_parts(matrix.at(0, 0).cast(), [matrix.rows(), matrix.cols()], strides)
}

/// Packs up to 32 rows of `lines` for some blocks of steps; what is not there is zero.
pub(super) fn panel<T: Piece>(
    isa: Isa,
    side: Side,
    lines: &MatRef<T>,
    own: Span<usize>,
    blocks: &Span<usize>,
    rows: &mut [Row],
) {
    assert!(own.end <= lines.rows() && own.len() <= BLOCK, "a panel lies inside its operand");
    assert!(blocks.is_empty() || (blocks.end - 1) * depth::<T>() < lines.cols(), "and so do its blocks");
    let packed_for = if lines.row_stride() == 1 && lines.col_stride() != 1 {
        by_steps(isa, lines, own, blocks, rows);
        Side::B
    } else {
        by_lines(lines, own, blocks, rows);
        Side::A
    };
    if packed_for != side {
        transpose(isa, rows);
    }
}

/// Line after line, for the side of A.
fn by_lines<T: Piece>(lines: &MatRef<T>, own: Span<usize>, blocks: &Span<usize>, rows: &mut [Row]) {
    for i in 0..BLOCK {
        for (block, rows) in blocks.clone().zip(rows.chunks_exact_mut(BLOCK)) {
            let (row, start) = (bytemuck::cast_slice_mut::<u32, T>(&mut rows[i].0), block * depth::<T>());
            let len = if i < own.len() { row.len().min(lines.cols() - start) } else { 0 };
            let (filled, rest) = row.split_at_mut(len);
            rest.fill(T::zeroed());
            if lines.col_stride() == 1 && len > 0 {
                // SAFETY: these steps of the line are inside the matrix (asserted by `panel`) and lie side by side.
                filled.copy_from_slice(unsafe {
                    std::slice::from_raw_parts(lines.at(own.start + i, start), len)
                });
            } else {
                for (p, value) in filled.iter_mut().enumerate() {
                    // SAFETY: the step of the line is inside the matrix (asserted by `panel`).
                    *value = unsafe { *lines.at(own.start + i, start + p) };
                }
            }
        }
    }
}

dispatch! {
    /// Step after step, for the side of B; the lines lie side by side.
    fn by_steps<T: Piece>(lines: &MatRef<T>, own: Span<usize>, blocks: &Span<usize>, rows: &mut [Row]) {
        let per_word = per_word::<T>();
        for (block, rows) in blocks.clone().zip(rows.chunks_exact_mut(BLOCK)) {
            for r in 0..WORDS {
                let mut steps = [[T::zeroed(); BLOCK]; 4];
                for (s, values) in steps[..per_word].iter_mut().enumerate() {
                    let step = block * depth::<T>() + r * per_word + s;
                    if step < lines.cols() && !own.is_empty() {
                        // SAFETY: the lines have the step (asserted by `panel`), and lie side by side.
                        let from = unsafe { std::slice::from_raw_parts(lines.at(own.start, step), own.len()) };
                        values[..own.len()].copy_from_slice(from);
                    }
                }
                for half in 0..2 {
                    for j in 0..WORDS {
                        let mut word = 0;
                        for (s, values) in steps[..per_word].iter().enumerate() {
                            let bits: u32 = values[half * WORDS + j].into();
                            word |= bits << (32 / per_word * s);
                        }
                        rows[half * WORDS + r].0[j] = word;
                    }
                }
            }
        }
    }
}
