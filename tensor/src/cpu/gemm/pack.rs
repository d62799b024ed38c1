//! Packing a strided matrix: a copy where the lines lie side by side, a transpose where each line is contiguous.

use super::matrix::MatRef;
use super::scalar::{GemmElement, Scalar};
use super::source::{Block, PackSource};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::cpu::isa::Isa;
use half::bf16;
use std::any::TypeId;

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

    fn rows(&self) -> Option<MatRef<'_, T::Acc>> {
        let matrix = &self.0;
        let (dims, strides) = ([matrix.rows(), matrix.cols()], [matrix.row_stride(), 1]);
        // `T` is `T::Acc`, so this is the same matrix.
        (T::NATIVE && matrix.col_stride() == 1)
            .then(|| MatRef::from_parts(matrix.at(0, 0).cast(), dims, strides))
    }

    fn line(&self, line: usize) -> Option<&[T::Acc]> {
        in_place(&self.0, line)
    }

    fn halves(&self) -> Option<MatRef<'_, bf16>> {
        halves(self.0)
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

    fn line(&self, line: usize) -> Option<&[T::Acc]> {
        in_place(&self.0.t(), line)
    }

    fn halves(&self) -> Option<MatRef<'_, bf16>> {
        halves(self.0.t())
    }
}

/// A row of a matrix, if it is contiguous and of the accumulator's type.
fn in_place<'a, T: GemmElement>(lines: &MatRef<'a, T>, row: usize) -> Option<&'a [T::Acc]> {
    (T::NATIVE && lines.col_stride() == 1 && row < lines.rows()).then(|| {
        // SAFETY: the row is inside the matrix, contiguous, and `T` is `T::Acc`.
        unsafe { std::slice::from_raw_parts(lines.at(row, 0).cast(), lines.cols()) }
    })
}

/// A matrix as one of `bf16`, if it is.
fn halves<T: GemmElement>(lines: MatRef<'_, T>) -> Option<MatRef<'_, bf16>> {
    (TypeId::of::<T>() == TypeId::of::<bf16>()).then(|| {
        let (dims, strides) = ([lines.rows(), lines.cols()], [lines.row_stride(), lines.col_stride()]);
        MatRef::from_parts(lines.at(0, 0).cast(), dims, strides)
    })
}

/// Packs the rows of `lines`. The widths of the kernels of the accumulator's type are constants of the loops, so that a step of a panel
/// is a few moves.
fn pack<T: GemmElement>(lines: &MatRef<T>, block: &Block, panels: &mut [T::Acc]) {
    assert!(
        block.lines.end <= lines.rows() && block.k.end <= lines.cols(),
        "a block lies outside its operand"
    );
    assert_eq!(panels.len(), block.volume(), "the panels of a block have exactly its volume");
    if panels.is_empty() {
        return;
    }
    let full = block.lines.len() / block.width;
    let (whole, rest) = panels.split_at_mut(full * block.width * block.k.len());
    if !whole.is_empty() {
        match block.width {
            4 => pack_whole::<T, 4>(lines, block, whole),
            6 if T::Acc::FLOAT => pack_whole::<T, 6>(lines, block, whole),
            8 => pack_whole::<T, 8>(lines, block, whole),
            12 if T::Acc::FLOAT => pack_whole::<T, 12>(lines, block, whole),
            16 => pack_whole::<T, 16>(lines, block, whole),
            24 if T::Acc::FLOAT => pack_whole::<T, 24>(lines, block, whole),
            32 if T::Acc::FLOAT => pack_whole::<T, 32>(lines, block, whole),
            48 if T::Acc::FLOAT => pack_whole::<T, 48>(lines, block, whole),
            width => {
                for (at, panel) in whole.chunks_exact_mut(width * block.k.len()).enumerate() {
                    pack_partly(lines, block.lines.start + at * width, width, block, panel);
                }
            }
        }
    }
    if !rest.is_empty() {
        let first = block.lines.start + full * block.width;
        pack_partly(lines, first, block.lines.end - first, block, rest);
    }
}

/// All the full panels of a block.
fn pack_whole<T: GemmElement, const W: usize>(lines: &MatRef<T>, block: &Block, panels: &mut [T::Acc]) {
    if lines.row_stride() == 1 {
        return copy_steps::<T, W>(lines, block, panels);
    }
    for (at, panel) in panels.chunks_exact_mut(W * block.k.len()).enumerate() {
        let first = block.lines.start + at * W;
        #[cfg(target_arch = "x86_64")]
        if T::NATIVE && size_of::<T>() == 4 && W >= 6 && lines.col_stride() == 1 && block.isa >= Isa::Avx2 {
            let starts = std::array::from_fn(|i| lines.at(first + i, block.k.start).cast());
            let panel = bytemuck::cast_slice_mut(panel);
            // SAFETY: the level has AVX2; each line has the block's steps, contiguous, of four bytes.
            unsafe { super::pack_x86::transpose::<W>(starts, panel) };
            continue;
        }
        #[cfg(target_arch = "aarch64")]
        if T::NATIVE
            && size_of::<T>() == 4
            && W.is_multiple_of(4)
            && lines.col_stride() == 1
            && block.isa == Isa::Neon
        {
            let starts = std::array::from_fn(|i| lines.at(first + i, block.k.start).cast());
            let panel = bytemuck::cast_slice_mut(panel);
            // SAFETY: each line has the block's steps, contiguous, of four bytes.
            unsafe { super::pack_neon::transpose::<W>(starts, panel) };
            continue;
        }
        if !T::NATIVE && lines.col_stride() == 1 {
            widen_lines::<T, W>(lines, first, block, panel);
        } else {
            transpose::<T, W>(lines, first, block.k.start, panel);
        }
    }
}

/// Lines that lie side by side: each step of a panel is a short copy. Goes along the steps of the whole block, so that
/// memory is read in long runs, a few steps at a time, so that the panels stay near.
fn copy_steps<T: GemmElement, const W: usize>(lines: &MatRef<T>, block: &Block, panels: &mut [T::Acc]) {
    const STEPS: usize = 4;
    let depth = block.k.len();
    for some in (0..depth).step_by(STEPS) {
        #[cfg(target_arch = "x86_64")]
        prefetch_steps(lines, block, some + AHEAD..depth.min(some + AHEAD + STEPS));
        for (at, panel) in panels.chunks_exact_mut(W * depth).enumerate() {
            let first = lines.at(block.lines.start + at * W, block.k.start + some);
            let steps = panel[some * W..].chunks_exact_mut(W).take(STEPS);
            for (p, step) in steps.enumerate() {
                // SAFETY: the lines and the step are inside the matrix (asserted by `pack`), and lie side by side.
                let values =
                    unsafe { &*first.wrapping_offset(p as isize * lines.col_stride()).cast::<[T; W]>() };
                if T::NATIVE {
                    // SAFETY: `T` is `T::Acc`, and the step has W of them. As one array they move in whole vectors.
                    unsafe { step.as_mut_ptr().cast::<[T; W]>().write(*values) };
                } else {
                    T::widen_slice(values, step);
                }
            }
        }
    }
}

/// A full panel of lines that are contiguous each, of a type that is widened: a stretch of each line at a time.
fn widen_lines<T: GemmElement, const W: usize>(
    lines: &MatRef<T>,
    first: usize,
    block: &Block,
    panel: &mut [T::Acc],
) {
    const STRETCH: usize = 32;
    let mut wide = [[T::Acc::ZERO; STRETCH]; W];
    for (at, part) in panel.chunks_mut(W * STRETCH).enumerate() {
        let steps = part.len() / W;
        for (i, wide) in wide.iter_mut().enumerate() {
            let start = lines.at(first + i, block.k.start + at * STRETCH);
            // SAFETY: these steps of the line are inside the matrix (asserted by `pack`) and lie side by side.
            T::widen_slice(unsafe { std::slice::from_raw_parts(start, steps) }, &mut wide[..steps]);
        }
        #[cfg(target_arch = "x86_64")]
        if size_of::<T::Acc>() == 4 && W >= 6 && block.isa >= Isa::Avx2 {
            let starts = wide.each_ref().map(|wide| wide.as_ptr().cast());
            // SAFETY: the level has AVX2; each line has the part's steps, contiguous, of four bytes.
            unsafe { super::pack_x86::transpose::<W>(starts, bytemuck::cast_slice_mut(part)) };
            continue;
        }
        for (p, step) in part.chunks_exact_mut(W).enumerate() {
            for (value, wide) in step.iter_mut().zip(&wide) {
                *value = wide[p];
            }
        }
    }
}

/// Steps that packing asks for ahead of those it copies.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 8;

/// Asks for some steps of all lines of a block. Where steps are far apart, each is on a page of its own, and the processor's
/// own prefetching does not follow.
#[cfg(target_arch = "x86_64")]
fn prefetch_steps<T>(lines: &MatRef<T>, block: &Block, steps: std::ops::Range<usize>) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    for step in steps {
        for line in block.lines.clone().step_by(64 / size_of::<T>()) {
            // SAFETY: every x86-64 has the instruction, which reads nothing that the program could see.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(lines.at(line, block.k.start + step).cast()) }
        }
    }
}

/// A full panel, value by value.
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
fn pack_partly<T: GemmElement>(
    lines: &MatRef<T>,
    first: usize,
    filled: usize,
    block: &Block,
    panel: &mut [T::Acc],
) {
    for (p, step) in panel.chunks_exact_mut(block.width).enumerate() {
        for (i, value) in step[..filled].iter_mut().enumerate() {
            // SAFETY: the line and the step are inside the matrix (asserted by `pack`).
            *value = unsafe { *lines.at(first + i, block.k.start + p) }.widen();
        }
        step[filled..].fill(T::Acc::ZERO);
    }
}
