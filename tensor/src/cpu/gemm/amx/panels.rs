//! Operands packed for tiles.
//!
//! ```text
//! block of k 0:  panel 0 | panel 1 | …      each panel: 32 lines, up to 512 steps in blocks of 32, as parts
//! block of k 1:  panel 0 | panel 1 | …
//! ```
//!
//! Lines and steps that an operand lacks are zeros.

use super::range::{Form, Head, Range, factor};
use super::split::{self, One, Parts, Three, Two};
use super::words::{self, bits};
use super::{BLOCK, Products, Row};
use crate::cpu::gemm::packed::Side;
use crate::cpu::gemm::plan::{self, KBlocks};
use crate::cpu::gemm::scalar::Scalar;
use crate::cpu::gemm::scratch::Scratch;
use crate::cpu::gemm::source::{Block, PackSource};
use crate::cpu::isa::Isa;
use crate::cpu::threads::{SharedMut, parallel_for};
use std::ops::Range as Span;

/// The most blocks of steps that a block of k has.
pub(super) const DEPTH: usize = 16;

/// Steps that are staged as `f32` at a time: 16 KiB, which the first-level cache holds.
const STAGED: usize = 4 * BLOCK;

/// The blocks of k, in blocks of 32 steps. A function of the steps alone.
pub(super) fn k_blocks(steps: usize) -> KBlocks {
    plan::k_blocks(steps.div_ceil(BLOCK), DEPTH)
}

/// How an operand is packed.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Packer {
    pub(in crate::cpu) products: Products,
    pub(in crate::cpu) side: Side,
    pub(in crate::cpu) isa: Isa,
}

impl Packer {
    /// Rows of tiles that a panel takes for each block of steps.
    pub(in crate::cpu) fn rows(&self) -> usize {
        self.products.parts() * BLOCK
    }

    /// Packs up to 32 lines for some blocks of steps.
    pub(in crate::cpu) fn panel<S: Scalar>(
        &self,
        source: &dyn PackSource<S>,
        lines: Span<usize>,
        blocks: &Span<usize>,
        rows: &mut [Row],
    ) -> Head {
        match self.products {
            Products::One => {
                match source.halves() {
                    Some(halves) => {
                        words::panel(self.isa, self.side, &bits::<_, u16>(halves), lines, blocks, rows)
                    }
                    None => drop(self.write::<One, S>(source, lines, blocks, 1.0, rows)),
                }
                Head::PLAIN
            }
            Products::Three | Products::Four => self.checked::<Two, S>(source, lines, blocks, rows),
            Products::Six => self.checked::<Three, S>(source, lines, blocks, rows),
        }
    }

    /// Splits as if all were well, and again where it was not.
    fn checked<P: Parts, S: Scalar>(
        &self,
        source: &dyn PackSource<S>,
        lines: Span<usize>,
        blocks: &Span<usize>,
        rows: &mut [Row],
    ) -> Head {
        let head = self.write::<P, S>(source, lines.clone(), blocks, 1.0, rows).head();
        match head.form {
            Form::Scaled(0) => {}
            Form::Scaled(by) => drop(self.write::<P, S>(source, lines, blocks, factor(by), rows)),
            Form::Raw => {
                let values = &mut bytemuck::cast_slice_mut::<Row, f32>(rows)[..blocks.len() * BLOCK * BLOCK];
                for (block, values) in blocks.clone().zip(values.chunks_exact_mut(BLOCK * BLOCK)) {
                    let steps = block * BLOCK..source.steps().min((block + 1) * BLOCK);
                    let staged = self.stage(source, lines.clone(), steps, bytemuck::cast_slice_mut(values));
                    debug_assert_eq!(staged, BLOCK * BLOCK);
                }
            }
        }
        head
    }

    /// Splits all values times a factor. Gives their range.
    fn write<P: Parts, S: Scalar>(
        &self,
        source: &dyn PackSource<S>,
        lines: Span<usize>,
        blocks: &Span<usize>,
        factor: f32,
        rows: &mut [Row],
    ) -> Range {
        let steps = blocks.start * BLOCK..source.steps().min(blocks.end * BLOCK);
        if self.side == Side::A && source.line(lines.start).is_some() {
            return self.write_lines::<P, S>(source, lines, steps, factor, rows);
        }
        let mut range = Range::EMPTY;
        let mut scratch = Scratch::<S>::new(STAGED * BLOCK);
        let values = scratch.as_mut_slice();
        for (at, rows) in rows.chunks_mut(STAGED / BLOCK * self.rows()).enumerate() {
            let start = steps.start + at * STAGED;
            let len = self.stage(source, lines.clone(), start..steps.end.min(start + STAGED), values);
            let values = bytemuck::cast_slice(&values[..len]);
            range = range.and(split::steps::<P>(self.isa, values, factor, rows));
            if self.side == Side::A {
                split::transpose(self.isa, rows);
            }
        }
        range
    }

    /// [`write`](Self::write) where the lines lie in memory.
    fn write_lines<P: Parts, S: Scalar>(
        &self,
        source: &dyn PackSource<S>,
        lines: Span<usize>,
        steps: Span<usize>,
        factor: f32,
        rows: &mut [Row],
    ) -> Range {
        let mut range = Range::EMPTY;
        let (whole, block) = (steps.len() / BLOCK * BLOCK, self.rows());
        for at in 0..BLOCK {
            let values = if at < lines.len() { source.line(lines.start + at) } else { None };
            let values: &[f32] = values.map_or(&[], |values| bytemuck::cast_slice(&values[steps.clone()]));
            let mut rest = [0.0; BLOCK];
            if values.is_empty() {
                for rows in rows.chunks_exact_mut(block) {
                    split::line::<P>(self.isa, &rest, factor, at, rows);
                }
                continue;
            }
            let (filled, last) = rows.split_at_mut(whole / BLOCK * block);
            range = range.and(split::line::<P>(self.isa, &values[..whole], factor, at, filled));
            rest[..values.len() - whole].copy_from_slice(&values[whole..]);
            range = range.and(split::line::<P>(self.isa, &rest, factor, at, last));
        }
        range
    }

    /// Packs 32 lines, times a factor, whose values `fill` writes: of a line, from a step on. Gives their range.
    pub(in crate::cpu) fn lines(
        &self,
        factor: f32,
        fill: impl Fn(usize, usize, &mut [f32]),
        rows: &mut [Row],
    ) -> Range {
        let (mut range, mut values) = (Range::EMPTY, [0.0; DEPTH * BLOCK]);
        for (at, rows) in rows.chunks_mut(DEPTH * self.rows()).enumerate() {
            let values = &mut values[..rows.len() / self.rows() * BLOCK];
            for line in 0..BLOCK {
                fill(line, at * DEPTH * BLOCK, values);
                range = range.and(match self.products {
                    Products::One => split::line::<One>(self.isa, values, factor, line, rows),
                    Products::Three | Products::Four => {
                        split::line::<Two>(self.isa, values, factor, line, rows)
                    }
                    Products::Six => split::line::<Three>(self.isa, values, factor, line, rows),
                });
            }
            if self.side == Side::B {
                split::transpose(self.isa, rows);
            }
        }
        range
    }

    /// Writes up to 32 lines as `values[step * 32 + line]`, with zeros up to a whole block of steps. Gives their number.
    fn stage<S: Scalar>(
        &self,
        source: &dyn PackSource<S>,
        lines: Span<usize>,
        steps: Span<usize>,
        values: &mut [S],
    ) -> usize {
        let len = steps.len().next_multiple_of(BLOCK) * BLOCK;
        let (filled, padding) = values[..len].split_at_mut(steps.len() * BLOCK);
        source.pack(&Block { k: steps, lines, width: BLOCK, isa: self.isa }, filled);
        padding.fill(S::ZERO);
        len
    }

    /// What [`panel`](Self::panel) packed, as `values[step * 32 + line]`. Of one or two parts only what they hold comes back.
    pub(super) fn unpack(&self, head: Head, rows: &[Row], values: &mut [f32]) {
        let Form::Scaled(by) = head.form else {
            return values.copy_from_slice(&bytemuck::cast_slice(rows)[..values.len()]);
        };
        let mut turned;
        let rows = if self.side == Side::A {
            turned = rows.to_vec();
            split::transpose(self.isa, &mut turned);
            &turned
        } else {
            rows
        };
        let join = match self.products {
            Products::One => split::join::<One>,
            Products::Three | Products::Four => split::join::<Two>,
            Products::Six => split::join::<Three>,
        };
        join(self.isa, rows, factor(-by), values);
    }

    /// Packs all steps of some lines, in parallel.
    pub(super) fn all<S: Scalar>(
        &self,
        source: &dyn PackSource<S>,
        lines: Span<usize>,
        rows: &mut [Row],
        heads: &mut [Head],
    ) {
        let blocks = k_blocks(source.steps());
        let panels = lines.len().div_ceil(BLOCK);
        // Tasks of 64 Ki values or so.
        let group = (64 * 1024 / (BLOCK * BLOCK * blocks.depth())).max(1);
        let groups = panels.div_ceil(group);
        let (rows, heads) = (SharedMut::new(rows), SharedMut::new(heads));
        parallel_for(groups * blocks.count(), |task| {
            let k = blocks.get(task / groups);
            for panel in task % groups * group..panels.min((task % groups + 1) * group) {
                let from = (k.start * panels + panel * k.len()) * self.rows();
                let at = task / groups * panels + panel;
                // SAFETY: each panel of each block of k belongs to one task, and their rows are disjoint.
                let (rows, head) =
                    unsafe { (rows.slice(from..from + k.len() * self.rows()), heads.slice(at..at + 1)) };
                let first = lines.start + panel * BLOCK;
                head[0] = self.panel(source, first..lines.end.min(first + BLOCK), &k, rows);
            }
        });
    }
}
