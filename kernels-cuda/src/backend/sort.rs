//! Stable sorting along a dim, and the first few of the order: tiles in shared memory, then passes over what is left of them.

use tensor::{DType, Result, Shape, Tensor};

use super::lines::countable;
use super::names::number;
use super::storage::{New, at};
use super::walk::Divisor;
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};
use crate::module::Launch;

/// Elements of a tile: `TILE` of `cuda/sort.cu`.
const TILE: usize = 1024;

/// Threads of a block: `SORT_THREADS` of `cuda/sort.cu`.
const THREADS: u32 = 256;

/// Up to here the first few of longer lines are found by taking as many of each tile, which leaves a quarter or less.
const FEW: usize = TILE / 4;

pub(super) fn sort(gpu: &'static Gpu, x: &Tensor, dim: usize, descending: bool) -> Result<(Tensor, Tensor)> {
    topk(gpu, x, dim, x.dims()[dim], descending)
}

/// The first `k` of [`sort`].
pub(super) fn topk(
    gpu: &'static Gpu,
    x: &Tensor,
    dim: usize,
    k: usize,
    largest: bool,
) -> Result<(Tensor, Tensor)> {
    // Lines lie one after the other; the results are views that put the dim back in its place.
    let last = x.rank() - 1;
    let turned = x.transpose(dim as isize, last as isize)?.contiguous()?;
    let shape = turned.shape().with_dim(last, k);
    let (values, indices) =
        (New::contiguous(gpu, shape, x.dtype())?, New::contiguous(gpu, shape, DType::I64)?);
    if shape.numel() > 0 {
        let n = turned.dims()[last];
        let lines = Lines { gpu, dtype: x.dtype(), lines: turned.numel() / n, n };
        countable("sort", &[n, lines.lines * n.div_ceil(TILE) + TILE, lines.lines * k])?;
        let first = First { k, descending: u32::from(largest) };
        lines.run(first, at(&turned), values.at(), indices.at())?;
    }
    let back = |t: New| t.tensor()?.transpose(dim as isize, last as isize);
    Ok((back(values)?, back(indices)?))
}

/// What is wanted: the first `k` in this order.
#[derive(Clone, Copy)]
struct First {
    k: usize,
    descending: u32,
}

/// Lines of `n` elements, one after the other.
struct Lines {
    gpu: &'static Gpu,
    dtype: DType,
    lines: usize,
    n: usize,
}

/// Lines of pairs of a key and a place.
struct Pairs {
    keys: New,
    places: New,
    n: usize,
}

impl Lines {
    fn kernel(&self, form: &str) -> String {
        format!("sort_{form}_{}", number(self.dtype))
    }

    /// The dtype of keys, and what a kernel that takes keys is called.
    fn key(&self, form: &str) -> (DType, String) {
        match self.dtype.size() {
            8 => (DType::I64, format!("sort_{form}_u64")),
            _ => (DType::U32, format!("sort_{form}_u32")),
        }
    }

    /// Room for pairs.
    fn pairs(&self, n: usize) -> Result<Pairs> {
        let shape = Shape::from([self.lines, n]);
        let (key, _) = self.key("");
        Ok(Pairs {
            keys: New::contiguous(self.gpu, shape, key)?,
            places: New::contiguous(self.gpu, shape, DType::U32)?,
            n,
        })
    }

    /// A launch over all tiles of lines of `n`, and how many make a line.
    fn tiles(&self, n: usize, size: usize) -> (Launch, Divisor) {
        let per_line = n.div_ceil(size);
        let blocks = (self.lines * per_line).div_ceil(TILE / size);
        (Launch::new(blocks as u32, THREADS), Divisor::new(per_line))
    }

    fn run(&self, first: First, x: Pointer, values: Pointer, indices: Pointer) -> Result<()> {
        let First { k, descending } = first;
        let (gpu, lines, n) = (self.gpu, self.lines as u32, self.n as u32);
        if self.n <= TILE {
            let size = self.n.next_power_of_two();
            let (launch, per_line) = self.tiles(self.n, size);
            let kernel = self.kernel("tiles");
            return Ok(launch::sort_tiles(
                gpu,
                &kernel,
                launch,
                per_line,
                lines,
                n,
                size as u32,
                k as u32,
                descending,
                values,
                indices,
                x,
            )?);
        }
        // All of each tile, or of each as many as are wanted.
        let keep = if k <= FEW { k } else { TILE };
        let (launch, per_line) = self.tiles(self.n, TILE);
        let mut pairs = self.pairs(if k <= FEW { self.n.div_ceil(TILE) * keep } else { self.n })?;
        let (keys, places) = (pairs.keys.at(), pairs.places.at());
        let kernel = self.kernel("pairs");
        launch::sort_pairs(
            gpu,
            &kernel,
            launch,
            per_line,
            lines,
            n,
            TILE as u32,
            keep as u32,
            descending,
            keys,
            places,
            x,
        )?;
        pairs = if k <= FEW { self.reduce(pairs, k)? } else { self.merge(pairs)? };
        let count = self.lines * k;
        let launch = Launch::new((count as u32).div_ceil(THREADS), THREADS);
        launch::sort_pick(
            gpu,
            &self.kernel("pick"),
            launch,
            Divisor::new(k),
            count as u32,
            self.n as i64,
            pairs.n as i64,
            values,
            indices,
            pairs.places.at(),
            x,
        )?;
        Ok(())
    }

    /// The first `k` of each tile, and again of those, until they come of one.
    fn reduce(&self, mut pairs: Pairs, k: usize) -> Result<Pairs> {
        let (_, kernel) = self.key("again");
        while pairs.n > k {
            let size = pairs.n.next_power_of_two().min(TILE);
            let (launch, per_line) = self.tiles(pairs.n, size);
            let next = self.pairs(pairs.n.div_ceil(size) * k)?;
            let (keys, places) = (next.keys.at(), next.places.at());
            let (lines, n) = (self.lines as u32, pairs.n as u32);
            let (old_keys, old_places) = (pairs.keys.at(), pairs.places.at());
            launch::sort_again(
                self.gpu,
                &kernel,
                launch,
                per_line,
                lines,
                n,
                size as u32,
                k as u32,
                keys,
                places,
                old_keys,
                old_places,
            )?;
            pairs = next;
        }
        Ok(pairs)
    }

    /// Sorted tiles become sorted lines.
    fn merge(&self, mut pairs: Pairs) -> Result<Pairs> {
        let (_, kernel) = self.key("merge");
        let mut run = TILE;
        while run < self.n {
            let (launch, per_line) = self.tiles(self.n, TILE);
            let next = self.pairs(self.n)?;
            let (keys, places) = (next.keys.at(), next.places.at());
            let (old_keys, old_places) = (pairs.keys.at(), pairs.places.at());
            launch::sort_merge(
                self.gpu,
                &kernel,
                launch,
                per_line,
                self.n as u32,
                run as u32,
                keys,
                places,
                old_keys,
                old_places,
            )?;
            pairs = next;
            run *= 2;
        }
        Ok(pairs)
    }
}
