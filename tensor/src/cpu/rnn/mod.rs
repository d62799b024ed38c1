//! Fused recurrent layers: all input products of a chunk of steps at once, then the steps, in one parallel region. A task of a
//! step has some units: it multiplies the states with these units' weights, which were packed once (and are kept for the next
//! sequence while they do not change) and stay in its core's cache, and passes over the gates while the products are near.
//! Threads wait for each other once per step.
//!
//! A step's rows are first the input's products and then, in the same place, what the backward pass wants of the gates:
//! `[t, n, kept * hidden]`, the very tensor that the composed form saves. The backward pass goes through the steps for the gradients
//! of the pre-activations alone; those of the weights, biases and inputs are single products over all steps at the end.
//!
//! `f32` only; other dtypes, and layers with nothing to compute, take the composed form. Nothing is allocated per step.

mod backward;
mod cell;
mod cut;
mod forward;
mod matrix;
mod rows;
#[cfg(test)]
mod tests;

use crate::composed;
use crate::{
    DType, Error, Result, RnnGrads, RnnInputs, RnnKind, RnnOutputs, RnnSizes, RnnSpec, Shape, Tensor,
};
use backward::OfOutputs;
use cell::Cell;

/// One layer and direction over a whole sequence.
pub(crate) fn rnn(spec: RnnSpec, inputs: &RnnInputs, training: bool) -> Result<RnnOutputs> {
    let sizes = inputs.sizes(spec.kind)?;
    if !suits(inputs, sizes) {
        return composed::rnn(spec, inputs, training);
    }
    match spec.kind {
        RnnKind::Tanh => forward::run::<cell::Tanh>(spec, inputs, sizes, training),
        RnnKind::Relu => forward::run::<cell::Relu>(spec, inputs, sizes, training),
        RnnKind::Lstm => forward::run::<cell::Lstm>(spec, inputs, sizes, training),
        RnnKind::Gru => forward::run::<cell::Gru>(spec, inputs, sizes, training),
    }
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
    let grads = OfOutputs { output: grad_output, h_n: grad_h_n, c_n: grad_c_n };
    match spec.kind {
        RnnKind::Tanh => backward::<cell::Tanh>(spec, inputs, sizes, outputs, grads),
        RnnKind::Relu => backward::<cell::Relu>(spec, inputs, sizes, outputs, grads),
        RnnKind::Lstm => backward::<cell::Lstm>(spec, inputs, sizes, outputs, grads),
        RnnKind::Gru => backward::<cell::Gru>(spec, inputs, sizes, outputs, grads),
    }
}

/// Whether there is something to compute, in a dtype that the kernels take.
fn suits(inputs: &RnnInputs, sizes: RnnSizes) -> bool {
    inputs.x.dtype() == DType::F32 && sizes.t * sizes.n * sizes.hidden > 0
}

/// The backward pass, from what the forward pass kept.
fn backward<C: Cell>(
    spec: RnnSpec,
    inputs: &RnnInputs,
    sizes: RnnSizes,
    outputs: &RnnOutputs,
    grads: OfOutputs,
) -> Result<RnnGrads> {
    const OP: &str = "rnn_backward";
    let output = outputs.output.contiguous()?;
    // A plain layer keeps its output alone.
    let kept = if C::KEPT > 1 { outputs.saved.first() } else { Some(&output) };
    let kept = kept.ok_or_else(|| {
        Error::argument(OP, "the outputs do not hold what it needs").hint("compute them with training = true")
    })?;
    let expected = Shape::from([sizes.t, sizes.n, C::KEPT * sizes.hidden]);
    if kept.shape() != expected {
        return Err(Error::shapes(OP, expected, kept.shape()).hint("the outputs are those of another layer"));
    }
    inputs.x.check_same(OP, kept)?;
    backward::run::<C>(spec, inputs, sizes, &kept.contiguous()?, &output, grads)
}
