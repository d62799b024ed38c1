//! Recurrent layers: the input's product of the whole sequence at once, then all steps in one launch, where that fits the GPU, else for
//! each step one product and one kernel for the gates.
//!
//! Products are those of the layer's dtype, as is the hidden state; the cell state and all running gradients are in the accumulator's.
//! The backward pass goes through the steps for the gradients of the products alone; those of the weights, biases and inputs are
//! single products over all steps at the end.

mod backward;
mod forward;
mod sequence;

use tensor::backend::RnnOutputGrads;
use tensor::{Error, Result, RnnGrads, RnnInputs, RnnKind, RnnOutputs, RnnSizes, RnnSpec, Tensor, composed};

use self::backward::Backward;
use self::forward::Forward;
use self::sequence::Pass;
pub(crate) use self::sequence::{
    Backward as BackwardOperands, Directions, Forward as ForwardOperands, Sequence,
};
use super::storage::at;
use crate::gpu::Gpu;
use crate::launch::Pointer;
use crate::module::Launch;

/// Threads of a block: `RNN_THREADS` of `cuda/rnn.cu`.
const THREADS: u32 = 256;

/// What a kind is called in the names of kernels, and how many blocks of units its steps keep for the backward pass.
fn form(kind: RnnKind) -> (&'static str, usize) {
    match kind {
        RnnKind::Tanh => ("tanh", 0),
        RnnKind::Relu => ("relu", 0),
        RnnKind::Lstm => ("lstm", 5),
        RnnKind::Gru => ("gru", 4),
    }
}

/// A thread for each unit of a step.
fn launch_of(sizes: RnnSizes) -> Result<Launch> {
    let units = sizes.n * sizes.hidden;
    match u32::try_from(units) {
        Ok(units) if units < 1 << 31 => Ok(Launch::new(units.div_ceil(THREADS), THREADS)),
        _ => Err(Error::argument(
            "rnn",
            format!("{units} units in a step; CUDA devices take fewer than 2147483648"),
        )),
    }
}

/// Where the rows of a step begin in a row-major `[t, n, width]`.
fn step_of(x: &Tensor, time: usize) -> Pointer {
    let step = x.dims()[1] * x.dims()[2] * x.dtype().size();
    Pointer(at(x).0 + (time * step) as u64)
}

/// Whether there is nothing to compute.
fn is_empty(sizes: RnnSizes) -> bool {
    sizes.t * sizes.n * sizes.hidden == 0
}

/// One layer and direction over a whole sequence.
pub(super) fn rnn(
    gpu: &'static Gpu,
    spec: RnnSpec,
    inputs: &RnnInputs,
    training: bool,
) -> Result<RnnOutputs> {
    let sizes = inputs.sizes(spec.kind)?;
    if is_empty(sizes) {
        return composed::rnn(spec, inputs, training);
    }
    let mut layer = Forward::new(gpu, spec, inputs, training)?;
    match sequence::plan(gpu, Pass::Forward, spec.kind, inputs.x.dtype(), sizes, 1)? {
        Some(plan) => forward::together(gpu, plan, [&mut layer])?,
        None => layer.by_steps(gpu)?,
    }
    layer.outputs(gpu)
}

/// Both directions: in one launch, where blocks for both fit the GPU.
pub(super) fn rnn_bidirectional(
    gpu: &'static Gpu,
    kind: RnnKind,
    inputs: [&RnnInputs; 2],
    training: bool,
) -> Result<[RnnOutputs; 2]> {
    let spec = |reverse| RnnSpec { kind, reverse };
    let Some(plan) = plan_of_both(gpu, Pass::Forward, kind, inputs)? else {
        return Ok([rnn(gpu, spec(false), inputs[0], training)?, rnn(gpu, spec(true), inputs[1], training)?]);
    };
    let mut there = Forward::new(gpu, spec(false), inputs[0], training)?;
    let mut back = Forward::new(gpu, spec(true), inputs[1], training)?;
    forward::together(gpu, plan, [&mut there, &mut back])?;
    Ok([there.outputs(gpu)?, back.outputs(gpu)?])
}

/// The plan for two layers at once, if they are of the same extents and there is one.
fn plan_of_both(
    gpu: &Gpu,
    pass: Pass,
    kind: RnnKind,
    [there, back]: [&RnnInputs; 2],
) -> Result<Option<(sequence::Plan, String)>> {
    let (sizes, others) = (there.sizes(kind)?, back.sizes(kind)?);
    let alike = [sizes.t, sizes.n, sizes.hidden] == [others.t, others.n, others.hidden]
        && there.x.dtype() == back.x.dtype();
    match alike && !is_empty(sizes) {
        true => sequence::plan(gpu, pass, kind, there.x.dtype(), sizes, 2),
        false => Ok(None),
    }
}

/// The gradients of [`rnn`].
pub(super) fn rnn_backward(
    gpu: &'static Gpu,
    spec: RnnSpec,
    inputs: &RnnInputs,
    outputs: &RnnOutputs,
    grads: RnnOutputGrads,
) -> Result<RnnGrads> {
    let sizes = inputs.sizes(spec.kind)?;
    if is_empty(sizes) {
        let RnnOutputGrads { output, h_n, c_n } = grads;
        return composed::rnn_backward(spec, inputs, outputs, output, h_n, c_n);
    }
    let layer = Backward::new(gpu, spec, inputs, outputs, grads)?;
    match sequence::plan(gpu, Pass::Backward, spec.kind, inputs.x.dtype(), sizes, 1)? {
        Some(plan) => {
            backward::together(gpu, plan, [&layer])?;
            layer.grads(None)
        }
        None => {
            let product = layer.by_steps(gpu)?;
            layer.grads(product)
        }
    }
}

/// The gradients of [`rnn_bidirectional`].
pub(super) fn rnn_bidirectional_backward(
    gpu: &'static Gpu,
    kind: RnnKind,
    inputs: [&RnnInputs; 2],
    outputs: [&RnnOutputs; 2],
    grads: [RnnOutputGrads; 2],
) -> Result<[RnnGrads; 2]> {
    let spec = |i| RnnSpec { kind, reverse: i == 1 };
    let Some(plan) = plan_of_both(gpu, Pass::Backward, kind, inputs)? else {
        let run = |i: usize| rnn_backward(gpu, spec(i), inputs[i], outputs[i], grads[i]);
        return Ok([run(0)?, run(1)?]);
    };
    let layer = |i: usize| Backward::new(gpu, spec(i), inputs[i], outputs[i], grads[i]);
    let (there, back) = (layer(0)?, layer(1)?);
    backward::together(gpu, plan, [&there, &back])?;
    Ok([there.grads(None)?, back.grads(None)?])
}
