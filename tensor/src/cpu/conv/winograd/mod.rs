//! Winograd's convolution F(2x2, 3x3): 3x3 kernels of stride 1 with 4 products per output instead of 9.
//!
//! ```text
//! Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A        summed over the channels inside the brackets
//!
//!      1  0 -1  0          1   0   0            1  1  1  0
//! Bᵀ = 0  1  1  0      G = ½   ½   ½       Aᵀ = 0  1 -1 -1
//!      0 -1  1  0          ½  -½   ½
//!      0  1  0 -1          0   0   1
//! ```
//!
//! Each 4x4 tile d of the input gives a 2x2 tile of outputs. The products of the 16 positions are 16 matrix products over
//! the channels, which take most of the time: it pays where there are many channels on both sides.
//!
//! The sums round differently from those of the definition: the error is 2 to 4 times as large, since the transforms add up
//! to four inputs and weights before they are multiplied. An infinity, and a value near the largest, can become NaN on the way.
//! So an image with an output that is not finite is computed again, as a matrix product: infinities and NaN are
//! those of the definition.

mod transform;

use super::finish::Finish;
use super::level::Levels;
use super::pass::Pass;
use super::planes::{Frame, Images};
use super::spread::side_by_side;
use super::tiles::{Panels, Spot, Tiles, spots};
use super::weights::Weights;
use crate::Result;
use crate::cpu::f32_mode::{F32Mode, f32_mode};
use crate::cpu::isa::{Isa, isa};
use crate::cpu::memory::Memory;
use crate::cpu::threads::{SharedMut, parallel_chunks_mut, parallel_for};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use transform::{Inputs, Outputs};

/// Channels on both sides from which the transforms pay.
const CHANNELS: usize = 32;

/// Positions of a tile.
const POSITIONS: usize = 16;

/// The most values of the transformed inputs and sums of a block: what the second-level cache holds beside the weights.
const BLOCK: usize = 160 * 1024;

/// The most weights of a position of which all positions stay in the second-level cache.
const WEIGHTS: usize = 64 * 96;

/// Room after the tiles of a channel: a vector may run on.
const SLACK: usize = 16;

/// Whether a pass has the form, and is large enough to gain. [`F32Mode::Strict`] asks for the sums of the definition, and
/// matrix tiles multiply faster than this saves.
pub(super) fn suits(pass: &Pass) -> bool {
    if f32_mode() == F32Mode::Strict || isa() == Isa::Amx || pass.phases.len() != 1 {
        return false;
    }
    let taps = |i: usize| &pass.phases[0].taps[i];
    let square = |i: usize| {
        let mut offsets: Vec<usize> = taps(i).iter().map(|t| t.offset).collect();
        offsets.sort_unstable();
        offsets == [0, 1, 2]
    };
    pass.is_dense()
        && pass.phases[0].stride == [1; 3]
        && pass.frame.fold == 1
        && (pass.out[0], taps(0).len()) == (1, 1)
        && taps(0)[0].offset == 0
        && square(1)
        && square(2)
        && pass.sources.min(pass.outs) >= CHANNELS
        && pass.out[1].min(pass.out[2]) >= 4
}

/// Rows of tiles of one image in a block, and where their tiles are among those of the block.
struct Part {
    image: usize,
    rows: Range<usize>,
    first: usize,
}

/// The tiles of a pass.
struct Plan<'a> {
    pass: &'a Pass,
    /// Tiles of an image: rows and columns.
    tiles: [usize; 2],
    /// Rows of tiles of a block.
    rows: usize,
    /// Values from channel to channel.
    pitch: usize,
}

impl<'a> Plan<'a> {
    fn new(pass: &'a Pass) -> Self {
        let tiles = [pass.out[1].div_ceil(2), pass.out[2].div_ceil(2)];
        // Either all of a block is in the second-level cache, the transformed weights included, or one position is, and
        // then more tiles share the reading of the weights. A few blocks there should be for the threads.
        let fits = pass.sources * pass.outs <= WEIGHTS;
        let wanted = if fits { BLOCK / (POSITIONS * (pass.sources + pass.outs)) } else { 112 };
        let wanted = wanted.min(pass.n * tiles[0] * tiles[1] / 8).clamp(32, 128);
        let rows = (wanted / tiles[1]).clamp(1, pass.n * tiles[0]);
        // An odd number of cache lines, so that the channels do not compete for the same sets.
        let lines = (rows * tiles[1] + SLACK).div_ceil(16);
        Plan { pass, tiles, rows, pitch: (lines | 1) * 16 }
    }

    fn blocks(&self) -> usize {
        (self.pass.n * self.tiles[0]).div_ceil(self.rows)
    }

    /// The rows of a block by image.
    fn parts(&self, block: usize) -> Vec<Part> {
        let [height, width] = self.tiles;
        let (start, end) = (block * self.rows, ((block + 1) * self.rows).min(self.pass.n * height));
        (start / height..end.div_ceil(height))
            .map(|image| {
                let (from, to) = (start.max(image * height), end.min((image + 1) * height));
                let rows = from - image * height..to - image * height;
                Part { image, rows, first: (from - start) * width }
            })
            .collect()
    }
}

/// Runs a pass; operands as for [`correlate::run`](super::correlate::run). `exact` computes one image again, another way.
pub(super) fn run(
    pass: &Pass,
    images: &Images<f32>,
    weight: Weights<f32>,
    finish: Finish<f32>,
    out: &mut [f32],
    exact: impl Fn(usize, &mut [f32]) -> Result<()>,
) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let (isa, plan) = (isa(), Plan::new(pass));
    let image = pass.groups * pass.outs * pass.out[1] * pass.out[2];
    let names = ["Winograd's filters", "Winograd's filters of a gradient"];
    let filters = weight.kept(names, pass, || -> Vec<Vec<Panels<f32>>> {
        (0..pass.groups).map(|group| filters(pass, weight.values, group)).collect()
    });
    let spoilt: Vec<AtomicBool> = (0..pass.n).map(|_| AtomicBool::new(false)).collect();
    let shared = SharedMut::new(&mut *out);
    let blocks = plan.blocks();
    side_by_side(blocks * pass.groups, 1 << 20, |unit| {
        let (group, parts) = (unit / blocks, plan.parts(unit % blocks));
        let count = parts.iter().map(|part| part.rows.len()).sum::<usize>() * plan.tiles[1];
        let (inputs, sums) = (pass.sources * plan.pitch, pass.outs * plan.pitch);
        let mut memory = Memory::new(POSITIONS * (inputs + sums) * size_of::<f32>())?;
        let (transformed, rest) = memory.as_mut_slice::<f32>().split_at_mut(POSITIONS * inputs);
        let products = &mut rest[..POSITIONS * sums];
        transform_inputs(&plan, images, group * pass.sources, &parts, isa, transformed)?;
        let steps: Vec<usize> = (0..pass.sources).map(|c| c * plan.pitch).collect();
        let spots = spots(std::iter::once(Spot { from: 0, to: 0 }), count, f32::lanes(isa));
        let zeros = vec![0.0; pass.outs];
        for (i, panels) in filters.value[group].iter().enumerate() {
            let data = &transformed[i * inputs..][..inputs];
            let to = products[i * sums..][..sums].as_mut_ptr();
            // SAFETY: the sums have a place for every tile of every channel.
            let tiles = unsafe { Tiles::new(data, &steps, panels, &zeros, &spots, count, to, plan.pitch) };
            f32::run(isa, tiles);
        }
        for part in &parts {
            let plane = pass.out[1] * pass.out[2];
            let rows = 2 * part.rows.start..pass.out[1].min(2 * part.rows.end);
            let start = part.image * image + group * pass.outs * plane + rows.start * pass.out[2];
            let outputs = Outputs {
                products: &products[part.first..],
                position: sums,
                pitch: plan.pitch,
                outs: pass.outs,
                count: part.rows.len(),
                width: plan.tiles[1],
                bias: finish.bias.map(|bias| &bias[group * pass.outs..][..pass.outs]),
                // SAFETY: the first of these rows is inside the outputs. They belong to one unit.
                out: unsafe { shared.as_mut_ptr().add(start) },
                plane,
                size: [rows.len(), pass.out[2]],
                spoilt: &spoilt[part.image],
            };
            f32::run(isa, outputs);
            for o in 0..pass.outs {
                let start = start + o * plane;
                // SAFETY: as above.
                let outputs = unsafe { shared.slice(start..start + rows.len() * pass.out[2]) };
                finish.complete(isa, outputs, start);
            }
        }
        Ok(())
    })?;
    for (n, out) in out.chunks_exact_mut(image).enumerate() {
        if spoilt[n].load(Relaxed) {
            exact(n, out)?;
        }
    }
    Ok(())
}

/// `G g Gᵀ` of the kernels of a group: per position, a matrix over the channels.
fn filters(pass: &Pass, weight: &[f32], group: usize) -> Vec<Panels<f32>> {
    let (outs, sources) = (pass.outs, pass.sources);
    let mut transformed = vec![0f32; POSITIONS * outs * sources];
    let shared = SharedMut::new(&mut transformed);
    let taps = |i: usize| &pass.phases[0].taps[i];
    let mut from = [0; 9];
    for (row, column) in taps(1).iter().flat_map(|row| taps(2).iter().map(move |column| (row, column))) {
        from[row.offset * 3 + column.offset] = row.index * pass.kernel[2] + column.index;
    }
    parallel_for(outs, |o| {
        let first = group * outs * sources * 9 + o * pass.weight_out;
        // SAFETY: each channel has its own row of each matrix.
        let rows: [&mut [f32]; POSITIONS] = std::array::from_fn(|i| unsafe {
            shared.slice((i * outs + o) * sources..(i * outs + o + 1) * sources)
        });
        for c in 0..sources {
            let g = |i: usize| weight[first + c * pass.weight_source + from[i]];
            let along = |a: f32, b: f32, c: f32| [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c];
            let columns: [[f32; 4]; 3] = std::array::from_fn(|j| along(g(j), g(3 + j), g(6 + j)));
            for i in 0..4 {
                for (j, u) in along(columns[0][i], columns[1][i], columns[2][i]).into_iter().enumerate() {
                    rows[i * 4 + j][c] = u;
                }
            }
        }
    });
    let mut panels: Vec<Option<Panels<f32>>> = (0..POSITIONS).map(|_| None).collect();
    parallel_chunks_mut(&mut panels, 1, |i, panels| {
        let matrix = &transformed[i * outs * sources..][..outs * sources];
        panels[0] = Some(Panels::new(outs, sources, |o, c| matrix[o * sources + c]));
    });
    panels.into_iter().flatten().collect()
}

/// `Bᵀ d B` of all tiles of a block: `[position, channel, tile]`.
fn transform_inputs(
    plan: &Plan,
    images: &Images<f32>,
    first: usize,
    parts: &[Part],
    isa: Isa,
    out: &mut [f32],
) -> Result<()> {
    let pass = plan.pass;
    let size = |part: &Part| (2 * part.rows.len() + 2) * 2 * (plan.tiles[1] + 1);
    let most = parts.iter().map(size).max().unwrap_or(0) + SLACK;
    let mut memory = Memory::new(most * size_of::<f32>())?;
    let rows = &mut memory.as_mut_slice::<f32>()[..most];
    for part in parts {
        let lead = pass.frame.lead;
        // Even columns come before odd ones: those of neighbouring tiles are neighbours.
        let frame = Frame {
            lead: [lead[0], lead[1] - 2 * part.rows.start as isize, lead[2]],
            dims: [1, 2 * part.rows.len() + 2, 2 * plan.tiles[1] + 2],
            fold: 2,
        };
        for channel in 0..pass.sources {
            frame.fill_plane(images, part.image, first + channel, &mut rows[..frame.volume()]);
            let to = channel * plan.pitch + part.first;
            let inputs = Inputs {
                rows,
                count: part.rows.len(),
                width: plan.tiles[1],
                out: &mut out[to..],
                position: pass.sources * plan.pitch,
            };
            f32::run(isa, inputs);
        }
    }
    Ok(())
}
