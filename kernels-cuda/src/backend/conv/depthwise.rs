//! Convolutions with one channel for each group, directly: every operand is read about once, and there is no tile to fill.

use tensor::op::UnaryOp;
use tensor::{Conv, DType, Result, Shape, Tensor};

use crate::backend::channels::{Lies, is_aligned};
use crate::backend::gemm::epilogue::{Epilogue, Fused};
use crate::backend::gemm::{LIMIT, countable};
use crate::backend::names::short;
use crate::backend::norm::joined;
use crate::backend::storage::{New, at};
use crate::backend::walk::Divisor;
use crate::backend::windows::Windows;
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};
use crate::module::Launch;

/// What is the same for all threads: `Depthwise` of `cuda/depthwise.cu`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Depthwise {
    windows: Windows,
    /// Of an image in planes, 1 otherwise.
    channels: Divisor,
    /// Along the dim of runs.
    runs: Divisor,
    count: u32,
    /// Strides of the weight.
    w_tap: i64,
    w_channel: i64,
}

/// Places of a run: `RUN` of `cuda/depthwise.cu`.
const RUN: usize = 4;

/// Threads of a block of the gradient of the weight, rows that each adds up at least, and pieces of rows at most.
const BLOCK: usize = 256;
const ROWS: usize = 16;
const MOST_PIECES: usize = 256;

/// Whether the kernels take a convolution: one channel of the input and of the result in each group, and few enough of everything.
pub(super) fn takes(x: Shape, weight: Shape, out: Shape, conv: &Conv) -> bool {
    let (c, o) = (weight.dims()[1], weight.dims()[0]);
    let elements = x.numel().max(out.numel());
    conv.groups > 1 && c == 1 && o == conv.groups && (1..=LIMIT / RUN).contains(&elements)
}

/// The order of a result, of which the operand gives the example: channels last where they are whole vectors of 16 bytes.
fn order(x: &Tensor) -> Lies {
    let whole = x.dims()[1].is_multiple_of(16 / x.dtype().size());
    if whole && is_aligned(x) { Lies::of(x) } else { Lies::Planes }
}

/// A convolution as its kernels take it.
struct Work {
    lies: Lies,
    dtype: DType,
    /// Images and channels.
    images: usize,
    channels: usize,
    windows: Windows,
    out: Vec<usize>,
    taps: usize,
}

impl Work {
    fn new(lies: Lies, x: Shape, out: Shape, kernel: &[usize], dtype: DType, conv: &Conv) -> Work {
        let windows = Windows::of_conv(&x.dims()[2..], &out.dims()[2..], kernel, conv);
        let (images, channels) = (x.dims()[0], x.dims()[1]);
        let windows =
            if lies == Lies::Last { windows.beside(channels / (16 / dtype.size())) } else { windows };
        let out = out.dims()[2..].to_vec();
        Work { lies, dtype, images, channels, windows, out, taps: kernel.iter().product() }
    }

    /// Units of an image's place: vectors of channels, or the channels of planes.
    fn units(&self) -> usize {
        if self.lies == Lies::Last { self.channels / (16 / self.dtype.size()) } else { self.channels }
    }

    /// With so many threads, and runs along a dim.
    fn depthwise(&self, count: usize, runs: usize) -> Result<Depthwise> {
        countable(super::OP, count)?;
        let (channels, w_tap, w_channel) = match self.lies {
            Lies::Planes => (self.channels, 1, self.taps),
            Lies::Last => (1, self.channels, 1),
        };
        Ok(Depthwise {
            windows: self.windows,
            channels: Divisor::new(channels),
            runs: Divisor::new(runs.max(1)),
            count: count as u32,
            w_tap: w_tap as i64,
            w_channel: w_channel as i64,
        })
    }

    fn order(&self) -> &'static str {
        if self.lies == Lies::Last { "last" } else { "planes" }
    }

    /// The weight `[c, 1, kernel…]` as `[c, taps]`, or `[taps, c]` for channels that come last.
    fn weight(&self, weight: &Tensor) -> Result<Tensor> {
        let w = weight.reshape([self.channels, self.taps])?;
        if self.lies == Lies::Last { w.t()?.contiguous() } else { w.contiguous() }
    }

    /// Runs of places of the result: along its last dim where channels come last, else along the one before.
    #[allow(clippy::too_many_arguments)]
    fn forward(
        &self,
        gpu: &'static Gpu,
        y: &New,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        epilogue: Epilogue,
        [taps, stride, dilation]: [usize; 3],
    ) -> Result<()> {
        let w = self.weight(weight)?;
        let rank = self.out.len();
        let along = if self.lies == Lies::Last { Some(rank - 1) } else { rank.checked_sub(2) };
        let runs = along.map_or(1, |d| self.out[d].div_ceil(RUN));
        let others: usize = (0..rank).filter(|&d| Some(d) != along).map(|d| self.out[d]).product();
        let count = self.images * self.units() * runs * others;
        let unrolled = dilation == 1 && self.dtype != DType::F64;
        let window = match (taps, stride) {
            (3, 1) if unrolled => "3_1",
            (3, 2) if unrolled => "3_2",
            (5, 1) if unrolled => "5_1",
            _ => "any",
        };
        let bias = bias.map(Tensor::contiguous).transpose()?;
        // Vectors of it are loaded too.
        let bias = bias.map(|b| if is_aligned(&b) { Ok(b) } else { b.copy() }).transpose()?;
        launch::depthwise(
            gpu,
            &format!("depthwise_{}_{window}_{}", self.order(), short(self.dtype)),
            Launch::new(count.div_ceil(256) as u32, 256),
            self.depthwise(count, runs)?,
            y.at(),
            at(x),
            at(&w),
            u32::from(bias.is_some()),
            bias.as_ref().map_or(Pointer::NONE, at),
            epilogue,
        )?;
        Ok(())
    }
}

/// Taps, stride and dilation along the dim of runs; a dim that is lacking has one tap.
fn along(lies: Lies, kernel: &[usize], conv: &Conv) -> [usize; 3] {
    let d = if lies == Lies::Last { Some(kernel.len() - 1) } else { kernel.len().checked_sub(2) };
    d.map_or([1, 1, 1], |d| [kernel[d], conv.stride[d], conv.dilation[d]])
}

/// `activation(x ∗ weight (+ bias) (+ residual))`, in the order of `x`.
#[allow(clippy::too_many_arguments)]
pub(super) fn forward(
    gpu: &'static Gpu,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    out: Shape,
    conv: &Conv,
    residual: Option<&Tensor>,
    activation: Option<UnaryOp>,
) -> Result<Tensor> {
    let (lies, kernel) = (order(x), &weight.dims()[2..]);
    let (x, y) = (lies.bring(gpu, x)?, New::of(gpu, lies.layout(out), x.dtype())?);
    // The kernels take the residual in vectors as they take all else.
    let residual = residual.map(|r| if is_aligned(r) { Ok(r.clone()) } else { r.copy() }).transpose()?;
    let fused = Fused::new(gpu, lies.layout(out), residual.as_ref(), activation)?;
    let work = Work::new(lies, x.shape(), out, kernel, x.dtype(), conv);
    work.forward(gpu, &y, &x, weight, bias, fused.epilogue(), along(lies, kernel, conv))?;
    fused.finish(y.tensor()?)
}

/// The gradient in the input, in the order of the gradient. Without strides it is a convolution with the taps in reverse.
pub(super) fn grad_input(
    gpu: &'static Gpu,
    grad: &Tensor,
    weight: &Tensor,
    input: Shape,
    conv: &Conv,
) -> Result<Tensor> {
    let (lies, kernel, dtype) = (order(grad), &weight.dims()[2..], grad.dtype());
    let (grad, dx) = (lies.bring(gpu, grad)?, New::of(gpu, lies.layout(input), dtype)?);
    let n = kernel.len();
    let rest = |d: usize| (conv.dilation[d] * (kernel[d] - 1)).checked_sub(conv.padding[d]);
    if (0..n).all(|d| conv.stride[d] == 1 && rest(d).is_some()) {
        let spatial: Vec<isize> = (2..n as isize + 2).collect();
        let reversed =
            Conv { padding: std::array::from_fn(|d| if d < n { rest(d).unwrap_or(0) } else { 0 }), ..*conv };
        let work = Work::new(lies, grad.shape(), input, kernel, dtype, &reversed);
        work.forward(
            gpu,
            &dx,
            &grad,
            &weight.flip(spatial)?,
            None,
            Epilogue::PLAIN,
            along(lies, kernel, &reversed),
        )?;
        return dx.tensor();
    }
    let work = Work::new(lies, input, grad.shape(), kernel, dtype, conv);
    let w = work.weight(weight)?;
    let count = work.units() * input.numel() / work.channels;
    let kernel = format!("depthwise_grad_input_{}_{}", work.order(), short(dtype));
    let launch = Launch::new(count.div_ceil(256) as u32, 256);
    launch::depthwise_grad_input(
        gpu,
        &kernel,
        launch,
        work.depthwise(count, 1)?,
        dx.at(),
        at(&grad),
        at(&w),
    )?;
    dx.tensor()
}

/// The gradient in the weight; both operands are brought into the order of channels last. `None` where these are no whole vectors.
pub(super) fn grad_weight(
    gpu: &'static Gpu,
    grad: &Tensor,
    x: &Tensor,
    weight: Shape,
    conv: &Conv,
) -> Result<Option<Tensor>> {
    let (dtype, channels) = (x.dtype(), x.dims()[1]);
    let aligned = |t: &Tensor| if is_aligned(t) { Ok(t.clone()) } else { t.copy() };
    if !channels.is_multiple_of(16 / dtype.size()) {
        return Ok(None);
    }
    let (x, grad) = (Lies::Last.bring(gpu, &aligned(x)?)?, Lies::Last.bring(gpu, &aligned(grad)?)?);
    let kernel = &weight.dims()[2..];
    let work = Work::new(Lies::Last, x.shape(), grad.shape(), kernel, dtype, conv);
    let rows = grad.numel() / channels;
    let log_across = work.units().min(32).ilog2();
    let (across, down) = (1 << log_across, BLOCK >> log_across);
    let chunk = (down * ROWS).max(rows.div_ceil(MOST_PIECES)).min(rows);
    let pieces = rows.div_ceil(chunk);
    let dw = New::contiguous(gpu, [pieces, work.taps * channels], dtype.accumulator())?;
    let row = *kernel.last().expect("a window has dims");
    let together = if [3, 5].contains(&row) { row } else { 1 };
    let blocks = [work.taps / together, work.units().div_ceil(across), pieces];
    launch::depthwise_grad_weight(
        gpu,
        &format!("depthwise_grad_weight_{together}_{}", short(dtype)),
        Launch { grid: blocks.map(|n| n as u32), ..Launch::new(1, BLOCK as u32) },
        work.depthwise(rows, 1)?,
        chunk as u32,
        log_across,
        dw.at(),
        at(&grad),
        at(&x),
    )?;
    let dw = joined(gpu, dw, [0])?.to_dtype(dtype)?.reshape([work.taps, channels])?;
    Ok(Some(dw.t()?.contiguous()?.reshape(weight)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_channel_for_each_group_is_taken() {
        let takes = |x: &[usize], w: &[usize], groups: usize| {
            let conv = Conv::default().groups(groups);
            let out = conv.output_shape("conv", x.into(), w.into()).unwrap();
            super::takes(x.into(), w.into(), out, &conv)
        };
        assert!(takes(&[1, 8, 5, 5], &[8, 1, 3, 3], 8));
        assert!(!takes(&[1, 8, 5, 5], &[16, 1, 3, 3], 8));
        assert!(!takes(&[1, 8, 5, 5], &[8, 2, 3, 3], 4));
        assert!(!takes(&[1, 1, 5, 5], &[1, 1, 3, 3], 1));
        assert!(!takes(&[0, 8, 5, 5], &[8, 1, 3, 3], 8));
    }

    #[test]
    fn runs_lie_along_the_last_dim_or_the_one_before() {
        let conv = Conv::default().stride([2, 1]).dilation([1, 3]);
        assert_eq!(along(Lies::Last, &[3, 5], &conv), [5, 1, 3]);
        assert_eq!(along(Lies::Planes, &[3, 5], &conv), [3, 2, 1]);
        assert_eq!(along(Lies::Planes, &[5], &conv), [1, 1, 1]);
    }
}
