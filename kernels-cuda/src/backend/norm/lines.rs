//! Normalisation of lines: by layer, by the root mean square, and by group of channels.

use tensor::{Result, Shape, Tensor};

use super::super::channels::is_aligned;
use super::super::lines::{Group, countable};
use super::super::names::short;
use super::super::storage::{New, at};
use super::super::walk::Divisor;
use super::channels::{Channels, gradients};
use super::{contiguous, given, joined, place, threads};
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};

/// Lines whose gradients in weights a thread adds up, and pieces of them that there may be.
const LINES: usize = 64;
const MOST_PIECES: usize = 1 << 10;

/// Which weight and bias an element of a line has: `Affine` of `cuda/norm.cu`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Affine {
    given: u32,
    /// Of a line.
    channels: u32,
    /// Lines with other channels.
    groups: Divisor,
    /// Elements of a channel.
    places: Divisor,
}

/// Row-major lines of so many channels, each of so many places, of which `groups` in turn have others.
#[derive(Clone, Copy)]
struct Lines {
    lines: usize,
    channels: usize,
    groups: usize,
    places: usize,
}

impl Lines {
    /// Over the last `dims` dims: each element is a channel of its own.
    fn last(x: &Tensor, dims: usize) -> Lines {
        let channels: usize = x.dims()[x.rank() - dims..].iter().product();
        Lines { lines: x.numel() / channels, channels, groups: 1, places: 1 }
    }

    /// The groups of channels of `[n, c, …]`.
    fn grouped(x: &Tensor, groups: usize) -> Lines {
        let (channels, places) = (x.dims()[1] / groups, x.dims()[2..].iter().product());
        Lines { lines: x.dims()[0] * groups, channels, groups, places }
    }

    /// Elements of a line.
    fn n(&self) -> usize {
        self.channels * self.places
    }

    fn group(&self) -> Group {
        Group::of(self.lines, self.n(), 1)
    }

    fn affine(&self, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Affine {
        Affine {
            given: given(weight, bias),
            channels: self.channels as u32,
            groups: Divisor::new(self.groups),
            places: Divisor::new(self.places),
        }
    }

    /// What a kernel's name has where lines, and the channels that vectors are of, are whole vectors of 16 bytes.
    fn vector(&self, operands: &[Option<&Tensor>], size: usize) -> &'static str {
        let side_by_side = if self.places > 1 { self.places } else { self.channels };
        let whole = side_by_side.is_multiple_of(16 / size);
        if whole && operands.iter().flatten().all(|x| is_aligned(x)) { "_v" } else { "" }
    }

    /// `y`, the mean, unless it is taken for 0, and rstd, of row-major operands.
    fn normalised(
        self,
        gpu: &'static Gpu,
        x: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
        [y, mean, rstd]: [Pointer; 3],
    ) -> Result<()> {
        let suffix = self.vector(&[Some(x), weight, bias], x.dtype().size());
        Ok(launch::layer_norm(
            gpu,
            &format!("layer_norm{suffix}_{}", short(x.dtype())),
            self.group().launch(self.lines),
            self.lines as u32,
            self.n() as u32,
            self.group().log,
            self.affine(weight, bias),
            eps,
            y,
            mean,
            rstd,
            at(x),
            place(weight),
            place(bias),
        )?)
    }

    /// The gradient in `x` of row-major operands.
    fn gradient(
        self,
        gpu: &'static Gpu,
        grad: &Tensor,
        x: &Tensor,
        mean: Option<&Tensor>,
        rstd: &Tensor,
        weight: Option<&Tensor>,
    ) -> Result<Tensor> {
        let dx = New::contiguous(gpu, x.shape(), x.dtype())?;
        let suffix = self.vector(&[Some(grad), Some(x), weight], x.dtype().size());
        launch::layer_norm_backward(
            gpu,
            &format!("layer_norm_backward{suffix}_{}", short(x.dtype())),
            self.group().launch(self.lines),
            self.lines as u32,
            self.n() as u32,
            self.group().log,
            self.affine(weight, None),
            dx.at(),
            at(grad),
            at(x),
            place(mean),
            at(rstd),
            place(weight),
        )?;
        dx.tensor()
    }

    /// The gradients in the weight and, where there are means, in the bias, of row-major operands whose elements have a weight each.
    fn weights(
        self,
        gpu: &'static Gpu,
        grad: &Tensor,
        x: &Tensor,
        mean: Option<&Tensor>,
        rstd: &Tensor,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let chunk = LINES.max(self.lines.div_ceil(MOST_PIECES)).min(self.lines);
        let pieces = self.lines.div_ceil(chunk);
        let sums = || New::contiguous(gpu, [pieces, self.channels], x.dtype().accumulator());
        let (dw, db) = (sums()?, mean.map(|_| sums()).transpose()?);
        let mut launch = threads(self.channels);
        launch.grid[1] = pieces as u32;
        launch::layer_norm_weights(
            gpu,
            &format!("layer_norm_weights_{}", short(x.dtype())),
            launch,
            self.lines as u32,
            self.channels as u32,
            chunk as u32,
            dw.at(),
            db.as_ref().map_or(Pointer::NONE, New::at),
            at(grad),
            at(x),
            place(mean),
            at(rstd),
        )?;
        let joined = |sums: New| joined(gpu, sums, [0])?.to_dtype(x.dtype());
        Ok((joined(dw)?, db.map(joined).transpose()?))
    }
}

/// The shape of the statistics of lines over the last `dims` dims.
fn statistics(x: &Tensor, dims: usize) -> Shape {
    (x.rank() - dims..x.rank()).fold(x.shape(), |shape, d| shape.with_dim(d, 1))
}

/// `(y, mean, rstd)`, the last two of shape `statistics`.
fn with_means(
    gpu: &'static Gpu,
    x: &Tensor,
    lines: Lines,
    statistics: Shape,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (x, weight, bias) = (x.contiguous()?, contiguous(weight)?, contiguous(bias)?);
    let y = New::contiguous(gpu, x.shape(), x.dtype())?;
    let of_lines = || New::contiguous(gpu, statistics, x.dtype().accumulator());
    let (mean, rstd) = (of_lines()?, of_lines()?);
    lines.normalised(gpu, &x, weight.as_ref(), bias.as_ref(), eps, [&y, &mean, &rstd].map(New::at))?;
    Ok((y.tensor()?, mean.tensor()?, rstd.tensor()?))
}

/// `(y, mean, rstd)` over the last `dims` dims.
pub(in super::super) fn layer_norm(
    gpu: &'static Gpu,
    x: &Tensor,
    dims: usize,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    countable("layer_norm", &[x.numel()])?;
    with_means(gpu, x, Lines::last(x, dims), statistics(x, dims), weight, bias, eps)
}

/// Gradients in `x`, `weight` and `bias`.
pub(in super::super) fn layer_norm_backward(
    gpu: &'static Gpu,
    grad: &Tensor,
    x: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    weight: Option<&Tensor>,
    dims: usize,
) -> Result<(Tensor, Tensor, Tensor)> {
    countable("layer_norm_backward", &[x.numel()])?;
    let (x, grad, weight) = (x.contiguous()?, grad.contiguous()?, contiguous(weight)?);
    let (mean, rstd, lines) = (mean.contiguous()?, rstd.contiguous()?, Lines::last(&x, dims));
    let dx = lines.gradient(gpu, &grad, &x, Some(&mean), &rstd, weight.as_ref())?;
    let (dw, db) = lines.weights(gpu, &grad, &x, Some(&mean), &rstd)?;
    let shape = &x.dims()[x.rank() - dims..];
    Ok((dx, dw.reshape(shape)?, db.expect("there are means").reshape(shape)?))
}

/// `(y, rstd)` over the last `dims` dims.
pub(in super::super) fn rms_norm(
    gpu: &'static Gpu,
    x: &Tensor,
    dims: usize,
    weight: Option<&Tensor>,
    eps: f64,
) -> Result<(Tensor, Tensor)> {
    countable("rms_norm", &[x.numel()])?;
    let (x, weight) = (x.contiguous()?, contiguous(weight)?);
    let y = New::contiguous(gpu, x.shape(), x.dtype())?;
    let rstd = New::contiguous(gpu, statistics(&x, dims), x.dtype().accumulator())?;
    let to = [y.at(), Pointer::NONE, rstd.at()];
    Lines::last(&x, dims).normalised(gpu, &x, weight.as_ref(), None, eps, to)?;
    Ok((y.tensor()?, rstd.tensor()?))
}

/// Gradients in `x` and `weight`.
pub(in super::super) fn rms_norm_backward(
    gpu: &'static Gpu,
    grad: &Tensor,
    x: &Tensor,
    rstd: &Tensor,
    weight: Option<&Tensor>,
    dims: usize,
) -> Result<(Tensor, Tensor)> {
    countable("rms_norm_backward", &[x.numel()])?;
    let (x, grad, weight, rstd) =
        (x.contiguous()?, grad.contiguous()?, contiguous(weight)?, rstd.contiguous()?);
    let lines = Lines::last(&x, dims);
    let dx = lines.gradient(gpu, &grad, &x, None, &rstd, weight.as_ref())?;
    let (dw, _) = lines.weights(gpu, &grad, &x, None, &rstd)?;
    Ok((dx, dw.reshape(&x.dims()[x.rank() - dims..])?))
}

/// `(y, mean, rstd)` of `groups` groups of channels of `[n, c, …]`.
pub(in super::super) fn group_norm(
    gpu: &'static Gpu,
    x: &Tensor,
    groups: usize,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    countable("group_norm", &[x.numel()])?;
    with_means(gpu, x, Lines::grouped(x, groups), [x.dims()[0], groups].into(), weight, bias, eps)
}

/// Gradients in `x`, `weight` and `bias`.
pub(in super::super) fn group_norm_backward(
    gpu: &'static Gpu,
    grad: &Tensor,
    x: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    weight: Option<&Tensor>,
) -> Result<(Tensor, Tensor, Tensor)> {
    countable("group_norm_backward", &[x.numel()])?;
    let (x, grad, weight) = (x.contiguous()?, grad.contiguous()?, contiguous(weight)?);
    let (mean, rstd) = (mean.contiguous()?, rstd.contiguous()?);
    let lines = Lines::grouped(&x, mean.dims()[1]);
    let dx = lines.gradient(gpu, &grad, &x, Some(&mean), &rstd, weight.as_ref())?;
    // The channels of all images, as those of one; then the sums over images.
    let [n, c] = [x.dims()[0], x.dims()[1]];
    let planes = Channels::planes(n * c, lines.places, lines.places);
    let sums = || New::contiguous(gpu, [n, c, planes.pieces()], x.dtype().accumulator());
    let (dw, db) = (sums()?, sums()?);
    let operands = [&grad, &x, &mean, &rstd].map(at);
    gradients(gpu, x.dtype(), &planes, lines.channels, [dw.at(), db.at()], operands)?;
    let joined = |sums: New| joined(gpu, sums, [0, 2])?.to_dtype(x.dtype());
    Ok((dx, joined(dw)?, joined(db)?))
}
