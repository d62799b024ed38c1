//! Batch normalisation, of channels, forward and backward.

use tensor::{DType, Result, Tensor};

use super::super::channels::{Lies, is_aligned};
use super::super::lines::{BLOCK, Group, countable};
use super::super::moments::Pieces;
use super::super::names::short;
use super::super::storage::{New, at};
use super::super::walk::Divisor;
use super::{contiguous, given, joined, place, threads};
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};
use crate::module::Launch;

/// A tensor `[n, c, …]` as its kernels see it: `[images, c, places]`, or where channels come last `[rows, c, 1]`.
pub(super) struct Channels {
    channels: usize,
    places: usize,
    /// Elements of a channel, and of a piece of it.
    count: usize,
    chunk: usize,
    /// The logarithm of the vectors of channels that a block has, where they come last and are whole vectors of 16 bytes.
    across: Option<u32>,
}

/// Elements of a channel that one block adds up, and pieces that there may be.
const ELEMENTS: usize = 1 << 13;
const MOST_PIECES: usize = 1 << 10;

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
            return Channels::planes(channels, places, count);
        }
        let whole = channels.is_multiple_of(lanes) && operands.iter().all(|x| is_aligned(x));
        let across = whole.then(|| (channels / lanes).min(32).ilog2());
        let down = across.map_or(1, |log| BLOCK as usize >> log);
        let chunk = (down * ROWS).max(count.div_ceil(MOST_OF_ROWS)).min(count);
        Channels { channels, places: 1, count, chunk, across }
    }

    /// Of `count` elements each, so many of them in a plane.
    pub(super) fn planes(channels: usize, places: usize, count: usize) -> Channels {
        let chunk = ELEMENTS.max(count.div_ceil(MOST_PIECES)).min(count);
        Channels { channels, places, count, chunk, across: None }
    }

    pub(super) fn pieces(&self) -> usize {
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
pub(in super::super) fn batch_norm_stats(gpu: &'static Gpu, x: &Tensor) -> Result<(Tensor, Tensor)> {
    let lies = Lies::of(x);
    let [mean, variance, _] = statistics(gpu, lies, &lies.bring(gpu, x)?, None)?;
    Ok((mean.tensor()?, variance.tensor()?))
}

/// `(y, mean, biased variance, rstd)`.
pub(in super::super) fn batch_norm_training(
    gpu: &'static Gpu,
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<(Tensor, Tensor, Tensor, Tensor)> {
    let lies = Lies::of(x);
    let x = lies.bring(gpu, x)?;
    let [mean, variance, rstd] = statistics(gpu, lies, &x, Some(eps))?;
    let (mean, variance, rstd) = (mean.tensor()?, variance.tensor()?, rstd.tensor()?);
    Ok((batch_norm_apply(gpu, &x, &mean, &rstd, weight, bias)?, mean, variance, rstd))
}

/// Mean, biased variance and, if `eps` is given, rstd of each channel of an image that lies so.
fn statistics(gpu: &'static Gpu, lies: Lies, x: &Tensor, eps: Option<f64>) -> Result<[New; 3]> {
    countable("batch_norm", &[x.numel()])?;
    let (c, wide) = (Channels::of(lies, &[x]), x.dtype().accumulator());
    let pieces = match c.across {
        None => Pieces::of_channels(gpu, x)?,
        Some(log) => {
            let pieces = Pieces::new(gpu, wide, [c.channels, c.pieces()], [c.count, c.chunk])?;
            let kernel = format!("column_moments_{}", short(x.dtype()));
            let (count, channels, chunk) = (c.count as u32, c.channels as u32, c.chunk as u32);
            let (launch, [means, squares]) =
                (c.launch(16 / x.dtype().size()), [&pieces.means, &pieces.squares].map(New::at));
            launch::column_moments(gpu, &kernel, launch, count, channels, chunk, log, means, squares, at(x))?;
            pieces
        }
    };
    let of_channels = |n| New::contiguous(gpu, n, wide);
    let results =
        [of_channels(c.channels)?, of_channels(c.channels)?, of_channels(eps.map_or(0, |_| c.channels))?];
    let [mean, variance, rstd] = results.each_ref().map(New::at);
    let rstd = eps.map_or(Pointer::NONE, |_| rstd);
    pieces.join(gpu, wide, c.count as f64, eps.unwrap_or(0.0), [mean, variance, rstd])?;
    Ok(results)
}

/// `(x - mean) · rstd · weight + bias` per channel.
pub(in super::super) fn batch_norm_apply(
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
        given(weight.as_ref(), bias.as_ref()),
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
pub(in super::super) fn batch_norm_backward(
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
    match c.across {
        None => gradients(gpu, dtype, &c, 1, [dw.at(), db.at()], [&grad, &x, &mean, &rstd].map(at))?,
        Some(log) => {
            let kernel = format!("column_gradients_{}", short(dtype));
            let (count, channels, chunk) = (c.count as u32, c.channels as u32, c.chunk as u32);
            let [g, x, mean, rstd] = [&grad, &x, &mean, &rstd].map(at);
            let (launch, dw, db) = (c.launch(16 / dtype.size()), dw.at(), db.at());
            launch::column_gradients(
                gpu, &kernel, launch, count, channels, chunk, log, dw, db, g, x, mean, rstd,
            )?;
        }
    }
    let (dw, db) = (joined(gpu, dw, [1])?, joined(gpu, db, [1])?);
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
        given(weight.as_ref(), None),
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

/// Σ g z and Σ g over each piece of channels in planes, of which `sharing` side by side have the same statistics.
pub(super) fn gradients(
    gpu: &'static Gpu,
    dtype: DType,
    c: &Channels,
    sharing: usize,
    [dw, db]: [Pointer; 2],
    [g, x, mean, rstd]: [Pointer; 4],
) -> Result<()> {
    let (kernel, log) = (format!("channel_gradients_{}", short(dtype)), c.group().log);
    let (places, sharing) = (Divisor::new(c.places), Divisor::new(sharing));
    let (count, channels, chunk) = (c.count as u32, c.channels as u32, c.chunk as u32);
    let launch = c.launch(1);
    Ok(launch::channel_gradients(
        gpu, &kernel, launch, places, channels, count, chunk, log, sharing, dw, db, g, x, mean, rstd,
    )?)
}
