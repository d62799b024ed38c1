//! A convolution as a product: its parts as kernels take them.

use tensor::{DType, F32Mode, Result, f32_mode};

use super::geometry::{Dim, Image};
use super::hopper::Hopper;
use super::order::Order;
use crate::backend::gemm::epilogue::Epilogue;
use crate::backend::gemm::plan::{self, Extent, Tile};
use crate::backend::gemm::product::{Axis, Extents, Frame, Gathered, Output, Strided, runs_fit};
use crate::backend::gemm::work::{Work, run};
use crate::backend::gemm::{LIMIT, countable};
use crate::backend::names::short;
use crate::backend::walk::Dims;
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};
use crate::module::Launch;

/// What the columns of the right operand are, and what sums run over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Columns are places, sums run over channels and taps: forward, and the gradient of the input.
    Places,
    /// Columns are channels and taps, sums run over places: the gradient of the weight.
    Taps,
}

/// A product of one of the three kinds, for each group: as it is for planes, with channels outside of taps.
pub(super) struct Parts {
    pub(super) groups: usize,
    /// Of the result.
    pub(super) rows: Dim,
    pub(super) columns: [Dim; 4],
    /// Rows and k of the left operand.
    pub(super) left: ([Dim; 4], [Dim; 4]),
    /// Columns and k of the right one, and which of them lie in the image.
    pub(super) right: ([Dim; 4], [Dim; 4]),
    pub(super) frame: Frame,
    /// The images that windows are taken of.
    pub(super) image: Image,
    pub(super) bias: Option<(Pointer, isize)>,
    pub(super) epilogue: Epilogue,
    /// From group to group, and where the first begins: of the result and of both operands.
    pub(super) steps: [isize; 3],
    pub(super) at: [Pointer; 3],
    pub(super) dtype: DType,
}

/// Computes a product in the kernels of an order.
pub(super) fn product(
    gpu: &'static Gpu,
    op: &'static str,
    form: Form,
    order: Order,
    parts: Parts,
) -> Result<()> {
    let (rows, columns, k) = (parts.rows.0, volume(&parts.columns), volume(&parts.left.1));
    if rows == 0 || columns == 0 {
        return Ok(());
    }
    for n in [rows, columns, k.max(1), parts.groups] {
        countable(op, n)?;
    }
    match (order, form) {
        (Order::Planes, _) => planes(gpu, op, form, parts),
        (Order::Last { .. }, Form::Places) => places_by_channels(gpu, op, parts),
        (Order::Last { .. }, Form::Taps) => taps_by_channels(gpu, op, parts),
    }
}

fn volume(dims: &Extents) -> usize {
    dims.iter().map(|d| d.0).product()
}

/// The kernels' tiles of a dtype, and of `f32` in a mode, for sums of `k` terms on a GPU of this compute capability: as for matrices, but
/// that there are no six products of parts for planes.
fn tiles(dtype: DType, planes: bool, mode: F32Mode, k: usize, capability: (u32, u32)) -> &'static [Tile] {
    match (dtype, mode) {
        (DType::F64, _) => &plan::F64,
        (DType::F16 | DType::BF16, _) => &plan::HALF,
        (_, F32Mode::Auto) if planes => &plan::F32,
        _ => plan::of_f32(mode, k, capability),
    }
}

impl Parts {
    /// Elements of 16 bytes.
    fn lanes(&self) -> usize {
        16 / self.dtype.size()
    }

    /// The groups, with their steps in the result or an operand.
    fn step(&self, which: usize) -> [Dim; 1] {
        [(self.groups, self.steps[which])]
    }

    fn bias_stride(&self) -> isize {
        self.bias.map_or(0, |(_, stride)| stride)
    }

    fn bias_at(&self) -> Pointer {
        self.bias.map_or(Pointer::NONE, |(at, _)| at)
    }

    /// Whether runs of 16 bytes along `along`, joined where dims are one in memory, are whole and aligned in the result or an operand.
    fn fit(&self, which: usize, along: &Extents, other: &Extents) -> bool {
        let dims = Dims::<1>(along.iter().filter(|d| d.0 != 1).map(|&(n, s)| (n, [s])).collect()).joined();
        let dims: Vec<Dim> = dims.0.iter().map(|&(n, [s])| (n, s)).collect();
        runs_fit(&dims, &[other, &self.step(which)], self.at[which].0, self.lanes(), self.dtype.size())
    }

    /// As [`fit`](Self::fit) of the result, for it and what is read to finish it.
    fn result_fits(&self, along: &Extents, other: &Extents) -> bool {
        self.epilogue.is_aligned() && self.fit(0, along, other)
    }

    /// Whether the channels, which come first in `along`, are whole runs.
    fn channels_fit(&self, which: usize, along: &Extents, other: &Extents) -> bool {
        along[0].0 > 1
            && runs_fit(along, &[other, &self.step(which)], self.at[which].0, self.lanes(), self.dtype.size())
    }
}

/// The channels before the taps, in place of behind them.
fn by_channels([a, b, c, channels]: [Dim; 4]) -> [Dim; 4] {
    [channels, a, b, c]
}

/// In planes: rows of the result are channels, and runs of 16 bytes lie along places.
fn planes(gpu: &'static Gpu, op: &'static str, form: Form, parts: Parts) -> Result<()> {
    let Parts { groups, rows, columns, left, right, frame, steps, at, dtype, .. } = parts;
    let extent = Extent { m: rows.0, n: volume(&columns), k: volume(&left.1), matrices: groups };
    // Windows of one tap that cover the image are the image.
    let (places, taps) = if form == Form::Places { (&right.0, &right.1) } else { (&right.1, &right.0) };
    let covers = |s: usize| taps[s].0 == 1 && frame.shifts[s] == 0 && frame.sizes[s] == places[s].0;
    let runs = (0..3).all(covers) && parts.fit(2, places, taps);
    let bias = parts.bias_stride();
    let batch = Dims(vec![(groups, [steps[0], steps[1], steps[2], bias * rows.0 as isize])]).joined();
    let work = Work {
        extent,
        a: Strided::new(&left.0, &left.1, parts.fit(1, &left.1, &left.0)),
        b: Gathered::new(&right.0, &right.1, frame, runs),
        out: Output {
            rows: countable(op, extent.m)?,
            columns: countable(op, extent.n)?,
            with_bias: u32::from(parts.bias.is_some()),
            vector: u32::from(parts.result_fits(&columns, &[rows])),
            row: Axis::new(&[rows]),
            column: Axis::new(&columns),
            bias_row: bias as i64,
            bias_column: 0,
            batch: batch.walk(),
            epilogue: parts.epilogue,
        },
        pointers: [at[0], at[1], at[2], parts.bias_at()],
        dtype,
    };
    // One channel a group: a tile would be one row. Its gradient in the weight has long sums, which are cut into parts.
    let count = extent.m.saturating_mul(extent.n).saturating_mul(groups);
    if form == Form::Places && groups > 1 && extent.m * extent.k <= DIRECT && count <= LIMIT {
        let launch = Launch::new(count.div_ceil(256) as u32, 256);
        let [y, a, b, bias] = work.pointers;
        let kernel = format!("conv_naive_{}", short(dtype));
        return Ok(launch::conv_naive(gpu, &kernel, launch, work.whole(), count as u32, y, a, b, bias)?);
    }
    let form = if form == Form::Places { "places" } else { "taps" };
    let kernel = |tile: &Tile| format!("conv_{}_{}_{form}", short(dtype), tile.name);
    let tiles = tiles(dtype, true, f32_mode(), extent.k, gpu.context.info().compute_capability);
    run(gpu, op, tiles, kernel, launch::conv, &work)
}

/// Products of a group's place, up to which a thread computes it by itself.
const DIRECT: usize = 64;

/// The kernels of Hopper, where they take a convolution and need fewer cycles than those of all GPUs, by the models of both.
fn faster(
    gpu: &Gpu,
    form: Form,
    parts: &Parts,
    by_k: bool,
    tiles: &[Tile],
    extent: Extent,
) -> Option<Hopper> {
    let hopper = Hopper::new(gpu, form, parts, by_k)?;
    let other = plan::Plan::new(tiles, extent, gpu.multiprocessors);
    (hopper.cycles(gpu) <= other.cycles(extent, gpu.multiprocessors)).then_some(hopper)
}

/// Channels last, forward and the gradient of the input: rows of the result are places, columns its channels, and sums run over the
/// channels of a tap, then over taps. The windows are the left operand, the weight the right one.
fn places_by_channels(gpu: &'static Gpu, op: &'static str, parts: Parts) -> Result<()> {
    let Parts { groups, rows, columns, left, right, frame, steps, at, dtype, .. } = parts;
    let extent = Extent { m: volume(&columns), n: rows.0, k: volume(&left.1), matrices: groups };
    let (taps, weight) = (by_channels(right.1), by_channels(left.1));
    let bias = parts.bias_stride();
    let batch = Dims(vec![(groups, [steps[0], steps[2], steps[1], bias * rows.0 as isize])]).joined();
    // The weight lies with the channels of the input side by side: along k forward, along the columns backward.
    let by_k = parts.channels_fit(1, &weight, &left.0);
    debug_assert!(
        extent.k == 0 || by_k || parts.channels_fit(1, &left.0, &weight),
        "a weight is brought into the order"
    );
    debug_assert!(
        extent.k == 0 || parts.channels_fit(2, &taps, &right.0),
        "windows are brought into the order"
    );
    let work = Work {
        extent,
        a: Gathered::new(&right.0, &taps, frame, true),
        b: Strided::new(&left.0, &weight, true),
        out: Output {
            rows: countable(op, extent.m)?,
            columns: countable(op, extent.n)?,
            with_bias: u32::from(parts.bias.is_some()),
            vector: u32::from(parts.result_fits(&[rows], &columns)),
            row: Axis::new(&columns),
            column: Axis::new(&[rows]),
            bias_row: 0,
            bias_column: bias as i64,
            batch: batch.walk(),
            epilogue: parts.epilogue,
        },
        pointers: [at[0], at[2], at[1], parts.bias_at()],
        dtype,
    };
    let tiles = tiles(dtype, false, f32_mode(), extent.k, gpu.context.info().compute_capability);
    if let Some(hopper) = faster(gpu, Form::Places, &parts, by_k, tiles, extent) {
        return hopper.run(gpu, &parts, work);
    }
    let form = if by_k { "last_nt" } else { "last_nn" };
    let kernel = |tile: &Tile| format!("conv_{}_{}_{form}", short(dtype), tile.name);
    run(gpu, op, tiles, kernel, launch::conv_last, &work)
}

/// Channels last, the gradient of the weight: rows are channels of the result, columns channels of the input for each tap, and sums run
/// over places. Runs of 16 bytes lie along rows and columns.
fn taps_by_channels(gpu: &'static Gpu, op: &'static str, parts: Parts) -> Result<()> {
    let Parts { groups, rows, columns, left, right, frame, steps, at, dtype, .. } = parts;
    let extent = Extent { m: rows.0, n: volume(&columns), k: volume(&left.1), matrices: groups };
    let (taps, columns) = (by_channels(right.0), by_channels(columns));
    let batch = Dims(vec![(groups, [steps[0], steps[1], steps[2], 0])]).joined();
    debug_assert!(
        extent.k == 0 || parts.channels_fit(2, &taps, &right.1),
        "windows are brought into the order"
    );
    let work = Work {
        extent,
        a: Strided::new(&left.0, &left.1, true),
        b: Gathered::new(&taps, &right.1, frame, true),
        out: Output {
            rows: countable(op, extent.m)?,
            columns: countable(op, extent.n)?,
            with_bias: 0,
            vector: u32::from(parts.result_fits(&columns, &[rows])),
            row: Axis::new(&[rows]),
            column: Axis::new(&columns),
            bias_row: 0,
            bias_column: 0,
            batch: batch.walk(),
            epilogue: parts.epilogue,
        },
        pointers: [at[0], at[1], at[2], Pointer::NONE],
        dtype,
    };
    let tiles = tiles(dtype, false, f32_mode(), extent.k, gpu.context.info().compute_capability);
    if let Some(hopper) = faster(gpu, Form::Taps, &parts, false, tiles, extent) {
        return hopper.run(gpu, &parts, work);
    }
    let kernel = |tile: &Tile| format!("conv_{}_{}_last_taps", short(dtype), tile.name);
    run(gpu, op, tiles, kernel, launch::conv, &work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_rounded_only_where_the_mode_allows_it() {
        let name = |dtype, planes, mode| tiles(dtype, planes, mode, 576, (9, 0))[0].name;
        for planes in [false, true] {
            assert_eq!(name(DType::F32, planes, F32Mode::Fast), "tf32_128x128");
            assert_eq!(name(DType::F32, planes, F32Mode::Bf16), "tf32_128x128");
            assert_eq!(name(DType::F32, planes, F32Mode::Strict), "128x128");
            assert_eq!(name(DType::F64, planes, F32Mode::Fast), "64x64");
            assert_eq!(name(DType::BF16, planes, F32Mode::Strict), "128x128");
        }
        assert_eq!(name(DType::F32, false, F32Mode::Auto), "6xbf16_128x128");
        assert_eq!(name(DType::F32, true, F32Mode::Auto), "128x128");
    }
}
