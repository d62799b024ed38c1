//! The gradient in the weight by the same transforms: what F(2x2, 3x3) saves in one direction it saves in all.
//!
//! ```text
//! dw = Gᵀ [ Σ (A dy Aᵀ) ⊙ (Bᵀ x B) ] G        summed over the tiles inside the brackets
//! ```
//!
//! The 4x4 tiles of the input and the 2x2 tiles of the gradient are those of the forward pass. For each of the 16 positions the
//! sums are a matrix product over the tiles. Both operands lie with the channels innermost, which is where the vectors of the
//! transforms and of the products are, so that neither is packed. The positions are computed a row at a time: its sums
//! and both operands for a block of tiles stay in the second-level cache.
//!
//! The sum over the tiles is cut into parts by shape alone; their sums are added in order. Values that are not finite spoil
//! what they are added to: then the gradient is computed another way, as it is where neighbours of both operands differ by orders
//! of magnitude ([`alike`]).

use super::alike::alike;
use super::lines::Lines;
use super::{CHANNELS, POSITIONS};
use crate::cpu::conv::contiguous;
use crate::cpu::conv::geometry::Geometry;
use crate::cpu::conv::level::Levels;
use crate::cpu::conv::spread::side_by_side;
use crate::cpu::conv::tiles::{Spot, Tiles, spots};
use crate::cpu::f32_mode::{F32Mode, f32_mode};
use crate::cpu::isa::{Isa, isa};
use crate::cpu::memory::Memory;
use crate::cpu::storage::elements;
use crate::cpu::threads::{SharedMut, parallel_chunks_mut};
use crate::{Result, Tensor};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Tiles of a block: so many that adding up the sums is little beside them, and few enough for the caches.
const TILES: usize = 64;

/// Tiles that are added up one after the other; see [`super::CHAIN`]. What the transforms do to gradients rounds more.
const CHAIN: usize = 16;

/// Rows and columns of positions.
const SIDE: usize = 4;

/// The most sums of a position that a unit has, unless its input channels alone make more.
const SUMS: usize = 1 << 14;

/// Units of a gradient, as far as parts of the sum can make them.
const UNITS: usize = 32;

/// Values of a cache line, and of the widest vector.
const LINE: usize = 16;

/// Whether a gradient has the form, and is large enough to gain; see [`super::suits`].
pub(in crate::cpu::conv) fn suits(g: &Geometry) -> bool {
    f32_mode() != F32Mode::Strict
        && isa() != Isa::Amx
        && (g.w, g.stride, g.dilation) == ([1, 3, 3], [1; 3], [1; 3])
        && (g.x[0], g.padding[0]) == (1, 0)
        && g.c.min(g.k) >= CHANNELS
        && g.y[1].min(g.y[2]) >= 4
}

/// How the sums are cut.
struct Plan {
    /// Rows and columns of tiles of an image.
    tiles: [usize; 2],
    /// All tiles.
    total: usize,
    /// Output channels of a group are cut into so many chunks, of at most `outs`.
    chunks: usize,
    outs: usize,
    /// From row to row of a matrix of sums.
    row: usize,
    /// Parts of the sum over the tiles.
    parts: usize,
}

impl Plan {
    fn new(g: &Geometry) -> Plan {
        let tiles = [g.y[1].div_ceil(2), g.y[2].div_ceil(2)];
        let total = g.n * tiles[0] * tiles[1];
        // No fewer than a vector has lanes, in any chunk.
        let chunks = g.k.div_ceil((SUMS / g.c).max(2 * LINE));
        let units = SIDE * g.groups * chunks;
        let parts = UNITS.div_ceil(units).min(total.div_ceil(TILES));
        Plan { tiles, total, chunks, outs: g.k.div_ceil(chunks), row: g.c.next_multiple_of(LINE), parts }
    }

    /// Sums of one position in one unit.
    fn matrix(&self) -> usize {
        self.outs * self.row
    }

    /// The output channels of a chunk.
    fn channels(&self, k: usize, chunk: usize) -> Range<usize> {
        k * chunk / self.chunks..k * (chunk + 1) / self.chunks
    }

    /// The tiles of a part, in blocks.
    fn blocks(&self, part: usize) -> impl Iterator<Item = Range<usize>> {
        let blocks = self.total.div_ceil(TILES);
        let blocks = blocks * part / self.parts..blocks * (part + 1) / self.parts;
        blocks.map(|block| block * TILES..self.total.min((block + 1) * TILES))
    }
}

/// Computes the gradient, unless a value is not finite or it would be less accurate than by the definition: then it says no.
///
/// # Shapes
/// - x: `[n, groups · c, x…]`, grad: `[n, groups · k, y…]`
/// - out: `[groups · k, c, 3, 3]` in row-major order
pub(in crate::cpu::conv) fn run(g: &Geometry, x: &Tensor, grad: &Tensor, out: &mut [f32]) -> Result<bool> {
    if out.is_empty() || g.n == 0 {
        return Ok(false);
    }
    let (isa, plan) = (isa(), Plan::new(g));
    let last = |x: &Tensor| {
        let spatial = 2..x.rank() as isize;
        contiguous(&x.permute([0].into_iter().chain(spatial).chain([1]).collect::<Vec<_>>())?)
    };
    let (x, grad) = (last(x)?, last(grad)?);
    let (x, grad) = (elements::<f32>(&x), elements::<f32>(&grad));

    let windows = |values: &[f32], [rows, columns]: [usize; 2], channels: usize| {
        let [down, across] = [rows, columns].map(|side| (side + 1).saturating_sub(SIDE));
        alike(g.n * down * across * channels, |i| {
            let (c, at) = (i % channels, i / channels);
            let (n, y, x) = (at / (down * across), at / across % down, at % across);
            std::array::from_fn::<f32, { SIDE * SIDE }, _>(|i| {
                values[((n * rows + y + i / SIDE) * columns + x + i % SIDE) * channels + c]
            })
        })
    };
    if !windows(grad, [g.y[1], g.y[2]], g.groups * g.k) && !windows(x, [g.x[1], g.x[2]], g.groups * g.c) {
        return Ok(false);
    }

    // `[groups, chunks, parts, position, outs, c]`
    let units = g.groups * plan.chunks * plan.parts * SIDE;
    let size = SIDE * plan.matrix();
    let mut memory = Memory::new(units * size * size_of::<f32>())?;
    let sums = &mut memory.as_mut_slice::<f32>()[..units * size];
    let shared = SharedMut::new(&mut *sums);
    // An odd number of cache lines from tile to tile, and one line more from position to position: they do not compete for the
    // same sets.
    let pitch = [g.c, plan.outs].map(|channels| (channels.div_ceil(LINE) | 1) * LINE);
    let zeros = vec![0.0; g.c.max(plan.outs)];
    let steps: Vec<usize> = (0..TILES).map(|tile| tile * pitch[0]).collect();
    let width = g.c.next_multiple_of(f32::lanes(isa));
    let spots = spots(std::iter::once(Spot { from: 0, to: 0 }), width, f32::lanes(isa));
    side_by_side(units, 1 << 20, |unit| {
        let (row, part, at) = (unit % SIDE, unit / SIDE % plan.parts, unit / SIDE / plan.parts);
        let (group, chunk) = (at / plan.chunks, at % plan.chunks);
        let channels = plan.channels(g.k, chunk);
        // SAFETY: each unit has sums of its own.
        let sums = unsafe { shared.slice(unit * size..(unit + 1) * size) };
        sums.fill(0.0);
        let position = pitch.map(|pitch| TILES * pitch + LINE);
        let mut memory = Memory::new(SIDE * (position[0] + position[1]) * size_of::<f32>())?;
        let (left, right) = memory.as_mut_slice::<f32>().split_at_mut(SIDE * position[0]);
        // After the last channel, up to a whole vector.
        left.fill(0.0);
        for block in plan.blocks(part) {
            let mut tile = block.start;
            while tile < block.end {
                let [height, width] = plan.tiles;
                let (n, i, j) = (tile / (height * width), tile / width % height, tile % width);
                let tiles = (width - j).min(block.end - tile);
                let corner = [2 * i, 2 * j].map(|at| at as isize);
                let inputs = Lines::<4> {
                    image: &x[n * g.x[1] * g.x[2] * g.groups * g.c + group * g.c..],
                    size: [g.x[1], g.x[2]],
                    pitch: g.groups * g.c,
                    channels: g.c,
                    corner: [corner[0] - g.padding[1] as isize, corner[1] - g.padding[2] as isize],
                    tiles,
                    row,
                    zeros: &zeros,
                    out: &mut left[(tile - block.start) * pitch[0]..],
                    to: [position[0], pitch[0]],
                };
                f32::run(isa, inputs);
                let gradients = Lines::<2> {
                    image: &grad[n * g.y[1] * g.y[2] * g.groups * g.k + group * g.k + channels.start..],
                    size: [g.y[1], g.y[2]],
                    pitch: g.groups * g.k,
                    channels: channels.len(),
                    corner,
                    tiles,
                    row,
                    zeros: &zeros,
                    out: &mut right[(tile - block.start) * pitch[1]..],
                    to: [position[1], pitch[1]],
                };
                f32::run(isa, gradients);
                tile += tiles;
            }
            for (i, sums) in sums.chunks_exact_mut(plan.matrix()).enumerate() {
                let data = &left[i * position[0]..][..position[0]];
                let weights = (&right[i * position[1]..][..position[1]], channels.len(), pitch[1]);
                // SAFETY: the sums have a row of whole vectors for each output channel.
                let tiles = unsafe {
                    Tiles::adding(data, &steps[..block.len()], weights, &spots, sums.as_mut_ptr(), plan.row)
                };
                f32::run(isa, tiles.chained(CHAIN));
            }
        }
        Ok(())
    })?;
    Ok(collect(g, &plan, sums, out))
}

/// `Gᵀ M G` of the sums M of all parts; whether all results are finite.
fn collect(g: &Geometry, plan: &Plan, sums: &[f32], out: &mut [f32]) -> bool {
    let finite = AtomicBool::new(true);
    let of_part = POSITIONS * plan.matrix();
    parallel_chunks_mut(out, g.c * 9, |channel, out| {
        let (group, k) = (channel / g.k, channel % g.k);
        let chunk = ((k + 1) * plan.chunks - 1) / g.k;
        let row = (k - plan.channels(g.k, chunk).start) * plan.row;
        let first = (group * plan.chunks + chunk) * plan.parts * of_part + row;
        // The parts of the row of each position, added up.
        let mut rows = vec![0.0; POSITIONS * g.c];
        for (position, row) in rows.chunks_exact_mut(g.c).enumerate() {
            for part in 0..plan.parts {
                let from = &sums[first + part * of_part + position * plan.matrix()..][..g.c];
                row.iter_mut().zip(from).for_each(|(sum, value)| *sum += value);
            }
        }
        let mut all = true;
        for (c, out) in out.chunks_exact_mut(9).enumerate() {
            // `Gᵀ` times a column.
            let weight = |m: [f32; 4]| {
                let (plus, minus) = (0.5 * (m[1] + m[2]), 0.5 * (m[1] - m[2]));
                [m[0] + plus, minus, plus + m[3]]
            };
            let m = |i: usize, j: usize| rows[(i * SIDE + j) * g.c + c];
            let columns: [[f32; 3]; 4] = std::array::from_fn(|j| weight(std::array::from_fn(|i| m(i, j))));
            for (i, row) in out.chunks_exact_mut(3).enumerate() {
                row.copy_from_slice(&weight(columns.map(|column| column[i])));
                all &= row.iter().all(|value| value.is_finite());
            }
        }
        if !all {
            finite.store(false, Relaxed);
        }
    });
    finite.into_inner()
}
