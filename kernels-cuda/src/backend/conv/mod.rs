//! Convolutions and their gradients, as matrix products of windows that are never written out.
//!
//! With P the places of the result and R the taps of the kernel, for each group:
//!
//! | | channels | places | sums over |
//! |---|---|---|---|
//! | forward | o | n, P | c, R |
//! | gradient of the input | c | n, places of one phase | o, taps that meet them |
//! | gradient of the weight | o | c, R | n, P |
//!
//! A phase of the input is its places at one offset in each step of the stride: all of them meet the same taps, so that the gradient
//! of a phase is a convolution without a stride, and nothing is multiplied by a zero between strides.
//!
//! Convolutions with one channel for each group are sums of their own ([`depthwise`]).
//!
//! [`Order`] says in which order the images lie in memory, and so what runs of 16 bytes are: of places, or of channels.

pub(crate) mod depthwise;
mod geometry;
pub(crate) mod hopper;
mod last;
mod order;
mod product;

use tensor::op::UnaryOp;
use tensor::{Conv, Result, Shape, Tensor};

use self::geometry::{Image, Phase, Spec, each, each_of, with};
use self::last::{to_channels_last, weight_to_channels_last};
use self::order::{Channels, Order, order};
use self::product::{Form, Parts, product};
use super::gemm::epilogue::{Epilogue, Fused};
use super::gemm::product::Frame;
use super::storage::{New, at};
use crate::gpu::Gpu;

const OP: &str = "conv";

/// What the order of a convolution depends on.
fn channels(weight: Shape, conv: &Conv) -> Channels {
    let dims = weight.dims();
    Channels { inputs: dims[1], outputs: dims[0] / conv.groups.max(1), groups: conv.groups }
}

/// Images of so many groups as an order wants them.
fn in_order(gpu: &'static Gpu, order: Order, x: &Tensor, groups: usize) -> Result<Tensor> {
    match order {
        Order::Planes => Ok(x.clone()),
        Order::Last { channels } => to_channels_last(gpu, x, channels * groups),
    }
}

/// A weight as an order wants it.
fn weight_in_order(gpu: &'static Gpu, order: Order, weight: &Tensor) -> Result<Tensor> {
    match order {
        Order::Planes => Ok(weight.clone()),
        Order::Last { channels } => weight_to_channels_last(gpu, weight, channels),
    }
}

/// The gradient of a result as an order wants it: its channels are filled up with zeros to whole vectors.
fn gradient_in_order(gpu: &'static Gpu, order: Order, grad: &Tensor) -> Result<Tensor> {
    match order {
        Order::Planes => Ok(grad.clone()),
        Order::Last { .. } => {
            to_channels_last(gpu, grad, grad.dims()[1].next_multiple_of(16 / grad.dtype().size()))
        }
    }
}

/// `activation([n, c, spatial…] ∗ [o, c / groups, kernel…] (+ [o]) (+ residual))`.
pub(super) fn conv(
    gpu: &'static Gpu,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    conv: &Conv,
    residual: Option<&Tensor>,
    activation: Option<UnaryOp>,
) -> Result<Tensor> {
    let shape = conv.output_shape(OP, x.shape(), weight.shape())?;
    let spec = Spec::new(OP, conv, &x.dims()[2..], &weight.dims()[2..])?;
    if depthwise::takes(x.shape(), weight.shape(), shape, conv) {
        return depthwise::forward(gpu, x, weight, bias, shape, conv, residual, activation);
    }
    let order = order(x.dtype(), channels(weight.shape(), conv));
    let (x, weight) = (in_order(gpu, order, x, conv.groups)?, weight_in_order(gpu, order, weight)?);
    let result = New::of(gpu, order.layout(shape), x.dtype())?;
    let fused = Fused::new(gpu, order.layout(shape), residual, activation)?;
    let (x, w) = (Image::of(&x), Image::of(&weight));
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
    let parts = Parts {
        groups: spec.groups,
        rows: (outputs, y.channels.1),
        left: ([(outputs, w.outer.1), (1, 0), (1, 0), (1, 0)], with(w.spatial, (inputs, w.channels.1))),
        frame,
        image: x,
        right: (with(places, (x.outer.0, x.outer.1)), with(taps, (inputs, x.channels.1))),
        columns: with(y.spatial, y.outer),
        bias: bias.map(|b| (at(b), b.layout().strides()[0])),
        epilogue: fused.epilogue(),
        steps: [
            y.channels.1 * outputs as isize,
            w.outer.1 * outputs as isize,
            x.channels.1 * inputs as isize,
        ],
        at: [y.at, w.at, x.moved(padding)],
        dtype: weight.dtype(),
    };
    product(gpu, OP, Form::Places, order, parts)?;
    fused.finish(result.tensor()?)
}

/// The gradient in the input, a phase after the other.
pub(super) fn conv_grad_input(
    gpu: &'static Gpu,
    grad: &Tensor,
    weight: &Tensor,
    input: Shape,
    conv: &Conv,
) -> Result<Tensor> {
    let spec = Spec::new(OP, conv, &input.dims()[2..], &weight.dims()[2..])?;
    if depthwise::takes(input, weight.shape(), grad.shape(), conv) {
        return depthwise::grad_input(gpu, grad, weight, input, conv);
    }
    let (dtype, of) = (grad.dtype(), channels(weight.shape(), conv));
    // Sums run over channels of the result. Those of the input that were added to fill vectors have no gradient.
    let order = match order(dtype, of) {
        Order::Last { channels } if channels == of.inputs && of.outputs.is_multiple_of(16 / dtype.size()) => {
            Order::Last { channels }
        }
        _ => Order::Planes,
    };
    let grad = gradient_in_order(gpu, order, grad)?;
    let weight = weight_in_order(gpu, order, weight)?;
    let result = New::of(gpu, order.layout(input), dtype)?;
    let (g, w) = (Image::of(&grad), Image::of(&weight));
    let dx = Image::new(&result.operand().layout, result.at(), dtype);
    let (outputs, inputs) = (w.outer.0 / spec.groups, w.channels.0);
    let [a, b, c] = each_of(|s| spec.stride[s].min(dx.spatial[s].0));
    for phase in (0..a * b * c).map(|p| [p % a, p / a % b, p / a / b]) {
        let meets: [Phase; 3] = std::array::from_fn(|s| {
            Phase::new(phase[s], spec.stride[s], spec.padding[s], spec.dilation[s], w.spatial[s].0)
        });
        let extents = each_of(|s| dx.spatial[s].0.saturating_sub(phase[s]).div_ceil(spec.stride[s]));
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
        let parts = Parts {
            groups: spec.groups,
            rows: (inputs, dx.channels.1),
            left: ([(inputs, w.channels.1), (1, 0), (1, 0), (1, 0)], with(of_weight, (outputs, w.outer.1))),
            frame,
            image: g,
            right: (with(places, g.outer), with(taps, (outputs, g.channels.1))),
            columns: with(columns, dx.outer),
            bias: None,
            epilogue: Epilogue::PLAIN,
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
        };
        product(gpu, "conv_grad_input", Form::Places, order, parts)?;
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
    let spec = Spec::new(OP, conv, &x.dims()[2..], &weight.dims()[2..])?;
    if depthwise::takes(x.shape(), weight, grad.shape(), conv)
        && let Some(dw) = depthwise::grad_weight(gpu, grad, x, weight, conv)?
    {
        return Ok(dw);
    }
    let (dtype, given) = (x.dtype(), weight.dims()[1]);
    let order = order(dtype, channels(weight, conv));
    let x = in_order(gpu, order, x, conv.groups)?;
    let grad = gradient_in_order(gpu, order, grad)?;
    // Row-major, as parameters mostly are; with the channels that were added to the input.
    let filled = if given == 0 { weight } else { weight.with_dim(1, x.dims()[1] / conv.groups) };
    let result = New::contiguous(gpu, filled, dtype)?;
    let (g, x) = (Image::of(&grad), Image::of(&x));
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
    let parts = Parts {
        groups: spec.groups,
        rows: (outputs, dw.outer.1),
        left: ([(outputs, g.channels.1), (1, 0), (1, 0), (1, 0)], with(g.spatial, g.outer)),
        frame,
        image: x,
        right: (with(taps, (inputs, x.channels.1)), with(places, x.outer)),
        columns: with(dw.spatial, dw.channels),
        bias: None,
        epilogue: Epilogue::PLAIN,
        steps: [
            dw.outer.1 * outputs as isize,
            g.channels.1 * outputs as isize,
            x.channels.1 * inputs as isize,
        ],
        at: [dw.at, g.at, x.moved(padding)],
        dtype,
    };
    product(gpu, "conv_grad_weight", Form::Taps, order, parts)?;
    let result = result.tensor()?;
    if filled == weight { Ok(result) } else { result.narrow(1, 0, given)?.contiguous() }
}
