//! The weights of a phase as panels of A: 32 output channels each, and for every 32 source channels a block for each tap.

use super::super::ConvElement;
use super::super::geometry::flat;
use super::super::pass::{Pass, Phase};
use super::planes::Plan;
use crate::cpu::gemm::amx::{BLOCK, Head, Level, Packer, Row};
use crate::cpu::gemm::{Block, PackSource, Side};
use crate::cpu::threads::{SharedMut, parallel_for};

/// The weights of a phase of a group.
pub(super) struct Weights<'a> {
    pub(super) phase: &'a Phase,
    rows: Vec<Row>,
    /// One for each panel.
    pub(super) heads: Vec<Head>,
    /// Where the planes of each block of steps start, in bytes.
    pub(super) offsets: Vec<usize>,
}

impl<'a> Weights<'a> {
    pub(super) fn new<T: ConvElement>(
        level: Level,
        pass: &Pass,
        phase: &'a Phase,
        plan: &Plan,
        weight: &[T],
        group: usize,
    ) -> Self {
        let taps = || phase.taps[1].iter().flat_map(|h| phase.taps[2].iter().map(move |w| (h, w)));
        let depth = phase.taps[0][0];
        let plane = |block: usize| block * BLOCK / 2 * plan.plane;
        let offsets = (0..plan.blocks)
            .flat_map(|block| taps().map(move |(h, w)| plane(block) + plan.at([0, h.offset, w.offset])))
            .map(|words| words * size_of::<u32>())
            .collect::<Vec<_>>();
        let source = Taps {
            weight: &weight[group * pass.outs * pass.sources * pass.kernel.iter().product::<usize>()..],
            pass,
            taps: taps().map(|(h, w)| flat(pass.kernel, [depth.index, h.index, w.index])).collect(),
            steps: offsets.len() * BLOCK,
        };
        let packer = Packer { products: level.products, side: Side::A, isa: level.isa };
        let panels = pass.outs.div_ceil(BLOCK);
        let panel = offsets.len() * packer.rows();
        let mut rows = vec![Row::ZERO; panels * panel];
        let mut heads = vec![Head::PLAIN; panels];
        let (shared_rows, shared_heads) = (SharedMut::new(&mut rows), SharedMut::new(&mut heads));
        parallel_for(panels, |at| {
            // SAFETY: each panel belongs to one task.
            let (rows, head) =
                unsafe { (shared_rows.slice(at * panel..(at + 1) * panel), shared_heads.slice(at..at + 1)) };
            let lines = at * BLOCK..pass.outs.min((at + 1) * BLOCK);
            head[0] = packer.panel(&source, lines, &(0..offsets.len()), rows);
        });
        Weights { phase, rows, heads, offsets }
    }

    /// A panel of 32 output channels.
    pub(super) fn panel(&self, at: usize) -> &[Row] {
        let panel = self.rows.len() / self.heads.len();
        &self.rows[at * panel..(at + 1) * panel]
    }
}

/// Weights as lines: one for each output channel, whose steps are source channels within taps within blocks of channels.
struct Taps<'a, T> {
    weight: &'a [T],
    pass: &'a Pass,
    /// The places of the taps in the weights of two channels.
    taps: Vec<usize>,
    steps: usize,
}

impl<T: ConvElement> PackSource<T::Acc> for Taps<'_, T> {
    fn lines(&self) -> usize {
        self.pass.outs
    }

    fn steps(&self) -> usize {
        self.steps
    }

    fn pack(&self, block: &Block, panels: &mut [T::Acc]) {
        let (width, depth) = (block.width, block.k.len().max(1));
        for (at, panel) in panels.chunks_exact_mut(width * depth).enumerate() {
            for (step, row) in block.k.clone().zip(panel.chunks_exact_mut(width)) {
                let (of, within) = (step / BLOCK, step % BLOCK);
                let channel = of / self.taps.len() * BLOCK + within;
                let from = channel * self.pass.weight_source + self.taps[of % self.taps.len()];
                for (i, value) in row.iter_mut().enumerate() {
                    let line = block.lines.start + at * width + i;
                    *value = if line < block.lines.end && channel < self.pass.sources {
                        self.weight[from + line * self.pass.weight_out].widen()
                    } else {
                        bytemuck::Zeroable::zeroed()
                    };
                }
            }
        }
    }
}
