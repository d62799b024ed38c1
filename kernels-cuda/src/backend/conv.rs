//! Convolutions and their gradients, as matrix products of windows that are never written out.
//!
//! With P the places of the result and R the taps of the kernel, for each group:
//!
//! | | rows | columns | sums over |
//! |---|---|---|---|
//! | forward | o | n, P | c, R |
//! | gradient of the input | c | n, places of one phase | o, taps that meet them |
//! | gradient of the weight | o | c, R | n, P |
//!
//! A phase of the input is its places at one offset in each step of the stride: all of them meet the same taps, so that the gradient
//! of a phase is a convolution without a stride, and nothing is multiplied by a zero between strides.

use tensor::{Conv, DType, Layout, Result, Shape, Tensor};

use super::gemm::plan::{self, Extent, Tile};
use super::gemm::product::{Axis, Extents, Frame, Gathered, Output, Strided, runs_fit};
use super::gemm::work::{Work, run};
use super::gemm::{LIMIT, countable};
use super::names::short;
use super::storage::{New, at};
use super::walk::Dims;
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};
use crate::module::Launch;

/// A dim: its extent and its stride.
type Dim = (usize, isize);

/// An image or a weight: its dims, the spatial ones with the last first, and always three.
#[derive(Clone, Copy)]
struct Image {
    /// Images, or channels of the result.
    outer: Dim,
    channels: Dim,
    spatial: [Dim; 3],
    at: Pointer,
    size: usize,
}

impl Image {
    fn new(layout: &Layout, at: Pointer, dtype: DType) -> Image {
        let dim = |d: usize| (layout.dims()[d], layout.strides()[d]);
        let rank = layout.rank();
        let spatial = std::array::from_fn(|s| if s + 2 < rank { dim(rank - 1 - s) } else { (1, 0) });
        Image { outer: dim(0), channels: dim(1), spatial, at, size: dtype.size() }
    }

    fn of(x: &Tensor) -> Image {
        Image::new(x.layout(), at(x), x.dtype())
    }

    /// Where it begins if all places are counted from others: `by` steps on in each spatial dim, which may be outside.
    fn moved(&self, by: [isize; 3]) -> Pointer {
        let steps: isize = (0..3).map(|s| by[s] * self.spatial[s].1).sum();
        Pointer(self.at.0.wrapping_add_signed((steps * self.size as isize) as i64))
    }
}

/// The numbers of a convolution for each spatial dim, the last first, and 3 dims always.
#[derive(Clone, Copy)]
struct Spec {
    stride: [usize; 3],
    padding: [usize; 3],
    dilation: [usize; 3],
    groups: usize,
}

impl Spec {
    fn new(conv: &Conv, spatial: usize) -> Spec {
        let turned = |of: &[usize; 3], rest: usize| {
            std::array::from_fn(|s| if s < spatial { of[spatial - 1 - s] } else { rest })
        };
        Spec {
            stride: turned(&conv.stride, 1),
            padding: turned(&conv.padding, 0),
            dilation: turned(&conv.dilation, 1),
            groups: conv.groups,
        }
    }
}

/// `[n, c, spatial…] ∗ [o, c / groups, kernel…] (+ [o])`.
pub(super) fn conv(
    gpu: &'static Gpu,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    conv: &Conv,
) -> Result<Tensor> {
    let shape = conv.output_shape("conv", x.shape(), weight.shape())?;
    let result = New::contiguous(gpu, shape, x.dtype())?;
    let spec = Spec::new(conv, x.rank() - 2);
    let (x, w) = (Image::of(x), Image::of(weight));
    let y = Image::new(&result.operand().layout, result.at(), weight.dtype());
    let padding = spec.padding.map(|p| -(p as isize));
    let frame = Frame {
        row_steps: spec.stride.map(|n| n as isize),
        column_steps: spec.dilation.map(|n| n as isize),
        shifts: padding,
        sizes: x.spatial.map(|d| d.0),
    };
    let places = each(|s| (y.spatial[s].0, x.spatial[s].1 * spec.stride[s] as isize));
    let taps = each(|s| (w.spatial[s].0, x.spatial[s].1 * spec.dilation[s] as isize));
    let (outputs, inputs) = (w.outer.0 / spec.groups, w.channels.0);
    product(
        gpu,
        "conv",
        "places",
        Parts {
            groups: spec.groups,
            rows: (outputs, y.channels.1),
            left: ([(outputs, w.outer.1), (1, 0), (1, 0), (1, 0)], with(w.spatial, (inputs, w.channels.1))),
            frame,
            right: (with(places, (x.outer.0, x.outer.1)), with(taps, (inputs, x.channels.1))),
            columns: with(y.spatial, y.outer),
            bias: bias.map(|b| (at(b), b.layout().strides()[0])),
            steps: [
                y.channels.1 * outputs as isize,
                w.outer.1 * outputs as isize,
                x.channels.1 * inputs as isize,
            ],
            at: [y.at, w.at, x.moved(padding)],
            dtype: weight.dtype(),
        },
    )?;
    result.tensor()
}

/// The gradient in the input, a phase after the other.
pub(super) fn conv_grad_input(
    gpu: &'static Gpu,
    grad: &Tensor,
    weight: &Tensor,
    input: Shape,
    conv: &Conv,
) -> Result<Tensor> {
    let result = New::contiguous(gpu, input, grad.dtype())?;
    let spec = Spec::new(conv, grad.rank() - 2);
    let dtype = grad.dtype();
    let (g, w) = (Image::of(grad), Image::of(weight));
    let dx = Image::new(&result.operand().layout, result.at(), dtype);
    let (outputs, inputs) = (w.outer.0 / spec.groups, w.channels.0);
    let [a, b, c] = spec.stride;
    for phase in (0..a * b * c).map(|p| [p % a, p / a % b, p / a / b]) {
        let meets: [Phase; 3] = std::array::from_fn(|s| {
            Phase::new(phase[s], spec.stride[s], spec.padding[s], spec.dilation[s], w.spatial[s].0)
        });
        let extents: [usize; 3] =
            std::array::from_fn(|s| dx.spatial[s].0.saturating_sub(phase[s]).div_ceil(spec.stride[s]));
        let shifts = meets.map(|m| m.shift);
        let frame = Frame {
            row_steps: [1; 3],
            column_steps: meets.map(|m| -m.step),
            shifts,
            sizes: g.spatial.map(|d| d.0),
        };
        let places = each(|s| (extents[s], g.spatial[s].1));
        let taps = each(|s| (meets[s].taps, -meets[s].step * g.spatial[s].1));
        let of_weight = each(|s| (meets[s].taps, w.spatial[s].1 * meets[s].period as isize));
        let columns = each(|s| (extents[s], dx.spatial[s].1 * spec.stride[s] as isize));
        product(
            gpu,
            "conv_grad_input",
            "places",
            Parts {
                groups: spec.groups,
                rows: (inputs, dx.channels.1),
                left: (
                    [(inputs, w.channels.1), (1, 0), (1, 0), (1, 0)],
                    with(of_weight, (outputs, w.outer.1)),
                ),
                frame,
                right: (with(places, g.outer), with(taps, (outputs, g.channels.1))),
                columns: with(columns, dx.outer),
                bias: None,
                steps: [
                    dx.channels.1 * inputs as isize,
                    w.outer.1 * outputs as isize,
                    g.channels.1 * outputs as isize,
                ],
                at: [
                    dx.moved(phase.map(|p| p as isize)),
                    w.moved(meets.map(|m| m.first as isize)),
                    g.moved(shifts),
                ],
                dtype,
            },
        )?;
    }
    result.tensor()
}

/// The gradient in the weight: few sums, each of very many terms, which are cut into parts.
pub(super) fn conv_grad_weight(
    gpu: &'static Gpu,
    grad: &Tensor,
    x: &Tensor,
    weight: Shape,
    conv: &Conv,
) -> Result<Tensor> {
    let result = New::contiguous(gpu, weight, x.dtype())?;
    let spec = Spec::new(conv, x.rank() - 2);
    let dtype = x.dtype();
    let (g, x) = (Image::of(grad), Image::of(x));
    let dw = Image::new(&result.operand().layout, result.at(), dtype);
    let (outputs, inputs) = (dw.outer.0 / spec.groups, dw.channels.0);
    let padding = spec.padding.map(|p| -(p as isize));
    let frame = Frame {
        row_steps: spec.dilation.map(|n| n as isize),
        column_steps: spec.stride.map(|n| n as isize),
        shifts: padding,
        sizes: x.spatial.map(|d| d.0),
    };
    let taps = each(|s| (dw.spatial[s].0, x.spatial[s].1 * spec.dilation[s] as isize));
    let places = each(|s| (g.spatial[s].0, x.spatial[s].1 * spec.stride[s] as isize));
    product(
        gpu,
        "conv_grad_weight",
        "taps",
        Parts {
            groups: spec.groups,
            rows: (outputs, dw.outer.1),
            left: ([(outputs, g.channels.1), (1, 0), (1, 0), (1, 0)], with(g.spatial, g.outer)),
            frame,
            right: (with(taps, (inputs, x.channels.1)), with(places, x.outer)),
            columns: with(dw.spatial, dw.channels),
            bias: None,
            steps: [
                dw.outer.1 * outputs as isize,
                g.channels.1 * outputs as isize,
                x.channels.1 * inputs as isize,
            ],
            at: [dw.at, g.at, x.moved(padding)],
            dtype,
        },
    )?;
    result.tensor()
}

/// The taps that meet a phase in one spatial dim.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Phase {
    /// The first of them, and how many there are; each is `period` after the last.
    first: usize,
    taps: usize,
    period: usize,
    /// Where in the gradient place 0 of the phase meets the first tap, and how much earlier the next.
    shift: isize,
    step: isize,
}

impl Phase {
    /// Of the places `phase + i · stride`: those taps r for which `phase + padding - r · dilation` is a multiple of the stride.
    fn new(phase: usize, stride: usize, padding: usize, dilation: usize, kernel: usize) -> Phase {
        let meets = |r: usize| (phase + padding + r * (stride - dilation % stride)).is_multiple_of(stride);
        let period = stride / gcd(stride, dilation);
        match (0..period.min(kernel)).find(|&r| meets(r)) {
            None => Phase { first: 0, taps: 0, period, shift: 0, step: 0 },
            Some(first) => Phase {
                first,
                taps: (kernel - first).div_ceil(period),
                period,
                shift: ((phase + padding) as isize - (first * dilation) as isize) / stride as isize,
                step: (period * dilation / stride) as isize,
            },
        }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn each(f: impl Fn(usize) -> Dim) -> [Dim; 3] {
    std::array::from_fn(f)
}

/// Three spatial dims, and one outside of them.
fn with([a, b, c]: [Dim; 3], outer: Dim) -> [Dim; 4] {
    [a, b, c, outer]
}

/// A product of one of the three kinds, for each group.
struct Parts {
    groups: usize,
    /// Of the result.
    rows: Dim,
    columns: [Dim; 4],
    /// Rows and k of the left operand.
    left: ([Dim; 4], [Dim; 4]),
    /// Columns and k of the right one, and which of them lie in the image.
    right: ([Dim; 4], [Dim; 4]),
    frame: Frame,
    bias: Option<(Pointer, isize)>,
    /// From group to group, and where the first begins: of the result and of both operands.
    steps: [isize; 3],
    at: [Pointer; 3],
    dtype: DType,
}

fn product(gpu: &'static Gpu, op: &'static str, form: &str, parts: Parts) -> Result<()> {
    let Parts { groups, rows, columns, left, right, frame, bias, steps, at, dtype } = parts;
    let volume = |dims: &Extents| dims.iter().map(|d| d.0).product::<usize>();
    let extent = Extent { m: rows.0, n: volume(&columns), k: volume(&left.1), matrices: groups };
    if extent.m == 0 || extent.n == 0 {
        return Ok(());
    }
    countable(op, extent.k.max(1))?;
    countable(op, groups)?;
    let (lanes, size) = (16 / dtype.size(), dtype.size());
    let bias_step = bias.map_or(0, |(_, stride)| stride);
    let step = |i: usize| [(groups, steps[i])];
    // Windows of one tap that cover the image are the image.
    let (places, taps) = if form == "places" { (&right.0, &right.1) } else { (&right.1, &right.0) };
    let covers = |s: usize| taps[s].0 == 1 && frame.shifts[s] == 0 && frame.sizes[s] == places[s].0;
    let runs = (0..3).all(covers) && joined_runs_fit(places, &[taps, &step(2)], at[2], lanes, size);
    let batch = Dims(vec![(groups, [steps[0], steps[1], steps[2], bias_step * rows.0 as isize])]).joined();
    let work = Work {
        extent,
        a: Strided::new(&left.0, &left.1, joined_runs_fit(&left.1, &[&left.0, &step(1)], at[1], lanes, size)),
        b: Gathered::new(&right.0, &right.1, frame, runs),
        out: Output {
            rows: countable(op, extent.m)?,
            columns: countable(op, extent.n)?,
            with_bias: u32::from(bias.is_some()),
            vector: u32::from(joined_runs_fit(&columns, &[&[rows], &step(0)], at[0], lanes, size)),
            row: Axis::new(&[rows]),
            column: Axis::new(&columns),
            bias_row: bias_step as i64,
            bias_column: 0,
            batch: batch.walk(),
        },
        pointers: [at[0], at[1], at[2], bias.map_or(Pointer::NONE, |(at, _)| at)],
        dtype,
    };
    // One channel a group: a tile would be one row. Its gradient in the weight has long sums, which are cut into parts.
    let count = extent.m.saturating_mul(extent.n).saturating_mul(groups);
    if form == "places" && groups > 1 && extent.m * extent.k <= DIRECT && count <= LIMIT {
        let launch = Launch::new(count.div_ceil(256) as u32, 256);
        let [y, a, b, bias] = work.pointers;
        let kernel = format!("conv_naive_{}", short(dtype));
        return Ok(launch::conv_naive(gpu, &kernel, launch, work.whole(), count as u32, y, a, b, bias)?);
    }
    let tiles: &[Tile] = match dtype {
        DType::F64 => &plan::F64,
        DType::F16 | DType::BF16 => &plan::HALF,
        _ => &plan::F32,
    };
    let kernel = |tile: &Tile| format!("conv_{}_{}_{form}", short(dtype), tile.name);
    run(gpu, op, tiles, kernel, launch::conv, &work)
}

/// Products of a group's place, up to which a thread computes it by itself.
const DIRECT: usize = 64;

/// As [`runs_fit`], for dims of which those that are one in memory become one.
fn joined_runs_fit(along: &Extents, others: &[&Extents], at: Pointer, lanes: usize, size: usize) -> bool {
    let dims = Dims::<1>(along.iter().filter(|d| d.0 != 1).map(|&(n, s)| (n, [s])).collect()).joined();
    let dims: Vec<Dim> = dims.0.iter().map(|&(n, [s])| (n, s)).collect();
    runs_fit(&dims, others, at.0, lanes, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_taps_of_a_phase_are_those_that_meet_it() {
        for (stride, padding, dilation, kernel) in
            [(1, 1, 1, 3), (2, 1, 1, 3), (3, 0, 2, 4), (2, 3, 2, 3), (4, 1, 6, 5), (3, 2, 1, 1)]
        {
            for phase in 0..stride {
                let found = Phase::new(phase, stride, padding, dilation, kernel);
                // (tap, place of the gradient) for the place `phase` of the input.
                let taps: Vec<_> = (0..found.taps)
                    .map(|j| (found.first + j * found.period, found.shift - j as isize * found.step))
                    .collect();
                let expected: Vec<_> = (0..kernel)
                    .map(|r| (r, (phase + padding) as isize - (r * dilation) as isize))
                    .filter(|(_, at)| at % stride as isize == 0)
                    .map(|(r, at)| (r, at / stride as isize))
                    .collect();
                assert_eq!(taps, expected, "{phase} {stride} {padding} {dilation} {kernel}");
            }
        }
    }
}
