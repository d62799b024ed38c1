//! Where an operand comes from: anything that can write its blocks as panels.
//!
//! The rows of A and the columns of B are treated alike. Each is a list of *lines*, and each line has one value per step
//! of k: `A · B = Σ_p A.line(i)[p] · B.line(j)[p]`. The micro-kernels read lines in *panels* of a fixed width, step by step:
//!
//! ```text
//! panel[p * width + i] = line(first + i)[k.start + p]      zero where first + i is past the last line
//! ```

use super::matrix::MatRef;
use super::packed::Packed;
use super::scalar::Scalar;
use crate::cpu::isa::Isa;
use half::bf16;
use std::ops::Range;

/// A block of an operand that is to be written as panels.
#[derive(Clone, Debug)]
pub struct Block {
    /// The steps.
    pub k: Range<usize>,
    /// The lines: rows of A, or columns of B.
    pub lines: Range<usize>,
    /// Lines of a panel.
    pub width: usize,
    /// The instructions that packing may use.
    pub isa: Isa,
}

impl Block {
    /// How many panels the block has; the last one may be partly padding.
    pub fn panels(&self) -> usize {
        self.lines.len().div_ceil(self.width)
    }

    /// How many values all panels have: `panels · width · steps`.
    pub fn volume(&self) -> usize {
        self.panels() * self.width * self.k.len()
    }
}

/// An operand of a product: a strided matrix, or a virtual one such as the columns of a convolution.
pub trait PackSource<S>: Sync {
    /// How many lines there are: m for A, n for B.
    fn lines(&self) -> usize;

    /// How many values a line has: k.
    fn steps(&self) -> usize;

    /// Writes a block as consecutive panels, each `block.width` lines wide and `block.k.len()` steps deep, the last one
    /// padded with zeros. Every element of `panels` is written; its old values mean nothing.
    ///
    /// `panels` has [`block.volume()`](Block::volume) elements, and the block lies inside the operand. Blocks are asked
    /// for in any order, from several threads.
    fn pack(&self, block: &Block, panels: &mut [S]);

    /// The lines as rows of a matrix with contiguous rows, if they lie in memory so.
    fn rows(&self) -> Option<MatRef<'_, S>> {
        None
    }

    /// The values of a line, if lines lie in memory as they are. If one does, all do.
    fn line(&self, _line: usize) -> Option<&[S]> {
        None
    }

    /// The matrix whose rows are the lines, if it is one of `bf16`: what tiles multiply as it is.
    fn halves(&self) -> Option<MatRef<'_, bf16>> {
        None
    }
}

/// An operand that may have been packed before.
pub enum Operand<'a, S: Scalar> {
    /// To be packed during the product.
    Source(&'a dyn PackSource<S>),
    /// Packed before.
    Packed(&'a Packed<S>),
}

impl<S: Scalar> Clone for Operand<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Scalar> Copy for Operand<'_, S> {}

impl<S: Scalar> Operand<'_, S> {
    /// Rows of A, or columns of B.
    pub fn lines(&self) -> usize {
        match self {
            Self::Source(source) => source.lines(),
            Self::Packed(packed) => packed.lines(),
        }
    }

    /// The length of the sums.
    pub fn steps(&self) -> usize {
        match self {
            Self::Source(source) => source.steps(),
            Self::Packed(packed) => packed.steps(),
        }
    }
}
