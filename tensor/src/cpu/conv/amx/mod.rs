//! A [`Pass`] on AMX tiles, without im2col.
//!
//! An image is split once into planes of `bf16` parts, zeros around them and pairs of channels interleaved
//! ([`planes`]). There the pixels that a tap reads for consecutive outputs follow each other, so a tile is loaded where it is:
//! 16 pairs of channels, a plane apart, times 16 pixels. The outputs of a kernel are 32 channels of 32 pixels, in an order in which rows are
//! as long as those of the planes; what is beyond the true row is dropped as they are stored.
//!
//! The gradient in the weight reads the same planes along the pixels ([`gradient`]).
//!
//! An image, or weights, that tiles must not multiply are left to the caller's other way.

pub(super) mod gradient;
mod planes;
#[cfg(test)]
mod tests;
mod weights;

use super::ConvElement;
use super::finish::Finish;
use super::geometry::volume;
use super::pass::{Pass, Phase};
use super::planes::Images;
use super::spread::spread;
use crate::Result;
use crate::cpu::gemm::Activation;
use crate::cpu::gemm::Scalar;
use crate::cpu::gemm::amx::{BLOCK, Correlator, Level, PlaneJob, Way, scale};
use crate::cpu::memory::Memory;
use crate::cpu::threads::{SharedMut, parallel_for};
use planes::{Packed, Plan};
use weights::Weights;

/// The fewest channels on either side, and pixels of a phase, that fill tiles well enough.
const LEAST: [usize; 2] = [16, 32];

/// Products per task that are worth a hand-over to another thread.
const TASK: usize = 1 << 22;

/// Whether tiles should run a pass.
pub(super) fn suits(pass: &Pass) -> bool {
    let fits = |phase: &Phase| {
        phase.taps[0].len() == 1
            && phase.count[0] == 1
            && phase.taps.iter().all(|taps| !taps.is_empty())
            && volume(phase.count) >= LEAST[1]
            && (phase.stride[2] == pass.frame.fold || phase.count[2] == 1)
    };
    pass.sources.min(pass.outs) >= LEAST[0]
        && (pass.frame.dims[0], pass.out[0]) == (1, 1)
        && !pass.phases.is_empty()
        && pass.phases.iter().all(fits)
        && pass.phases.iter().all(|phase| phase.stride[1] == pass.phases[0].stride[1])
        && pass.phases.iter().map(|phase| volume(phase.count)).sum::<usize>() == volume(pass.out)
}

/// Runs a pass that [`suits`], with a finish that [`is_simple`](Finish::is_simple); images for which tiles will not do go to `otherwise`, with their number and outputs.
///
/// # Shapes
/// - images: `[n, groups · sources, …]`, weight: every weight in row-major order, bias: `[groups · outs]`
/// - out: `[n, groups · outs, …]`, row-major
pub(super) fn run<T: ConvElement>(
    level: Level,
    pass: &Pass,
    images: &Images<T>,
    weight: &[T],
    finish: Finish<T>,
    out: &mut [T],
    otherwise: impl Fn(usize, &mut [T]) -> Result<()> + Sync,
) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let plan = Plan::new(pass);
    let weights: Vec<Vec<Weights>> = (0..pass.groups)
        .map(|group| pass.phases.iter().map(|p| Weights::new(level, pass, p, &plan, weight, group)).collect())
        .collect();
    let image = pass.groups * pass.outs * volume(pass.out);
    let out = SharedMut::new(out);
    spread(pass.n, pass.products().saturating_mul(pass.groups), |n| {
        for (group, weights) in weights.iter().enumerate() {
            let mut memory = Memory::new(plan.bytes(level.products))?;
            let packed = plan.pack(level, images, n, group, memory.as_mut_slice())?;
            let head = packed.head;
            let tiles = weights.iter().all(|w| w.heads.iter().all(|h| h.way(head) != Way::Strict));
            if !tiles {
                // SAFETY: the outputs of an image belong to its unit, and no task of it is under way.
                return otherwise(n, unsafe { out.slice(n * image..(n + 1) * image) });
            }
            let from = n * image + group * pass.outs * volume(pass.out);
            let group = Group {
                level,
                pass,
                plan: &plan,
                packed,
                bias: finish.bias.map(|b| &b[group * pass.outs..][..pass.outs]),
                activation: finish.in_product(),
            };
            for weights in weights {
                // SAFETY: the outputs of an image and group from `from` on belong to this unit, and to one phase each.
                unsafe { group.phase(weights, out.as_mut_ptr().add(from)) };
            }
        }
        Ok(())
    })
}

/// One group of one image.
struct Group<'a, T> {
    level: Level,
    pass: &'a Pass,
    plan: &'a Plan<'a>,
    packed: Packed<'a>,
    bias: Option<&'a [T]>,
    activation: Activation,
}

/// A pointer that tasks share, each for its own elements.
#[derive(Clone, Copy)]
struct Place<T>(*mut T);

// SAFETY: the tasks of a phase write disjoint elements.
unsafe impl<T: Send> Sync for Place<T> {}

impl<T> Place<T> {
    fn get(&self) -> *mut T {
        self.0
    }
}

impl<T: ConvElement> Group<'_, T> {
    /// All outputs of a phase. The weights of 32 channels stay in the second-level cache while the pixels pass.
    ///
    /// # Safety
    /// `out` leads to the outputs of the group, and those of the phase belong to the caller.
    unsafe fn phase(&self, weights: &Weights, out: *mut T) {
        let width = self.plan.width;
        let [_, rows, columns] = weights.phase.count;
        let blocks = ((rows - 1) * width + columns).div_ceil(BLOCK);
        let chunk = (TASK / (BLOCK * BLOCK * BLOCK * weights.offsets.len())).clamp(1, blocks);
        let chunks = blocks.div_ceil(chunk);
        let out = Place(out);
        parallel_for(weights.heads.len() * chunks, |task| {
            let (panel, first) = (task / chunks, task % chunks * chunk);
            let correlator = Correlator::new(self.level);
            let mut square = Square([[0.0; BLOCK]; BLOCK]);
            for block in first..blocks.min(first + chunk) {
                let job = PlaneJob {
                    a: weights.panel(panel).as_ptr(),
                    planes: self.packed.words[block * BLOCK..].as_ptr(),
                    part: self.packed.part * size_of::<u32>(),
                    row: self.plan.plane * size_of::<u32>(),
                    offsets: weights.offsets.as_ptr(),
                    blocks: weights.offsets.len(),
                    c: square.0.as_mut_ptr().cast(),
                };
                // SAFETY: a panel holds as many blocks as there are offsets, in these parts. An offset leads to a pair of
                // channels, and the planes have room for the reach of every phase from there on (`Plan::new`).
                unsafe { correlator.run(&job) };
                // SAFETY: each channel of each pixel of the phase is in one task.
                unsafe { self.store(weights, panel, block, &mut square, out.get()) };
            }
        });
    }

    /// Finishes the sums of 32 channels of 32 pixels and stores those that exist.
    ///
    /// # Safety
    /// As [`phase`](Self::phase), for these outputs.
    unsafe fn store(&self, weights: &Weights, panel: usize, block: usize, square: &mut Square, out: *mut T) {
        if let Way::ScaledTiles(by) = weights.heads[panel].way(self.packed.head) {
            square.0.as_flattened_mut().iter_mut().for_each(|x| *x = scale(*x, by));
        }
        let phase = weights.phase;
        let [_, rows, columns] = phase.count;
        let first = panel * BLOCK;
        let mut at = 0;
        while at < BLOCK {
            let (y, x) = ((block * BLOCK + at) / self.plan.width, (block * BLOCK + at) % self.plan.width);
            let run = (self.plan.width - x).min(BLOCK - at);
            let len = run.min(columns.saturating_sub(x));
            if y < rows && len > 0 {
                let place = (phase.start[1] + y * phase.step[1]) * self.pass.out[2]
                    + phase.start[2]
                    + x * phase.step[2];
                for (i, sums) in square.0.iter().enumerate().take(self.pass.outs - first) {
                    let bias = self.bias.map(|bias| bias[first + i].widen());
                    let finish = |sum: f32| {
                        // Tiles are for types that are summed in `f32`.
                        let sum: T::Acc = bytemuck::cast(sum);
                        T::narrow(self.activation.apply(bias.map_or(sum, |bias| sum.plus(bias))))
                    };
                    let to = out.wrapping_add((first + i) * volume(self.pass.out) + place);
                    if phase.step[2] == 1 {
                        // SAFETY: these outputs are in the group's planes, and the caller's.
                        let row = unsafe { std::slice::from_raw_parts_mut(to, len) };
                        row.iter_mut().zip(&sums[at..]).for_each(|(y, sum)| *y = finish(*sum));
                    } else {
                        for (j, sum) in sums[at..at + len].iter().enumerate() {
                            // SAFETY: as above.
                            unsafe { to.add(j * phase.step[2]).write(finish(*sum)) };
                        }
                    }
                }
            }
            at += run;
        }
    }
}

/// The sums of a kernel.
#[repr(align(64))]
struct Square([[f32; BLOCK]; BLOCK]);
