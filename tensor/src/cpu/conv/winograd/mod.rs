//! Winograd's convolution F(2x2, 3x3): 3x3 kernels of stride 1 with 4 products per output instead of 9, and kernels of
//! several such slices.
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
//! A kernel with a depth is one of flat kernels, whose products are summed before the last transform: to the matrix products
//! its slices are channels. Every plane of the input is transformed once for all planes of a block that it is part of.
//!
//! The gradient in the weight is the transposed algorithm, with as few products ([`gradient`]).
//!
//! The sums round differently from those of the definition. The transforms add up to four inputs and weights before they are
//! multiplied, which would make errors 2 to 3 times as large, but a sum has 9 times fewer terms, and these are added up in short
//! chains: errors are 0.4 to 1.4 times those of the definition, in the gradient of the weight up to 1.6 times, most where many
//! weights are zero. They would be larger where neighbours of both operands differ by orders of magnitude; such operands are multiplied by the definition ([`alike`]).
//!
//! An infinity, and a value near the largest, can become NaN on the way.
//! So an image with an output that is not finite is computed again, as a matrix product: infinities and NaN are
//! those of the definition.

mod alike;
mod gradient;
mod lines;
mod plan;
#[cfg(test)]
mod tests;
mod transform;

use super::finish::Finish;
use super::geometry::{flat, volume};
use super::level::Levels;
use super::pass::Pass;
use super::planes::{Frame, Images};
use super::spread::side_by_side;
use super::tiles::{Panels, Tiles};
use super::weights::Weights;
use crate::Result;
use crate::cpu::f32_mode::{F32Mode, f32_mode};
use crate::cpu::isa::{Isa, isa};
use crate::cpu::memory::Memory;
use crate::cpu::threads::{SharedMut, parallel_chunks_mut, parallel_for};
use alike::alike;
pub(super) use gradient::{run as grad_weight, suits as suits_gradient};
use plan::{Part, Plan};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use transform::{Inputs, Outputs};

/// Channels on both sides from which the transforms pay.
const CHANNELS: usize = 32;

/// The most input planes from the first slice of a kernel to the last.
const SLICES: usize = 8;

/// Positions of a tile.
const POSITIONS: usize = 16;

/// Products of a sum that are added up one after the other: so few that the sums are about as exact as the definition's
/// longer ones.
const CHAIN: usize = 32;

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
        && pass.phases[0].stride[1..] == [1; 2]
        && pass.frame.fold == 1
        // Few planes that are transformed without need.
        && pass.phases[0].stride[0] <= taps(0).len()
        && taps(0).iter().all(|tap| tap.offset < SLICES)
        && square(1)
        && square(2)
        && pass.sources.min(pass.outs) >= CHANNELS
        && pass.out[1].min(pass.out[2]) >= 4
}

/// Runs a pass, unless it would be less accurate than by the definition: then it says no. Operands as for
/// [`correlate::run`](super::correlate::run). `exact` computes one image again, another way.
pub(super) fn run(
    pass: &Pass,
    images: &Images<f32>,
    weight: Weights<f32>,
    finish: Finish<f32>,
    out: &mut [f32],
    exact: impl Fn(usize, &mut [f32]) -> Result<()>,
) -> Result<bool> {
    if out.is_empty() {
        return Ok(true);
    }
    let (isa, plan) = (isa(), Plan::new(pass));
    let (slab, plane) = (pass.out[1] * pass.out[2], volume(pass.out));
    let image = pass.groups * pass.outs * plane;
    let names = ["Winograd's filters", "Winograd's filters of a gradient"];
    let filters = weight.kept(names, pass, || -> Option<Vec<Vec<Panels<f32>>>> {
        let kernel = |i: usize| -> [f32; 9] { std::array::from_fn(|j| weight.values[i * 9 + j]) };
        alike(weight.values.len() / 9, kernel)
            .then(|| (0..pass.groups).map(|group| filters(pass, weight.values, group)).collect())
    });
    let Some(filters) = &filters.value else {
        return Ok(false);
    };
    let spoilt: Vec<AtomicBool> = (0..pass.n).map(|_| AtomicBool::new(false)).collect();
    let shared = SharedMut::new(&mut *out);
    let [blocks, deep] = plan.blocks();
    side_by_side(blocks * deep * pass.groups, 1 << 20, |unit| {
        let (group, planes, parts) =
            (unit / (blocks * deep), plan.planes(unit / blocks % deep), plan.parts(unit % blocks));
        let count = parts.iter().map(|part| part.rows.len()).sum::<usize>() * plan.tiles[1];
        let [inputs, sums] = plan.position;
        let mut memory = Memory::new(POSITIONS * (inputs + sums) * size_of::<f32>())?;
        let (transformed, rest) = memory.as_mut_slice::<f32>().split_at_mut(POSITIONS * inputs);
        let products = &mut rest[..POSITIONS * sums];
        transform_inputs(&plan, images, group * pass.sources, &planes, &parts, isa, transformed)?;
        let steps = plan.steps(count);
        let (spots, width) = plan.spots(planes.len(), count, f32::lanes(isa));
        let zeros = vec![0.0; pass.outs];
        for (i, panels) in filters[group].iter().enumerate() {
            let data = &transformed[i * inputs..][..inputs];
            let to = products[i * sums..][..sums].as_mut_ptr();
            // SAFETY: the sums have a place for every tile of every channel.
            let tiles = unsafe { Tiles::new(data, &steps, panels, &zeros, &spots, width, to, plan.pitch[1]) };
            f32::run(isa, tiles.chained(CHAIN));
        }
        for (at, d, part) in
            planes.clone().enumerate().flat_map(|(at, d)| parts.iter().map(move |part| (at, d, part)))
        {
            let rows = 2 * part.rows.start..pass.out[1].min(2 * part.rows.end);
            let start = part.image * image + group * pass.outs * plane + d * slab + rows.start * pass.out[2];
            let outputs = Outputs {
                products: &products[at * count + part.first..],
                position: sums,
                pitch: plan.pitch[1],
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
    Ok(true)
}

/// `G g Gᵀ` of the kernels of a group: per position, a matrix of the output channels and of the slices of each source channel.
fn filters(pass: &Pass, weight: &[f32], group: usize) -> Vec<Panels<f32>> {
    let [slices, rows, columns] = &pass.phases[0].taps;
    let (outs, steps) = (pass.outs, pass.sources * slices.len());
    let mut transformed = vec![0f32; POSITIONS * outs * steps];
    let shared = SharedMut::new(&mut transformed);
    let mut from = [0; 9];
    for (row, column) in rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column))) {
        from[row.offset * 3 + column.offset] = flat(pass.kernel, [0, row.index, column.index]);
    }
    parallel_for(outs, |o| {
        let first = group * outs * pass.sources * volume(pass.kernel) + o * pass.weight_out;
        // SAFETY: each channel has its own row of each matrix.
        let rows: [&mut [f32]; POSITIONS] = std::array::from_fn(|i| unsafe {
            shared.slice((i * outs + o) * steps..(i * outs + o + 1) * steps)
        });
        let of_source = |c: usize| {
            slices.iter().map(move |slice| c * pass.weight_source + flat(pass.kernel, [slice.index, 0, 0]))
        };
        for (step, at) in (0..pass.sources).flat_map(of_source).enumerate() {
            let g = |i: usize| weight[first + at + from[i]];
            let along = |a: f32, b: f32, c: f32| [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c];
            let columns: [[f32; 4]; 3] = std::array::from_fn(|j| along(g(j), g(3 + j), g(6 + j)));
            for i in 0..4 {
                for (j, u) in along(columns[0][i], columns[1][i], columns[2][i]).into_iter().enumerate() {
                    rows[i * 4 + j][step] = u;
                }
            }
        }
    });
    let mut panels: Vec<Option<Panels<f32>>> = (0..POSITIONS).map(|_| None).collect();
    parallel_chunks_mut(&mut panels, 1, |i, panels| {
        let matrix = &transformed[i * outs * steps..][..outs * steps];
        panels[0] = Some(Panels::new(outs, steps, |o, step| matrix[o * steps + step]));
    });
    panels.into_iter().flatten().collect()
}

/// `Bᵀ d B` of all tiles of a block: `[position, channel, input plane, tile]`.
fn transform_inputs(
    plan: &Plan,
    images: &Images<f32>,
    first: usize,
    planes: &Range<usize>,
    parts: &[Part],
    isa: Isa,
    out: &mut [f32],
) -> Result<()> {
    let pass = plan.pass;
    let size = |part: &Part| (2 * part.rows.len() + 2) * 2 * (plan.tiles[1] + 1);
    let most = parts.iter().map(size).max().unwrap_or(0) + SLACK;
    let count = parts.iter().map(|part| part.rows.len()).sum::<usize>() * plan.tiles[1];
    let mut memory = Memory::new(most * size_of::<f32>())?;
    let rows = &mut memory.as_mut_slice::<f32>()[..most];
    // In the order of the results: what a vector writes beyond its tiles is overwritten.
    for (at, part) in (0..plan.inputs(planes.len())).flat_map(|at| parts.iter().map(move |part| (at, part))) {
        let (lead, plane) = (pass.frame.lead, planes.start * plan.stride + at);
        // Even columns come before odd ones: those of neighbouring tiles are neighbours.
        let frame = Frame {
            lead: [lead[0] - plane as isize, lead[1] - 2 * part.rows.start as isize, lead[2]],
            dims: [1, 2 * part.rows.len() + 2, 2 * plan.tiles[1] + 2],
            fold: 2,
        };
        rows[..frame.volume()].fill(0.0);
        for channel in 0..pass.sources {
            frame.replace_plane(images, part.image, first + channel, &mut rows[..frame.volume()]);
            let to = channel * plan.pitch[0] + at * count + part.first;
            let inputs = Inputs {
                rows,
                count: part.rows.len(),
                width: plan.tiles[1],
                out: &mut out[to..],
                position: plan.position[0],
            };
            f32::run(isa, inputs);
        }
    }
    Ok(())
}
