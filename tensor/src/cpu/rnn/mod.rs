//! Fused recurrent layers: all input products of a chunk of steps at once, then the steps, in one parallel region. A task of a
//! step has some units: it multiplies the states with these units' weights, which were packed once (and are kept for the next
//! sequence while they do not change) and stay in its core's cache, and passes over the gates while the products are near.
//! What the gates read and write is asked for before the products, since it lies in lines far apart. Threads wait for each other
//! once per step. Both directions of a layer may be taken at once ([`bidirectional`]).
//!
//! A step's rows are first the input's products and then, in the same place, what the backward pass wants of the gates:
//! `[t, n, kept * hidden]`, the very tensor that the composed form saves. The backward pass goes through the steps for the gradients
//! of the pre-activations alone; those of the weights, biases and inputs are single products over all steps at the end.
//!
//! `f32` only; other dtypes, and layers with nothing to compute, take the composed form. Nothing is allocated per step.

mod backward;
mod bidirectional;
mod cell;
mod cut;
mod forward;
mod gates;
mod matrix;
mod rows;
#[cfg(test)]
mod tests;
mod unit;

pub(crate) use bidirectional::{rnn_bidirectional, rnn_bidirectional_backward};

use crate::composed;
use crate::{
    DType, Error, Result, RnnGrads, RnnInputs, RnnKind, RnnOutputGrads, RnnOutputs, RnnSizes, RnnSpec, Shape,
    Tensor,
};
use backward::Direction;
use cell::Cell;

/// One layer and direction over a whole sequence.
pub(crate) fn rnn(spec: RnnSpec, inputs: &RnnInputs, training: bool) -> Result<RnnOutputs> {
    let sizes = inputs.sizes(spec.kind)?;
    if !suits(inputs, sizes) {
        return composed::rnn(spec, inputs, training);
    }
    let mut outputs = forward(spec.kind, &[(spec, inputs)], sizes, training)?;
    Ok(outputs.swap_remove(0))
}

/// The gradients of [`rnn`].
pub(crate) fn rnn_backward(
    spec: RnnSpec,
    inputs: &RnnInputs,
    outputs: &RnnOutputs,
    grad_output: Option<&Tensor>,
    grad_h_n: Option<&Tensor>,
    grad_c_n: Option<&Tensor>,
) -> Result<RnnGrads> {
    let sizes = inputs.sizes(spec.kind)?;
    if !suits(inputs, sizes) {
        return composed::rnn_backward(spec, inputs, outputs, grad_output, grad_h_n, grad_c_n);
    }
    let grads = RnnOutputGrads { output: grad_output, h_n: grad_h_n, c_n: grad_c_n };
    let direction = direction(spec, inputs, sizes, outputs, grads)?;
    Ok(backward(spec.kind, &[direction], sizes)?.swap_remove(0))
}

/// Whether there is something to compute, in a dtype that the kernels take.
fn suits(inputs: &RnnInputs, sizes: RnnSizes) -> bool {
    inputs.x.dtype() == DType::F32 && sizes.t * sizes.n * sizes.hidden > 0
}

/// Calls a function for the equations of a kind.
macro_rules! of_kind {
    ($kind:expr, $f:ident::run($($argument:expr),*)) => {
        match $kind {
            RnnKind::Tanh => $f::run::<cell::Tanh>($($argument),*),
            RnnKind::Relu => $f::run::<cell::Relu>($($argument),*),
            RnnKind::Lstm => $f::run::<cell::Lstm>($($argument),*),
            RnnKind::Gru => $f::run::<cell::Gru>($($argument),*),
        }
    };
}

/// The forward pass in some directions at once.
fn forward(
    kind: RnnKind,
    directions: &[(RnnSpec, &RnnInputs)],
    sizes: RnnSizes,
    training: bool,
) -> Result<Vec<RnnOutputs>> {
    of_kind!(kind, forward::run(directions, sizes, training))
}

/// The backward pass in some directions at once.
fn backward(kind: RnnKind, directions: &[Direction], sizes: RnnSizes) -> Result<Vec<RnnGrads>> {
    of_kind!(kind, backward::run(directions, sizes))
}

/// A direction with what its forward pass kept.
fn direction<'a>(
    spec: RnnSpec,
    inputs: &'a RnnInputs,
    sizes: RnnSizes,
    outputs: &RnnOutputs,
    grads: RnnOutputGrads<'a>,
) -> Result<Direction<'a>> {
    const OP: &str = "rnn_backward";
    let output = outputs.output.contiguous()?;
    let blocks = match spec.kind {
        RnnKind::Tanh => cell::Tanh::KEPT,
        RnnKind::Relu => cell::Relu::KEPT,
        RnnKind::Lstm => cell::Lstm::KEPT,
        RnnKind::Gru => cell::Gru::KEPT,
    };
    // A plain layer keeps its output alone.
    let kept = if blocks > 1 { outputs.saved.first() } else { Some(&output) };
    let kept = kept.ok_or_else(|| {
        Error::argument(OP, "the outputs do not hold what it needs").hint("compute them with training = true")
    })?;
    let expected = Shape::from([sizes.t, sizes.n, blocks * sizes.hidden]);
    if kept.shape() != expected {
        return Err(Error::shapes(OP, expected, kept.shape()).hint("the outputs are those of another layer"));
    }
    inputs.x.check_same(OP, kept)?;
    Ok(Direction { spec, inputs, kept: kept.contiguous()?, output, grads })
}
