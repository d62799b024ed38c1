//! A product on its way to the GPU, be it of matrices or a convolution: planned, cut into launches, and its parts summed.

use tensor::{DType, Error, Result};

use super::LIMIT;
use super::plan::{Extent, F32, Plan, Tile};
use super::product::{Output, Product, Tiles};
use crate::CudaError;
use crate::backend::names::short;
use crate::backend::storage::New;
use crate::backend::walk::Divisor;
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};
use crate::module::Launch;

/// A product: operands, and where the results go.
#[derive(Clone, Copy)]
pub(in crate::backend) struct Work<A, B> {
    pub(in crate::backend) extent: Extent,
    pub(in crate::backend) a: A,
    pub(in crate::backend) b: B,
    pub(in crate::backend) out: Output,
    /// y, a, b and bias.
    pub(in crate::backend) pointers: [Pointer; 4],
    pub(in crate::backend) dtype: DType,
}

/// What launches the kernels of a kind of operands: y, partial sums, a, b and bias.
pub(in crate::backend) type Launcher<A, B> = fn(
    &Gpu,
    &str,
    Launch,
    Product<A, B>,
    Pointer,
    Pointer,
    Pointer,
    Pointer,
    Pointer,
) -> std::result::Result<(), CudaError>;

impl<A: Copy, B: Copy> Work<A, B> {
    /// In one part, for kernels without tiles.
    pub(in crate::backend) fn whole(&self) -> Product<A, B> {
        self.product(&Plan { tile: F32[0], parts: 1, depth: self.extent.k }, 0)
    }

    /// As the kernels of `plan` take it, from matrix `first` on.
    fn product(&self, plan: &Plan, first: usize) -> Product<A, B> {
        let (down, across) = plan.grid(self.extent);
        Product {
            k: self.extent.k as u32,
            depth: plan.depth as u32,
            first: first as u32,
            parts: Divisor::new(plan.parts),
            tiles: Tiles::new(down, across),
            share: plan.tile.share as u32,
            a: self.a,
            b: self.b,
            out: self.out,
        }
    }
}

/// Computes a product in one of `tiles` by the kernel that `kernel` names for it.
pub(in crate::backend) fn run<A: Copy, B: Copy>(
    gpu: &'static Gpu,
    op: &'static str,
    tiles: &[Tile],
    kernel: impl Fn(&Tile) -> String,
    launcher: Launcher<A, B>,
    work: &Work<A, B>,
) -> Result<()> {
    run_planned(gpu, op, &Plan::new(tiles, work.extent, gpu.multiprocessors), kernel, launcher, work)
}

/// Computes a product as it was planned.
pub(super) fn run_planned<A: Copy, B: Copy>(
    gpu: &'static Gpu,
    op: &'static str,
    plan: &Plan,
    kernel: impl Fn(&Tile) -> String,
    launcher: Launcher<A, B>,
    work: &Work<A, B>,
) -> Result<()> {
    let Work { extent, dtype, .. } = *work;
    let partial = match plan.parts {
        1 => None,
        _ => Some(New::contiguous(gpu, plan.partial(extent), dtype.accumulator())?),
    };
    let sums = partial.as_ref().map_or(Pointer::NONE, New::at);
    launch_planned(op, plan, kernel, work, |kernel, launch, product, [y, a, b, bias]| {
        launcher(gpu, kernel, launch, product, y, sums, a, b, bias)
    })?;
    if plan.parts > 1 {
        sum_parts(gpu, work, plan.parts, sums)?;
    }
    Ok(())
}

/// Launches what a plan cuts a product into, without adding parts: `launcher` is given a kernel, and y, a, b and bias.
pub(super) fn launch_planned<A: Copy, B: Copy>(
    op: &'static str,
    plan: &Plan,
    kernel: impl Fn(&Tile) -> String,
    work: &Work<A, B>,
    launcher: impl Fn(&str, Launch, Product<A, B>, [Pointer; 4]) -> std::result::Result<(), CudaError>,
) -> Result<()> {
    let extent = work.extent;
    let (down, across) = plan.grid(extent);
    let blocks = down.saturating_mul(across).saturating_mul(plan.parts);
    if blocks > LIMIT {
        return Err(Error::argument(op, format!("{down} · {across} tiles are too many for a launch")));
    }
    // As many matrices as a grid has blocks for: mostly all.
    let together = LIMIT / blocks;
    for first in (0..extent.matrices).step_by(together) {
        let matrices = together.min(extent.matrices - first);
        let (tile, grid) = (&plan.tile, (blocks * matrices) as u32);
        let launch = Launch { shared: tile.shared, ..Launch::new(grid, tile.threads) };
        launcher(&kernel(tile), launch, work.product(plan, first), work.pointers)?;
    }
    Ok(())
}

/// Adds the parts of a product, and finishes its results.
pub(super) fn sum_parts<A, B>(gpu: &Gpu, work: &Work<A, B>, parts: usize, sums: Pointer) -> Result<()> {
    let Work { extent, out, pointers: [y, _, _, bias], dtype, .. } = work;
    let count = extent.m * extent.n * extent.matrices;
    let launch = Launch::new(count.div_ceil(256) as u32, 256);
    let kernel = format!("sum_parts_{}", short(*dtype));
    Ok(launch::sum_parts(gpu, &kernel, launch, *out, count as u32, parts as u32, *y, sums, *bias)?)
}
