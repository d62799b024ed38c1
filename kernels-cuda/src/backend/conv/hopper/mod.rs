//! Convolutions of `f16` and `bf16` on Hopper: which of them its kernels take, and their launch.
//!
//! Windows are gathered by the tensor memory accelerator (im2col): one copy brings 64 channels of one tap of as many windows as a tile
//! has rows. So sums run over blocks of 64 channels, the last of a tap filled up with zeros, and the ring, the tiles and the model of
//! their cycles are those of products. What the kernels do not take, or what that filling makes slower than the kernels of all
//! GPUs, goes to these.

mod weight;
mod windows;

pub(crate) use self::weight::Weight;
pub(crate) use self::windows::Images;

use tensor::{DType, Result};

use self::weight::Taps;
use self::windows::{Blocks, Windows};
use super::geometry::Dim;
use super::product::{Form, Parts};
use crate::CudaError;
use crate::backend::gemm::LIMIT;
use crate::backend::gemm::hopper::{self, Operand, Plan, Unit, element};
use crate::backend::gemm::plan::Extent;
use crate::backend::gemm::work::Work;
use crate::backend::names::short;
use crate::backend::walk::Dims;
use crate::gpu::Gpu;
use crate::launch;
use crate::tensor_map::{Swizzle, TensorMap, Tiled};

/// Channels of a block.
const BLOCK: usize = 64;

/// What windows are multiplied with.
#[derive(Clone, Copy)]
enum Other {
    Weight(Taps),
    /// The gradient of the result, by its channels and windows: on the left side, or on the right one.
    Gradient(Operand, Side),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Left,
    Right,
}

/// A convolution that Hopper's kernels compute.
pub(super) struct Hopper {
    plan: Plan,
    extent: Extent,
    windows: Windows,
    /// Of a group, in the images.
    channels: usize,
    other: Other,
    kernel: String,
}

impl Hopper {
    /// `None` if the kernels do not take it or are not there. `by_k`: whether the channels of the weight lie along k.
    pub(super) fn new(gpu: &Gpu, form: Form, parts: &Parts, by_k: bool) -> Option<Hopper> {
        let Parts { groups, rows, columns, left, right, dtype, .. } = parts;
        let channels = if form == Form::Places { right.1[3].0 } else { right.0[3].0 };
        let halves = matches!(dtype, DType::F16 | DType::BF16);
        // A group's last block would reach into the next group, and columns of the weight's gradient beyond its channels.
        let whole = channels.is_multiple_of(BLOCK) || *groups == 1 && form == Form::Places;
        let empty = volume(columns) == 0 || rows.0 == 0 || volume(&left.1) == 0;
        if !gpu.is_hopper() || !halves || !whole || empty {
            return None;
        }
        let windows = Windows::new(form, parts)?;
        let blocks = BLOCK * Blocks::count(windows.taps(), channels);
        let plan = |extent| (Plan::new(Unit::Halves, extent, gpu.multiprocessors), extent);
        let ((plan, extent), other, name) = match form {
            Form::Places => {
                let extent = Extent { m: volume(columns), n: rows.0, k: blocks, matrices: *groups };
                let name = if by_k { "places" } else { "back" };
                (plan(extent), Other::Weight(Taps::new(parts, &windows, by_k)?), name)
            }
            Form::Taps => {
                let (gradient, k) = (gradient(parts)?, volume(&left.1));
                let left = plan(Extent { m: rows.0, n: blocks, k, matrices: *groups });
                let right = plan(Extent { m: blocks, n: rows.0, k, matrices: *groups });
                let cycles = |(plan, extent): &(Plan, Extent)| plan.cycles(*extent, gpu.multiprocessors);
                if cycles(&left) <= cycles(&right) {
                    (left, Other::Gradient(gradient, Side::Left), "taps")
                } else {
                    (right, Other::Gradient(gradient, Side::Right), "turned")
                }
            }
        };
        if plan.count(extent) > LIMIT || extent.k > LIMIT {
            return None;
        }
        let kernel = format!("hopper_conv_{}_{}_{name}", short(*dtype), plan.tile.name());
        let there = gpu.kernel(&kernel).is_ok();
        there.then_some(Hopper { plan, extent, windows, channels, other, kernel })
    }

    /// How long it takes, as the model of products has it.
    pub(super) fn cycles(&self, gpu: &Gpu) -> f64 {
        self.plan.cycles(self.extent, gpu.multiprocessors)
    }

    /// Computes it: `work` says where results go.
    pub(super) fn run<A, B>(&self, gpu: &'static Gpu, parts: &Parts, work: Work<A, B>) -> Result<()> {
        let Hopper { plan, extent, windows, channels, other, kernel } = self;
        let (tile, dtype, out, pointers) = (&plan.tile, work.dtype, work.out, work.pointers);
        let (images, extent, share) = (windows.images(*channels), *extent, tile.columns / tile.cluster);
        match other {
            Other::Weight(weight) => {
                let maps = [windows.map(dtype, tile.rows)?, weight.map(dtype, share)?];
                let results = if plan.leaves_sums(&out) && out.vector == 1 { results(parts)? } else { None };
                let work = Work { extent, a: images, b: weight.weight, out, pointers, dtype };
                hopper::run(gpu, kernel, launch::hopper_places, plan, &work, maps, results)
            }
            Other::Gradient(gradient, Side::Left) => {
                let maps = [gradient.map(tile.rows)?, windows.map(dtype, BLOCK)?];
                let work = Work { extent, a: gradient.mapped(), b: images, out, pointers, dtype };
                hopper::run(gpu, kernel, launch::hopper_taps, plan, &work, maps, None)
            }
            Other::Gradient(gradient, Side::Right) => {
                let maps = [windows.map(dtype, BLOCK)?, gradient.map(share)?];
                let out = out.turned();
                let work = Work { extent, a: images, b: gradient.mapped(), out, pointers, dtype };
                hopper::run(gpu, kernel, launch::hopper_turned, plan, &work, maps, None)
            }
        }
    }
}

fn volume(dims: &[Dim]) -> usize {
    dims.iter().map(|d| d.0).product()
}

/// Dims that run fastest first as one, if they are one in memory.
fn joined(dims: &[Dim]) -> Option<Dim> {
    let dims = Dims::<1>(dims.iter().filter(|d| d.0 != 1).map(|&(n, s)| (n, [s])).collect()).joined();
    match dims.0[..] {
        [] => Some((1, 0)),
        [(n, [stride])] => Some((n, stride)),
        _ => None,
    }
}

/// The gradient of the result with its windows along k, one after the other, and channels side by side.
fn gradient(parts: &Parts) -> Option<Operand> {
    let batch = [(parts.groups, parts.steps[1])];
    let operand = Operand::new(
        element(Unit::Halves, parts.dtype),
        &parts.left.0,
        joined(&parts.left.1)?,
        &batch,
        parts.at[1],
    )?;
    (!operand.by_k).then_some(operand)
}

/// The map of results with their channels last, if their places lie one after the other.
fn results(parts: &Parts) -> std::result::Result<Option<TensorMap>, CudaError> {
    let Some(places) = joined(&parts.columns) else { return Ok(None) };
    let dims = [parts.rows, places, (parts.groups, parts.steps[0])];
    let tensor = Tiled {
        element: element(Unit::Halves, parts.dtype),
        address: parts.at[0].0,
        dims: &dims.map(|d| d.0 as u64),
        strides: &[bytes(&dims[1]), bytes(&dims[2])],
        box_dims: &[64, 64, 1],
        swizzle: Swizzle::Bytes128,
    };
    tensor.encode().map(Some)
}

/// The stride of a dim in bytes: any that the driver takes where it leads nowhere.
fn bytes(&(n, stride): &Dim) -> u64 {
    if n == 1 { 16 } else { 2 * stride as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gemm::plan;

    /// Whether a forward convolution of so many windows, channels of the result, channels and taps is for these kernels, on an H200.
    fn pays(windows: usize, results: usize, channels: usize, taps: usize) -> bool {
        let of = |k| Extent { m: windows, n: results, k, matrices: 1 };
        let (blocks, sums) = (of(BLOCK * Blocks::count([taps, 1, 1], channels)), of(taps * channels));
        let other = plan::Plan::new(&plan::HALF, sums, 132);
        Plan::new(Unit::Halves, blocks, 132).cycles(blocks, 132) <= other.cycles(sums, 132)
    }

    #[test]
    fn convolutions_of_large_networks_are_for_these_kernels() {
        for (windows, results, channels, taps) in [
            (100_352, 64, 64, 9),
            (100_352, 256, 64, 1),
            (100_352, 64, 256, 1),
            (25_088, 128, 128, 9),
            (6272, 512, 512, 9),
            (1568, 2048, 512, 1),
            (39_200, 96, 96, 9),
        ] {
            assert!(pays(windows, results, channels, taps), "{windows} {results} {channels} {taps}");
        }
    }

    #[test]
    fn blocks_that_are_mostly_filled_up_and_small_images_are_not() {
        assert!(!pays(100_352, 64, 8, 49));
        assert!(!pays(49, 64, 64, 9));
    }
}
