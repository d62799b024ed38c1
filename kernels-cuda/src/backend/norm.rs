//! Layer and batch normalisation, forward and backward.

use tensor::backend::DimMask;
use tensor::op::ReduceOp;
use tensor::{MAX_RANK, Result, Tensor};

use super::lines::{Group, countable};
use super::names::short;
use super::reduce::reduce;
use super::storage::{New, at};
use super::walk::Divisor;
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};
use crate::module::Launch;

/// Lines, and elements of a channel, that one block adds up; and how many such pieces there may be.
const LINES: usize = 256;
const ELEMENTS: usize = 1 << 13;
const MOST_PIECES: usize = 1 << 10;

/// Whether the kernels take these operands: elements that are floats of one dtype. Else the composed form does.
pub(super) fn takes(x: &Tensor, others: &[Option<&Tensor>]) -> bool {
    x.numel() > 0 && x.dtype().is_float() && others.iter().flatten().all(|t| t.dtype() == x.dtype())
}

/// Whether these statistics are of the type that sums over `x` have.
pub(super) fn are_wide(x: &Tensor, statistics: [&Tensor; 2]) -> bool {
    statistics.iter().all(|t| t.dtype() == x.dtype().accumulator())
}

/// The bits of `affine` in `cuda/norm.cu`.
fn affine(weight: Option<&Tensor>, bias: Option<&Tensor>) -> u32 {
    u32::from(weight.is_some()) | u32::from(bias.is_some()) << 1
}

fn place(x: Option<&Tensor>) -> Pointer {
    x.map_or(Pointer::NONE, at)
}

fn contiguous(x: Option<&Tensor>) -> Result<Option<Tensor>> {
    x.map(Tensor::contiguous).transpose()
}

fn threads(count: usize) -> Launch {
    let threads = count.clamp(1, 256).next_multiple_of(32) as u32;
    Launch::new((count as u32).div_ceil(threads), threads)
}

/// `(y, mean, rstd)` over the last `dims` dims.
pub(super) fn layer_norm(
    gpu: &'static Gpu,
    x: &Tensor,
    dims: usize,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    countable("layer_norm", &[x.numel()])?;
    let (x, weight, bias) = (x.contiguous()?, contiguous(weight)?, contiguous(bias)?);
    let lead = x.rank() - dims;
    let n: usize = x.dims()[lead..].iter().product();
    let lines = x.numel() / n;
    let shape = (lead..x.rank()).fold(x.shape(), |shape, d| shape.with_dim(d, 1));
    let wide = x.dtype().accumulator();
    let y = New::contiguous(gpu, x.shape(), x.dtype())?;
    let (mean, rstd) = (New::contiguous(gpu, shape, wide)?, New::contiguous(gpu, shape, wide)?);
    let group = Group::of(lines, n, 1);
    launch::layer_norm(
        gpu,
        &format!("layer_norm_{}", short(x.dtype())),
        group.launch(lines),
        lines as u32,
        n as u32,
        group.log,
        eps,
        affine(weight.as_ref(), bias.as_ref()),
        y.at(),
        mean.at(),
        rstd.at(),
        at(&x),
        place(weight.as_ref()),
        place(bias.as_ref()),
    )?;
    Ok((y.tensor()?, mean.tensor()?, rstd.tensor()?))
}

/// Gradients in `x`, `weight` and `bias`.
pub(super) fn layer_norm_backward(
    gpu: &'static Gpu,
    grad: &Tensor,
    x: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    weight: Option<&Tensor>,
    dims: usize,
) -> Result<(Tensor, Tensor, Tensor)> {
    countable("layer_norm_backward", &[x.numel()])?;
    let dtype = x.dtype();
    let (x, grad, weight) = (x.contiguous()?, grad.contiguous()?, contiguous(weight)?);
    let (mean, rstd) = (mean.contiguous()?, rstd.contiguous()?);
    let lead = x.rank() - dims;
    let n: usize = x.dims()[lead..].iter().product();
    let lines = x.numel() / n;
    let dx = New::contiguous(gpu, x.shape(), dtype)?;
    let group = Group::of(lines, n, 1);
    launch::layer_norm_backward(
        gpu,
        &format!("layer_norm_backward_{}", short(dtype)),
        group.launch(lines),
        lines as u32,
        n as u32,
        group.log,
        affine(weight.as_ref(), None),
        dx.at(),
        at(&grad),
        at(&x),
        at(&mean),
        at(&rstd),
        place(weight.as_ref()),
    )?;
    let chunk = LINES.max(lines.div_ceil(MOST_PIECES)).min(lines);
    let pieces = lines.div_ceil(chunk);
    let sums = || New::contiguous(gpu, [pieces, n], dtype.accumulator());
    let (dw, db) = (sums()?, sums()?);
    let mut launch = threads(n);
    launch.grid[1] = pieces as u32;
    launch::layer_norm_weights(
        gpu,
        &format!("layer_norm_weights_{}", short(dtype)),
        launch,
        lines as u32,
        n as u32,
        chunk as u32,
        dw.at(),
        db.at(),
        at(&grad),
        at(&x),
        at(&mean),
        at(&rstd),
    )?;
    let joined = |sums: New| joined(gpu, sums, 0)?.to_dtype(dtype)?.reshape(&x.dims()[lead..]);
    Ok((dx.tensor()?, joined(dw)?, joined(db)?))
}

/// The sums of pieces along a dim of `[pieces, n]` or `[n, pieces]`, `[n]`.
fn joined(gpu: &'static Gpu, sums: New, dim: usize) -> Result<Tensor> {
    let sums = sums.tensor()?;
    let mask: DimMask = std::array::from_fn::<bool, MAX_RANK, _>(|d| d == dim);
    let sum = if sums.dims()[dim] == 1 { sums } else { reduce(gpu, ReduceOp::Sum, &sums, &mask)? };
    let n = sum.numel();
    sum.reshape([n])
}

/// A tensor `[n, c, …]` as its kernels see it.
struct Channels {
    channels: usize,
    places: usize,
    /// Elements of a channel, and of a piece of it.
    count: usize,
    chunk: usize,
}

impl Channels {
    fn of(x: &Tensor) -> Channels {
        let (channels, places) = (x.dims()[1], x.dims()[2..].iter().product::<usize>());
        let count = x.dims()[0] * places;
        let chunk = ELEMENTS.max(count.div_ceil(MOST_PIECES)).min(count);
        Channels { channels, places, count, chunk }
    }

    fn pieces(&self) -> usize {
        self.count.div_ceil(self.chunk)
    }

    /// The threads that work on a piece of a channel.
    fn group(&self) -> Group {
        Group::of(self.channels, self.chunk, 1)
    }

    /// A group for each channel and piece.
    fn launch(&self) -> Launch {
        let mut launch = self.group().launch(self.channels);
        launch.grid[1] = self.pieces() as u32;
        launch
    }
}

/// Mean and biased variance of each channel.
pub(super) fn batch_norm_stats(gpu: &'static Gpu, x: &Tensor) -> Result<(Tensor, Tensor)> {
    countable("batch_norm", &[x.numel()])?;
    let x = x.contiguous()?;
    let (c, wide) = (Channels::of(&x), x.dtype().accumulator());
    let of_pieces = || New::contiguous(gpu, [c.channels, c.pieces()], wide);
    let (means, squares) = (of_pieces()?, of_pieces()?);
    launch::channel_moments(
        gpu,
        &format!("channel_moments_{}", short(x.dtype())),
        c.launch(),
        Divisor::new(c.places),
        c.channels as u32,
        c.count as u32,
        c.chunk as u32,
        c.group().log,
        means.at(),
        squares.at(),
        at(&x),
    )?;
    let (mean, variance) = (New::contiguous(gpu, c.channels, wide)?, New::contiguous(gpu, c.channels, wide)?);
    launch::join_moments(
        gpu,
        &format!("join_moments_{}", short(wide)),
        threads(c.channels),
        c.channels as u32,
        c.pieces() as u32,
        c.count as u32,
        c.chunk as u32,
        mean.at(),
        variance.at(),
        means.at(),
        squares.at(),
    )?;
    Ok((mean.tensor()?, variance.tensor()?))
}

/// `(x - mean) · rstd · weight + bias` per channel.
pub(super) fn batch_norm_apply(
    gpu: &'static Gpu,
    x: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    countable("batch_norm", &[x.numel()])?;
    let y = New::contiguous(gpu, x.shape(), x.dtype())?;
    let (x, mean, rstd) = (x.contiguous()?, mean.contiguous()?, rstd.contiguous()?);
    let (weight, bias) = (contiguous(weight)?, contiguous(bias)?);
    let c = Channels::of(&x);
    launch::batch_norm(
        gpu,
        &format!("batch_norm_{}", short(x.dtype())),
        threads(x.numel()),
        x.numel() as u32,
        Divisor::new(c.places),
        Divisor::new(c.channels),
        affine(weight.as_ref(), bias.as_ref()),
        y.at(),
        at(&x),
        at(&mean),
        at(&rstd),
        place(weight.as_ref()),
        place(bias.as_ref()),
    )?;
    y.tensor()
}

/// Gradients in `x`, `weight` and `bias`.
pub(super) fn batch_norm_backward(
    gpu: &'static Gpu,
    grad: &Tensor,
    x: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    weight: Option<&Tensor>,
    training: bool,
) -> Result<(Tensor, Tensor, Tensor)> {
    countable("batch_norm_backward", &[x.numel()])?;
    let (dtype, wide) = (x.dtype(), x.dtype().accumulator());
    let (x, grad, weight) = (x.contiguous()?, grad.contiguous()?, contiguous(weight)?);
    let (mean, rstd) = (mean.contiguous()?, rstd.contiguous()?);
    let c = Channels::of(&x);
    let of_pieces = || New::contiguous(gpu, [c.channels, c.pieces()], wide);
    let (dw, db) = (of_pieces()?, of_pieces()?);
    launch::channel_gradients(
        gpu,
        &format!("channel_gradients_{}", short(dtype)),
        c.launch(),
        Divisor::new(c.places),
        c.channels as u32,
        c.count as u32,
        c.chunk as u32,
        c.group().log,
        dw.at(),
        db.at(),
        at(&grad),
        at(&x),
        at(&mean),
        at(&rstd),
    )?;
    let (dw, db) = (joined(gpu, dw, 1)?, joined(gpu, db, 1)?);
    let dx = New::contiguous(gpu, x.shape(), dtype)?;
    launch::batch_norm_backward(
        gpu,
        &format!("batch_norm_backward_{}", short(dtype)),
        threads(x.numel()),
        x.numel() as u32,
        Divisor::new(c.places),
        Divisor::new(c.channels),
        affine(weight.as_ref(), None),
        u32::from(training),
        1.0 / c.count as f64,
        dx.at(),
        at(&grad),
        at(&x),
        at(&mean),
        at(&rstd),
        place(weight.as_ref()),
        at(&dw),
        at(&db),
    )?;
    Ok((dx.tensor()?, dw.to_dtype(dtype)?, db.to_dtype(dtype)?))
}
