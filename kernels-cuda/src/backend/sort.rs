//! Stable sort: tiles in shared memory, then merging passes.

use tensor::{DType, Result, Tensor};

use super::lines::countable;
use super::names::number;
use super::storage::{New, at};
use crate::gpu::Gpu;
use crate::launch;
use crate::module::Launch;

/// Elements of a tile: `TILE` of `cuda/sort.cu`.
const TILE: usize = 1024;

/// Blocks along y.
const MOST_ROWS: usize = 1 << 15;

pub(super) fn sort(gpu: &'static Gpu, x: &Tensor, dim: usize, descending: bool) -> Result<(Tensor, Tensor)> {
    // Lines lie one after the other; the results are views that put the dim back in its place.
    let last = x.rank() - 1;
    let turned = x.transpose(dim as isize, last as isize)?.contiguous()?;
    let (shape, n) = (turned.shape(), turned.dims()[last]);
    countable("sort", &[turned.numel()])?;
    let mut sorted = (New::contiguous(gpu, shape, x.dtype())?, New::contiguous(gpu, shape, DType::I64)?);
    if turned.numel() > 0 {
        let lines = turned.numel() / n;
        let (size, name) = (n.next_power_of_two().min(TILE), number(x.dtype()));
        let mut launch = Launch::new(n.div_ceil(size) as u32, (size / 2).max(32) as u32);
        let kernel = format!("sort_tiles_{name}");
        // A grid has few blocks along y and z: lines go in parts.
        let mut first = 0;
        while first < lines {
            let rows = (lines - first).min(MOST_ROWS);
            launch.grid[1] = rows as u32;
            let from = |at: launch::Pointer, size: usize| launch::Pointer(at.0 + (first * n * size) as u64);
            let (values, indices) = (from(sorted.0.at(), x.dtype().size()), from(sorted.1.at(), 8));
            let source = from(at(&turned), x.dtype().size());
            launch::sort_tiles(
                gpu,
                &kernel,
                launch,
                n as u32,
                size as u32,
                u32::from(descending),
                values,
                indices,
                source,
            )?;
            first += rows;
        }
        let mut run = size;
        while run < n {
            let merged = (New::contiguous(gpu, shape, x.dtype())?, New::contiguous(gpu, shape, DType::I64)?);
            let total = turned.numel() as u32;
            launch::merge_runs(
                gpu,
                &format!("merge_runs_{name}"),
                Launch::new(total.div_ceil(256), 256),
                total,
                n as u32,
                run as u32,
                u32::from(descending),
                merged.0.at(),
                merged.1.at(),
                sorted.0.at(),
                sorted.1.at(),
            )?;
            sorted = merged;
            run *= 2;
        }
    }
    let back = |t: New| t.tensor()?.transpose(dim as isize, last as isize);
    Ok((back(sorted.0)?, back(sorted.1)?))
}
