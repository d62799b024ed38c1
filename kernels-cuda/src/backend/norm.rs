//! Layer and batch normalisation, forward and backward.

use tensor::backend::DimMask;
use tensor::op::ReduceOp;
use tensor::{MAX_RANK, Result, Tensor};

use super::channels::{Lies, is_aligned};
use super::lines::{BLOCK, Group, countable};
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
pub(super) fn joined(gpu: &'static Gpu, sums: New, dim: usize) -> Result<Tensor> {
    let sums = sums.tensor()?;
    let mask: DimMask = std::array::from_fn::<bool, MAX_RANK, _>(|d| d == dim);
    let sum = if sums.dims()[dim] == 1 { sums } else { reduce(gpu, ReduceOp::Sum, &sums, &mask)? };
    let n = sum.numel();
    sum.reshape([n])
}

/// A tensor `[n, c, …]` as its kernels see it: `[images, c, places]`, or where channels come last `[rows, c, 1]`.
struct Channels {
    channels: usize,
    places: usize,
    /// Elements of a channel, and of a piece of it.
    count: usize,
    chunk: usize,
    /// The logarithm of the vectors of channels that a block has, where they come last and are whole vectors of 16 bytes.
    across: Option<u32>,
}

/// Rows that a thread adds up at least, and pieces that rows are cut into at most.
const ROWS: usize = 16;
const MOST_OF_ROWS: usize = 256;

impl Channels {
    /// Of operands that lie alike.
    fn of(lies: Lies, operands: &[&Tensor]) -> Channels {
        let x = operands[0];
        let (channels, places) = (x.dims()[1], x.dims()[2..].iter().product::<usize>());
        let (count, lanes) = (x.dims()[0] * places, 16 / x.dtype().size());
        if lies == Lies::Planes {
            let chunk = ELEMENTS.max(count.div_ceil(MOST_PIECES)).min(count);
            return Channels { channels, places, count, chunk, across: None };
        }
        let whole = channels.is_multiple_of(lanes) && operands.iter().all(|x| is_aligned(x));
        let across = whole.then(|| (channels / lanes).min(32).ilog2());
        let down = across.map_or(1, |log| BLOCK as usize >> log);
        let chunk = (down * ROWS).max(count.div_ceil(MOST_OF_ROWS)).min(count);
        Channels { channels, places: 1, count, chunk, across }
    }

    fn pieces(&self) -> usize {
        self.count.div_ceil(self.chunk)
    }

    /// The threads that work on a piece of a channel.
    fn group(&self) -> Group {
        Group::of(self.channels, self.chunk, 1)
    }

    /// A group for each channel and piece, or a block for some vectors of channels and a piece.
    fn launch(&self, lanes: usize) -> Launch {
        let mut launch = match self.across {
            None => self.group().launch(self.channels),
            Some(log) => Launch::new((self.channels / lanes).div_ceil(1 << log) as u32, BLOCK),
        };
        launch.grid[1] = self.pieces() as u32;
        launch
    }

    /// How many elements a thread of an elementwise kernel has, and what the kernel's name has for it.
    fn vector(&self, operands: &[&Tensor]) -> (usize, &'static str) {
        let lanes = 16 / operands[0].dtype().size();
        let side_by_side = if self.places == 1 { self.channels } else { self.places };
        match side_by_side.is_multiple_of(lanes) && operands.iter().all(|x| is_aligned(x)) {
            true => (lanes, "_v"),
            false => (1, ""),
        }
    }
}

/// Mean and biased variance of each channel.
pub(super) fn batch_norm_stats(gpu: &'static Gpu, x: &Tensor) -> Result<(Tensor, Tensor)> {
    countable("batch_norm", &[x.numel()])?;
    let lies = Lies::of(x);
    let x = lies.bring(gpu, x)?;
    let (c, wide) = (Channels::of(lies, &[&x]), x.dtype().accumulator());
    let of_pieces = || New::contiguous(gpu, [c.channels, c.pieces()], wide);
    let (means, squares) = (of_pieces()?, of_pieces()?);
    let (launch, channels) = (c.launch(16 / x.dtype().size()), c.channels as u32);
    let (count, chunk, to) = (c.count as u32, c.chunk as u32, [means.at(), squares.at()]);
    match c.across {
        Some(log) => {
            let kernel = format!("column_moments_{}", short(x.dtype()));
            launch::column_moments(gpu, &kernel, launch, count, channels, chunk, log, to[0], to[1], at(&x))?;
        }
        None => {
            let (kernel, log) = (format!("channel_moments_{}", short(x.dtype())), c.group().log);
            let places = Divisor::new(c.places);
            launch::channel_moments(
                gpu,
                &kernel,
                launch,
                places,
                channels,
                count,
                chunk,
                log,
                to[0],
                to[1],
                at(&x),
            )?;
        }
    }
    let (mean, variance) = (New::contiguous(gpu, c.channels, wide)?, New::contiguous(gpu, c.channels, wide)?);
    launch::join_moments(
        gpu,
        &format!("join_moments_{}", short(wide)),
        threads(c.channels * 32),
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
    let lies = Lies::of(x);
    let y = New::of(gpu, lies.layout(x.shape()), x.dtype())?;
    let (x, mean, rstd) = (lies.bring(gpu, x)?, mean.contiguous()?, rstd.contiguous()?);
    let (weight, bias) = (contiguous(weight)?, contiguous(bias)?);
    let c = Channels::of(lies, &[&x]);
    let (lanes, suffix) = c.vector(&[&x]);
    let count = x.numel() / lanes;
    launch::batch_norm(
        gpu,
        &format!("batch_norm{suffix}_{}", short(x.dtype())),
        threads(count),
        count as u32,
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
    let lies = Lies::of(x);
    let (x, grad, weight) = (lies.bring(gpu, x)?, lies.bring(gpu, grad)?, contiguous(weight)?);
    let (mean, rstd) = (mean.contiguous()?, rstd.contiguous()?);
    let c = Channels::of(lies, &[&x, &grad]);
    let of_pieces = || New::contiguous(gpu, [c.channels, c.pieces()], wide);
    let (dw, db) = (of_pieces()?, of_pieces()?);
    let (launch, channels) = (c.launch(16 / dtype.size()), c.channels as u32);
    let (count, chunk, to) = (c.count as u32, c.chunk as u32, [dw.at(), db.at()]);
    let from = [at(&grad), at(&x), at(&mean), at(&rstd)];
    match c.across {
        Some(log) => {
            let kernel = format!("column_gradients_{}", short(dtype));
            launch::column_gradients(
                gpu, &kernel, launch, count, channels, chunk, log, to[0], to[1], from[0], from[1], from[2],
                from[3],
            )?;
        }
        None => {
            let (kernel, log) = (format!("channel_gradients_{}", short(dtype)), c.group().log);
            let places = Divisor::new(c.places);
            launch::channel_gradients(
                gpu, &kernel, launch, places, channels, count, chunk, log, to[0], to[1], from[0], from[1],
                from[2], from[3],
            )?;
        }
    }
    let (dw, db) = (joined(gpu, dw, 1)?, joined(gpu, db, 1)?);
    let dx = New::of(gpu, lies.layout(x.shape()), dtype)?;
    let (lanes, suffix) = c.vector(&[&grad, &x]);
    let elements = x.numel() / lanes;
    launch::batch_norm_backward(
        gpu,
        &format!("batch_norm_backward{suffix}_{}", short(dtype)),
        threads(elements),
        elements as u32,
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
