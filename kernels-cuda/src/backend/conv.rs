//! Convolutions and their gradients.

use tensor::backend::DimMask;
use tensor::op::ReduceOp;
use tensor::{Conv, Error, Layout, MAX_RANK, Number, Result, Shape, Tensor};

use super::copy::full;
use super::lines::countable;
use super::names::short;
use super::reduce::reduce;
use super::storage::{New, at};
use super::windows::Windows;
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};
use crate::module::Launch;

/// Rows and columns of a tile: `TILE_SIDE` of `cuda/tile.h`.
const TILE: usize = 64;

/// Terms of a piece of the long sums in the gradient of the weights.
const PIECE: usize = 2048;

/// Groups, and pieces, that a grid has.
const MOST_ROWS: usize = 1 << 15;

/// The extents of a convolution.
struct Extents {
    windows: Windows,
    batch: usize,
    channels: usize,
    out: usize,
    groups: usize,
    /// Places of the input and of the result, and taps of the kernel.
    size: usize,
    places: usize,
    taps: usize,
}

impl Extents {
    fn new(op: &'static str, x: Shape, w: Shape, y: Shape, conv: &Conv) -> Result<Extents> {
        let [size, kernel, out] = [x, w, y].map(|shape| shape.dims()[2..].to_vec());
        let volume = |extents: &[usize]| extents.iter().product::<usize>();
        let (batch, channels) = (x.dims()[0], x.dims()[1]);
        countable(op, &[x.numel(), w.numel(), y.numel()])?;
        if conv.groups > MOST_ROWS {
            let message = format!("{} groups; on CUDA devices there may be {MOST_ROWS}", conv.groups);
            return Err(Error::argument(op, message));
        }
        Ok(Extents {
            windows: Windows::of_conv(&size, &out, &kernel, conv),
            batch,
            channels,
            out: w.dims()[0],
            groups: conv.groups,
            size: volume(&size),
            places: volume(&out),
            taps: volume(&kernel),
        })
    }

    /// A block for each tile of `[m, n]` of each group, and of each of the `pieces`.
    fn launch(&self, m: usize, n: usize, pieces: usize) -> Launch {
        let tiles = m.div_ceil(TILE) * n.div_ceil(TILE);
        Launch { grid: [tiles as u32, self.groups as u32, pieces as u32], ..Launch::new(1, 256) }
    }
}

pub(super) fn conv(
    gpu: &'static Gpu,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    conv: &Conv,
) -> Result<Tensor> {
    let shape = conv.output_shape("conv", x.shape(), weight.shape())?;
    let e = Extents::new("conv", x.shape(), weight.shape(), shape, conv)?;
    let y = New::contiguous(gpu, shape, x.dtype())?;
    if shape.numel() == 0 {
        return y.tensor();
    }
    let (x, weight, bias) =
        (x.contiguous()?, weight.contiguous()?, bias.map(Tensor::contiguous).transpose()?);
    launch::conv(
        gpu,
        &format!("conv_{}", short(x.dtype())),
        e.launch(e.batch * e.places, e.out / e.groups, 1),
        e.windows,
        e.batch as u32,
        e.channels as u32,
        e.out as u32,
        e.groups as u32,
        u32::from(bias.is_some()),
        y.at(),
        at(&x),
        at(&weight),
        bias.as_ref().map_or(Pointer::NONE, at),
    )?;
    y.tensor()
}

pub(super) fn conv_grad_input(
    gpu: &'static Gpu,
    grad: &Tensor,
    weight: &Tensor,
    input: Shape,
    conv: &Conv,
) -> Result<Tensor> {
    let e = Extents::new("conv_grad_input", input, weight.shape(), grad.shape(), conv)?;
    let dx = New::contiguous(gpu, input, grad.dtype())?;
    if input.numel() == 0 {
        return dx.tensor();
    }
    if grad.numel() == 0 || weight.numel() == 0 {
        return full(gpu, dx.operand().layout, grad.dtype(), Number::Int(0));
    }
    let (grad, weight) = (grad.contiguous()?, weight.contiguous()?);
    launch::conv_grad_input(
        gpu,
        &format!("conv_grad_input_{}", short(grad.dtype())),
        e.launch(e.batch * e.size, e.channels / e.groups, 1),
        e.windows,
        e.batch as u32,
        e.channels as u32,
        e.out as u32,
        e.groups as u32,
        dx.at(),
        at(&grad),
        at(&weight),
    )?;
    dx.tensor()
}

/// In pieces of the sum over images and places, which are added in their order: a weight has few tiles and very long sums.
pub(super) fn conv_grad_weight(
    gpu: &'static Gpu,
    grad: &Tensor,
    x: &Tensor,
    weight: Shape,
    conv: &Conv,
) -> Result<Tensor> {
    let e = Extents::new("conv_grad_weight", x.shape(), weight, grad.shape(), conv)?;
    let (dtype, wide) = (x.dtype(), x.dtype().accumulator());
    let terms = e.batch * e.places;
    if weight.numel() == 0 || terms == 0 {
        return full(gpu, Layout::contiguous(weight), dtype, Number::Int(0));
    }
    let chunk = PIECE.max(terms.div_ceil(MOST_ROWS)).min(terms);
    let pieces = terms.div_ceil(chunk);
    let sums = New::contiguous(gpu, [pieces, weight.numel()], wide)?;
    let (grad, x) = (grad.contiguous()?, x.contiguous()?);
    launch::conv_grad_weight(
        gpu,
        &format!("conv_grad_weight_{}", short(dtype)),
        e.launch(e.out / e.groups, e.channels / e.groups * e.taps, pieces),
        e.windows,
        e.batch as u32,
        e.channels as u32,
        e.out as u32,
        e.groups as u32,
        chunk as u32,
        sums.at(),
        at(&grad),
        at(&x),
    )?;
    let sums = sums.tensor()?;
    let mask: DimMask = std::array::from_fn::<bool, MAX_RANK, _>(|d| d == 0);
    let sum = if pieces == 1 { sums } else { reduce(gpu, ReduceOp::Sum, &sums, &mask)? };
    sum.to_dtype(dtype)?.reshape(weight)
}
