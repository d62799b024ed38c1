//! An operand packed for tiles as a whole, and the numbers in it again.

use super::panels::{Packer, k_blocks};
use super::range::Head;
use super::{BLOCK, LEAST_LINES, Products, Row};
use crate::cpu::gemm::kernel::Kernels;
use crate::cpu::gemm::packed::Side;
use crate::cpu::gemm::scalar::Scalar;
use crate::cpu::gemm::source::{Block, PackSource};
use std::any::TypeId;
use std::ops::Range as Span;

/// A view of packed panels of all k, for the lines from `first` on.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    packer: Packer,
    rows: &'a [Row],
    heads: &'a [Head],
    panels: usize,
    first: usize,
}

impl<'a> View<'a> {
    /// What [`Packer::all`] wrote for `lines`.
    pub(super) fn new(packer: Packer, rows: &'a [Row], heads: &'a [Head], lines: Span<usize>) -> Self {
        View { packer, rows, heads, panels: lines.len().div_ceil(BLOCK), first: lines.start }
    }

    /// The panels from `line`, which starts one, in the block of k `at`.
    pub(super) fn block(&self, at: usize, k: &Span<usize>, line: usize) -> (&'a [Row], &'a [Head]) {
        let panel = (line - self.first) / BLOCK;
        debug_assert!((line - self.first).is_multiple_of(BLOCK), "a block starts at a panel");
        let from = (k.start * self.panels + panel * k.len()) * self.packer.rows();
        let to = k.end * self.panels * self.packer.rows();
        (&self.rows[from..to], &self.heads[at * self.panels + panel..(at + 1) * self.panels])
    }
}

/// An operand packed once for many products.
pub(in crate::cpu::gemm) struct Panels {
    packer: Packer,
    rows: Vec<Row>,
    heads: Vec<Head>,
    lines: usize,
    steps: usize,
}

impl Panels {
    /// Packs an operand for products with results of some type, if tiles are to multiply it.
    pub(in crate::cpu::gemm) fn new<S: Scalar>(
        kernels: &Kernels<S>,
        result: TypeId,
        side: Side,
        source: &dyn PackSource<S>,
    ) -> Option<Self> {
        let products = kernels.tiles?.products(result)?;
        let (lines, steps) = (source.lines(), source.steps());
        if lines < LEAST_LINES || steps < BLOCK {
            return None;
        }
        let packer = Packer { products, side, isa: kernels.isa };
        let (panels, blocks) = (lines.div_ceil(BLOCK), k_blocks(steps));
        let mut rows = vec![Row::ZERO; panels * steps.div_ceil(BLOCK) * packer.rows()];
        let mut heads = vec![Head::PLAIN; panels * blocks.count()];
        packer.all(source, 0..lines, &mut rows, &mut heads);
        Some(Panels { packer, rows, heads, lines, steps })
    }

    pub(super) fn products(&self) -> Products {
        self.packer.products
    }

    pub(super) fn view(&self) -> View<'_> {
        View::new(self.packer, &self.rows, &self.heads, 0..self.lines)
    }
}

/// The numbers again, for kernels of other panels.
impl<S: Scalar> PackSource<S> for Panels {
    fn lines(&self) -> usize {
        self.lines
    }

    fn steps(&self) -> usize {
        self.steps
    }

    fn pack(&self, block: &Block, panels: &mut [S]) {
        let blocks = k_blocks(self.steps);
        let panels: &mut [f32] = bytemuck::cast_slice_mut(panels);
        panels.fill(0.0);
        let mut values = vec![0.0f32; blocks.depth() * BLOCK * BLOCK];
        for (at, k) in (0..blocks.count()).map(|at| (at, blocks.get(at))) {
            let steps = k.start * BLOCK..(k.end * BLOCK).min(self.steps);
            let wanted = steps.start.max(block.k.start)..steps.end.min(block.k.end);
            if wanted.is_empty() {
                continue;
            }
            for first in (block.lines.start / BLOCK * BLOCK..block.lines.end).step_by(BLOCK) {
                let (rows, heads) = self.view().block(at, &k, first);
                let values = &mut values[..k.len() * BLOCK * BLOCK];
                self.packer.unpack(heads[0], &rows[..k.len() * self.packer.rows()], values);
                for line in first.max(block.lines.start)..(first + BLOCK).min(block.lines.end) {
                    let (panel, i) =
                        ((line - block.lines.start) / block.width, (line - block.lines.start) % block.width);
                    for step in wanted.clone() {
                        let to = (panel * block.k.len() + step - block.k.start) * block.width + i;
                        panels[to] = values[(step - steps.start) * BLOCK + line - first];
                    }
                }
            }
        }
    }
}
