//! Recurrent layers whose whole sequence is one launch: blocks that are resident together keep the recurrent weights in shared memory.
//!
//! How work is cut, and so how sums are rounded, follows from the shapes; whether a layer fits, and how many rows of the batch a block
//! takes, depend on the GPU.

use tensor::{DType, Layout, Number, Result, RnnKind, RnnSizes, Tensor};

use crate::backend::copy::{full, relocate};
use crate::backend::storage::{operand, operand_as};
use crate::gpu::Gpu;
use crate::launch::Pointer;
use crate::module::Launch;

/// Threads of a block: `SHARE_THREADS` of `cuda/rnn/share.h`, whose other constants and formulas follow.
const THREADS: u32 = 256;
const BATCH: usize = 16;
/// Bytes of a vector, a chunk and a panel.
const VECTOR: usize = 16;
const CHUNK: usize = 256;
const PANEL: usize = 4 * CHUNK;

/// Sequences shorter than this do not pay for loading the weights.
const FEWEST_STEPS: usize = 4;

/// Tiles of a batch that a block takes at most: with more, products of all rows at once are faster. An estimate.
const MOST_TILES: usize = 16;

/// Bits of `options`.
pub(super) const KEEPS: u64 = 1;
pub(super) const REVERSE: u64 = 2;
pub(super) const BIASED: u64 = 4;
pub(super) const GRADED: u64 = 8;

/// A layer, as kernels take it: `Sequence` of `cuda/rnn/share.h`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub(crate) struct Sequence {
    steps: u32,
    rows: u32,
    hidden: u32,
    tiles: u32,
    depth: u32,
}

/// The operands of a direction of the forward pass: `Forward` of `cuda/rnn_sequence.cu`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Forward {
    pub(super) output: Pointer,
    pub(super) c: Pointer,
    pub(super) kept: Pointer,
    pub(super) projected: Pointer,
    pub(super) weight: Pointer,
    pub(super) bias: Pointer,
    pub(super) state: Pointer,
    pub(super) counters: Pointer,
    pub(super) options: u64,
}

/// Those of the backward pass: `Backward` of `cuda/rnn_sequence_backward.cu`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Backward {
    pub(super) da: Pointer,
    pub(super) db: Pointer,
    pub(super) dh: Pointer,
    pub(super) dc: Pointer,
    pub(super) kept: Pointer,
    pub(super) output: Pointer,
    pub(super) h0: Pointer,
    pub(super) c0: Pointer,
    pub(super) grad: Pointer,
    pub(super) weight: Pointer,
    pub(super) grads: Pointer,
    pub(super) counters: Pointer,
    pub(super) options: u64,
}

/// The operands of both directions, or twice those of one: `Directions` of `cuda/rnn/share.h`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Directions<T>([T; 2]);

impl<T: Copy> Directions<T> {
    /// Of one or two.
    pub(super) fn new(of: &[T]) -> Directions<T> {
        Directions([of[0], of[of.len() - 1]])
    }
}

/// Which of the two passes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Pass {
    Forward,
    Backward,
}

/// How a sequence is cut into blocks.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Plan {
    /// Layers that are computed at once, the blocks of each for all units, and groups of the batch.
    directions: usize,
    blocks: usize,
    groups: usize,
    /// Tiles of the batch that a group has.
    tiles: usize,
    /// Terms of a product, padded.
    depth: usize,
    /// Bytes of dynamic shared memory.
    shared: usize,
}

impl Plan {
    /// `None` if the layer does not fit, or is better computed step by step. `resident` says how many blocks with so much shared memory the
    /// GPU holds at once.
    pub(super) fn new(
        pass: Pass,
        kind: RnnKind,
        dtype: DType,
        sizes: RnnSizes,
        directions: usize,
        resident: impl FnOnce(u32) -> Result<usize>,
    ) -> Result<Option<Plan>> {
        let RnnSizes { t, n, hidden, .. } = sizes;
        let (units, multiple) = match dtype {
            DType::F32 => (8, 8),
            DType::F16 | DType::BF16 => (16, 16),
            _ => return Ok(None),
        };
        // Rows of weights of a block, and the terms of each.
        let (rows, terms) = match pass {
            Pass::Forward => (kind.gates() * units, hidden),
            Pass::Backward => (units, kind.gates() * hidden),
        };
        let size = dtype.size();
        let depth = terms.next_multiple_of(CHUNK / size);
        let row = depth * size + VECTOR;
        let shared = rows.next_multiple_of(multiple).saturating_mul(row) + 2 * BATCH * (PANEL + VECTOR);
        let blocks = hidden.div_ceil(units);
        let counted = u32::try_from(t.saturating_mul(blocks)).is_ok();
        let Ok(bytes) = i32::try_from(shared) else { return Ok(None) };
        if t < FEWEST_STEPS || !counted {
            return Ok(None);
        }
        let most = resident(bytes.unsigned_abs())? / directions;
        if blocks > most {
            return Ok(None);
        }
        let all = n.div_ceil(BATCH);
        let tiles = all.div_ceil(all.min(most / blocks));
        let plan = Plan { directions, blocks, groups: all.div_ceil(tiles), tiles, depth, shared };
        Ok((tiles <= MOST_TILES).then_some(plan))
    }

    pub(super) fn launch(&self) -> Launch {
        Launch {
            grid: [self.blocks as u32, self.groups as u32, self.directions as u32],
            shared: self.shared as u32,
            cooperative: true,
            ..Launch::new(1, THREADS)
        }
    }

    pub(super) fn sequence(&self, sizes: RnnSizes) -> Sequence {
        Sequence {
            steps: sizes.t as u32,
            rows: sizes.n as u32,
            hidden: sizes.hidden as u32,
            tiles: self.tiles as u32,
            depth: self.depth as u32,
        }
    }

    /// What blocks exchange: two halves of zeros for all rows and terms, with padding, of which the first begins with `start`, `[n, hidden]`.
    pub(super) fn exchange(&self, gpu: &'static Gpu, dtype: DType, start: Option<&Tensor>) -> Result<Tensor> {
        let rows = self.groups * self.tiles * BATCH;
        let zeros = full(gpu, Layout::contiguous([2, rows, self.depth].into()), dtype, Number::Int(0))?;
        if let Some(start) = start {
            let half = zeros.layout().slice(0, 0, 1, 1).squeeze(0);
            let part = half.slice(0, 0, start.dims()[0], 1).slice(1, 0, start.dims()[1], 1);
            relocate(gpu, operand_as(&zeros, part), operand(start), dtype)?;
        }
        Ok(zeros)
    }

    /// A counter of finished steps for each group.
    pub(super) fn counters(&self, gpu: &'static Gpu) -> Result<Tensor> {
        full(gpu, Layout::contiguous([self.groups].into()), DType::U32, Number::Int(0))
    }
}

/// The plan for a pass of one layer, or two at once, on this GPU, if there is one, and the name of its kernel.
pub(super) fn plan(
    gpu: &Gpu,
    pass: Pass,
    kind: RnnKind,
    dtype: DType,
    sizes: RnnSizes,
    directions: usize,
) -> Result<Option<(Plan, String)>> {
    let form = if pass == Pass::Forward { "rnn_sequence" } else { "rnn_sequence_backward" };
    let kernel = format!("{form}_{}_{}", super::form(kind).0, crate::backend::names::short(dtype));
    let resident = |shared| {
        let launch = Launch { shared, ..Launch::new(1, THREADS) };
        Ok(gpu.kernel(&kernel)?.resident(launch)? * gpu.multiprocessors)
    };
    Ok(Plan::new(pass, kind, dtype, sizes, directions, resident)?.map(|plan| (plan, kernel)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan for a GPU of 132 multiprocessors with 227 KiB of shared memory, of which kernels have some for themselves.
    fn plan(pass: Pass, kind: RnnKind, dtype: DType, n: usize, hidden: usize) -> Option<Plan> {
        let sizes = RnnSizes { t: 100, n, input: 7, hidden };
        let resident = |shared| Ok(if shared as usize + 35_000 > 232_448 { 0 } else { 132 });
        Plan::new(pass, kind, dtype, sizes, 1, resident).unwrap()
    }

    #[test]
    fn layers_up_to_a_thousand_units_stay_on_chip_in_both_passes() {
        for pass in [Pass::Forward, Pass::Backward] {
            for kind in [RnnKind::Lstm, RnnKind::Gru, RnnKind::Tanh] {
                for hidden in [1, 17, 128, 768, 1024] {
                    for dtype in [DType::F32, DType::F16, DType::BF16] {
                        let plan = plan(pass, kind, dtype, 16, hidden);
                        assert!(plan.is_some(), "{pass:?} {kind:?} {dtype} {hidden}");
                    }
                }
                assert_eq!(plan(pass, kind, DType::F32, 16, 2048), None);
                assert_eq!(plan(pass, kind, DType::F64, 16, 64), None);
            }
        }
    }

    #[test]
    fn groups_cover_the_batch_and_fit_the_gpu() {
        for n in 1..700 {
            for hidden in [8, 100, 512, 1000] {
                let Some(plan) = plan(Pass::Forward, RnnKind::Gru, DType::BF16, n, hidden) else {
                    assert!(n > 256, "{n} {hidden}");
                    continue;
                };
                assert!(plan.blocks * plan.groups <= 132, "{plan:?}");
                assert!(plan.groups * plan.tiles * BATCH >= n, "{plan:?}");
                assert!((plan.groups - 1) * plan.tiles * BATCH < n, "{plan:?}");
            }
        }
    }

    #[test]
    fn two_directions_share_the_gpu_or_go_one_after_the_other() {
        let plan = |hidden, n, directions| {
            let sizes = RnnSizes { t: 100, n, input: 7, hidden };
            let resident = |_| Ok(132);
            Plan::new(Pass::Forward, RnnKind::Lstm, DType::BF16, sizes, directions, resident).unwrap()
        };
        let (one, both) = (plan(512, 64, 1).unwrap(), plan(512, 64, 2).unwrap());
        assert_eq!((one.groups, one.tiles), (4, 1));
        assert_eq!((both.groups, both.tiles, both.launch().grid), (2, 2, [32, 2, 2]));
        assert!(plan(1072, 16, 1).is_some() && plan(1072, 16, 2).is_none());
    }

    #[test]
    fn short_sequences_and_gpus_that_hold_no_block_go_step_by_step() {
        let sizes = RnnSizes { t: 3, n: 4, input: 4, hidden: 4 };
        let plan = |sizes, most| Plan::new(Pass::Forward, RnnKind::Tanh, DType::F32, sizes, 1, |_| Ok(most));
        assert_eq!(plan(sizes, 132).unwrap(), None);
        let sizes = RnnSizes { t: 30, ..sizes };
        assert!(plan(sizes, 132).unwrap().is_some());
        assert_eq!(plan(sizes, 0).unwrap(), None);
    }

    #[test]
    fn rows_are_padded_to_whole_chunks() {
        let plan = plan(Pass::Forward, RnnKind::Lstm, DType::BF16, 5, 100).unwrap();
        assert_eq!((plan.blocks, plan.groups, plan.tiles, plan.depth), (7, 1, 1, 128));
        assert_eq!(plan.shared, 64 * (128 * 2 + 16) + 2 * 16 * (1024 + 16));
    }
}
