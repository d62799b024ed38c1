//! How the tiles of a pass are dealt into blocks.

use super::{POSITIONS, SLACK};
use crate::cpu::conv::pass::{Pass, Tap};
use crate::cpu::conv::tiles::{Spot, spots};
use std::ops::Range;

/// The most weights of a position of which all positions stay in the second-level cache.
const WEIGHTS: usize = 64 * 96;

/// The most values of the transformed inputs and sums of a block: what the second-level cache holds beside the weights.
const BLOCK: usize = 160 * 1024;

/// Values of a cache line.
const LINE: usize = 16;

/// Rows of tiles of one image in a block, and where their tiles are among those of a plane of the block.
pub(super) struct Part {
    pub image: usize,
    pub rows: Range<usize>,
    pub first: usize,
}

/// The tiles of a pass, and the blocks that they are dealt into: some rows of tiles, of all images one after the other, in
/// some planes.
pub(super) struct Plan<'a> {
    pub pass: &'a Pass,
    /// The slices of the kernel.
    slices: &'a [Tap],
    /// From the first input plane of an output plane to that of the next.
    pub stride: usize,
    /// Tiles of a plane: rows and columns.
    pub tiles: [usize; 2],
    /// Rows of tiles of a block.
    rows: usize,
    /// Planes of a block.
    planes: usize,
    /// Values from channel to channel, of transformed inputs and of sums.
    pub pitch: [usize; 2],
    /// Values from position to position, likewise.
    pub position: [usize; 2],
}

impl<'a> Plan<'a> {
    pub(super) fn new(pass: &'a Pass) -> Self {
        let phase = &pass.phases[0];
        let (slices, stride, depth) = (&phase.taps[0][..], phase.stride[0], pass.out[0]);
        let tiles = [pass.out[1].div_ceil(2), pass.out[2].div_ceil(2)];
        // Either all of a block is in the second-level cache, the transformed weights included, or one position is, and
        // then more tiles share the reading of the weights. A few blocks there should be for the threads.
        let fits = pass.sources * pass.outs * slices.len() <= WEIGHTS;
        let wanted = if fits { BLOCK / (POSITIONS * (pass.sources + pass.outs)) } else { 112 };
        let wanted = wanted.min(pass.n * depth * tiles[0] * tiles[1] / 8).clamp(32, 128);
        // Planes of a block share inputs, rows do not. Blocks of equal depth, rather than a flat one at the end.
        let planes = (wanted / tiles[1]).clamp(1, depth);
        let planes = depth.div_ceil(depth.div_ceil(planes));
        let rows = (wanted / (planes * tiles[1])).clamp(1, pass.n * tiles[0]);
        let mut plan = Plan { pass, slices, stride, tiles, rows, planes, pitch: [0; 2], position: [0; 2] };
        // An odd number of cache lines, so that the channels do not compete for the same sets.
        let pitch = |planes: usize| ((planes * rows * tiles[1] + SLACK).div_ceil(LINE) | 1) * LINE;
        plan.pitch = [pitch(plan.inputs(planes)), pitch(planes)];
        // A line more than the channels have: nor do the positions, which the transforms write and read side by side.
        plan.position = [pass.sources * plan.pitch[0] + LINE, pass.outs * plan.pitch[1] + LINE];
        plan
    }

    /// Input planes that some consecutive output planes are made of.
    pub(super) fn inputs(&self, planes: usize) -> usize {
        (planes - 1) * self.stride + self.slices.iter().map(|slice| slice.offset + 1).max().unwrap_or(0)
    }

    /// Blocks of rows, and of planes.
    pub(super) fn blocks(&self) -> [usize; 2] {
        [(self.pass.n * self.tiles[0]).div_ceil(self.rows), self.pass.out[0].div_ceil(self.planes)]
    }

    /// The output planes of a block.
    pub(super) fn planes(&self, block: usize) -> Range<usize> {
        block * self.planes..self.pass.out[0].min((block + 1) * self.planes)
    }

    /// The rows of a block by image.
    pub(super) fn parts(&self, block: usize) -> Vec<Part> {
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

    /// Where the inputs of each product of a sum are, for blocks whose planes have `count` tiles.
    pub(super) fn steps(&self, count: usize) -> Vec<usize> {
        let of_source =
            |c: usize| self.slices.iter().map(move |slice| c * self.pitch[0] + slice.offset * count);
        (0..self.pass.sources).flat_map(of_source).collect()
    }

    /// The vectors of a block of `planes` with `count` tiles each, and the tiles of a row of them.
    pub(super) fn spots(&self, planes: usize, count: usize, lanes: usize) -> (Vec<Spot>, usize) {
        // With a stride of 1 inputs and sums go on in step from plane to plane.
        let (rows, width) = if self.stride == 1 { (1, planes * count) } else { (planes, count) };
        let row = |i: usize| Spot { from: i * self.stride * count, to: i * count };
        (spots((0..rows).map(row), width, lanes), width)
    }
}
