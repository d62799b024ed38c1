//! Recurrent layers: the input's product of the whole sequence at once, then all steps in one launch, where that fits the GPU, else for
//! each step one product and one kernel for the gates.
//!
//! Products are those of the layer's dtype, as is the hidden state; the cell state and all running gradients are in the accumulator's.
//! The backward pass goes through the steps for the gradients of the products alone; those of the weights, biases and inputs are
//! single products over all steps at the end.

mod sequence;

use tensor::{
    Error, Layout, Result, RnnGrads, RnnInputs, RnnKind, RnnOutputs, RnnSizes, RnnSpec, Shape, Tensor,
};
use tensor::{Number, composed};

use self::sequence::Pass;
pub(crate) use self::sequence::Sequence;
use super::copy::{copy, full};
use super::names::short;
use super::storage::{New, at};
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};
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

/// One layer and direction over a whole sequence.
pub(super) fn rnn(
    gpu: &'static Gpu,
    spec: RnnSpec,
    inputs: &RnnInputs,
    training: bool,
) -> Result<RnnOutputs> {
    let sizes = inputs.sizes(spec.kind)?;
    let RnnSizes { t, n, hidden, .. } = sizes;
    if t * n * hidden == 0 {
        return composed::rnn(spec, inputs, training);
    }
    let (dtype, launch) = (inputs.x.dtype(), launch_of(sizes)?);
    let (name, blocks) = form(spec.kind);
    let kernel = format!("rnn_forward_{name}_{}", short(dtype));
    let keeps = training && blocks > 0;
    let projected = inputs.x.linear(&inputs.weight_ih, inputs.bias_ih.as_ref())?.contiguous()?;
    let output = New::contiguous(gpu, [t, n, hidden], dtype)?.tensor()?;
    let kept = keeps.then(|| New::contiguous(gpu, [t, n, blocks * hidden], dtype.accumulator())?.tensor());
    let kept = kept.transpose()?;
    let c = inputs.c0.as_ref().map(|c0| copy(gpu, c0, dtype.accumulator())).transpose()?;
    let mut h = inputs.h0.contiguous()?;
    if let Some(plan) = sequence::plan(gpu, Pass::Forward, (spec.kind, name), dtype, sizes)? {
        let weight = inputs.weight_hh.contiguous()?;
        let bias = inputs.bias_hh.as_ref().map(Tensor::contiguous).transpose()?;
        let options = if keeps { sequence::KEEPS } else { 0 }
            | if spec.reverse { sequence::REVERSE } else { 0 }
            | if bias.is_some() { sequence::BIASED } else { 0 };
        let whole = plan.0.sequence(sizes, options);
        let (c, kept) = (c.as_ref(), kept.as_ref());
        sequence::forward(gpu, plan, whole, &output, c, kept, &projected, &weight, bias.as_ref(), &h)?;
        h = output.select(0, spec.time(t - 1, t) as isize)?;
    } else {
        for time in (0..t).map(|taken| spec.time(taken, t)) {
            let recurrent = h.linear(&inputs.weight_hh, inputs.bias_hh.as_ref())?.contiguous()?;
            launch::rnn_forward(
                gpu,
                &kernel,
                launch,
                n as u32,
                hidden as u32,
                u32::from(keeps),
                step_of(&output, time),
                c.as_ref().map_or(Pointer::NONE, at),
                kept.as_ref().map_or(Pointer::NONE, |kept| step_of(kept, time)),
                step_of(&projected, time),
                at(&recurrent),
                at(&h),
            )?;
            h = output.select(0, time as isize)?;
        }
    }
    Ok(RnnOutputs {
        h_n: copy(gpu, &h, dtype)?,
        c_n: c.map(|c| c.to_dtype(dtype)).transpose()?,
        saved: kept.into_iter().collect(),
        output,
    })
}

/// What the forward pass kept; nothing for a plain layer, whose output tells all.
fn kept(spec: RnnSpec, sizes: RnnSizes, outputs: &RnnOutputs) -> Result<Option<Tensor>> {
    const OP: &str = "rnn_backward";
    let (_, blocks) = form(spec.kind);
    if blocks == 0 {
        return Ok(None);
    }
    let Some(kept) = outputs.saved.first() else {
        return Err(Error::argument(OP, "the outputs do not hold what it needs")
            .hint("compute them with training = true"));
    };
    let expected = Shape::from([sizes.t, sizes.n, blocks * sizes.hidden]);
    if kept.shape() != expected || kept.dtype() != outputs.output.dtype().accumulator() {
        return Err(Error::shapes(OP, expected, kept.shape()).hint("the outputs are those of another layer"));
    }
    kept.contiguous().map(Some)
}

/// The gradients of [`rnn`].
pub(super) fn rnn_backward(
    gpu: &'static Gpu,
    spec: RnnSpec,
    inputs: &RnnInputs,
    outputs: &RnnOutputs,
    [grad_output, grad_h_n, grad_c_n]: [Option<&Tensor>; 3],
) -> Result<RnnGrads> {
    let sizes = inputs.sizes(spec.kind)?;
    let RnnSizes { t, n, input, hidden } = sizes;
    if t * n * hidden == 0 {
        return composed::rnn_backward(spec, inputs, outputs, grad_output, grad_h_n, grad_c_n);
    }
    let (dtype, wide, launch) = (inputs.x.dtype(), inputs.x.dtype().accumulator(), launch_of(sizes)?);
    let (name, blocks) = form(spec.kind);
    let kernel = format!("rnn_backward_{name}_{}", short(dtype));
    let rows = spec.kind.gates() * hidden;
    let kept = kept(spec, sizes, outputs)?;
    let (output, h0) = (outputs.output.contiguous()?, inputs.h0.contiguous()?);
    let grad_output = grad_output.map(|grad| grad.to_dtype(dtype)?.contiguous()).transpose()?;
    let c0 = inputs.c0.as_ref().map(|c0| c0.to_dtype(wide)?.contiguous()).transpose()?;
    // Gradients of states, from the last step back to the first; changed in place.
    let start = |grad: Option<&Tensor>| match grad {
        Some(grad) => copy(gpu, grad, wide),
        None => full(gpu, Layout::contiguous([n, hidden].into()), wide, Number::Int(0)),
    };
    let dh = start(grad_h_n)?;
    let dc = c0.as_ref().map(|_| start(grad_c_n)).transpose()?;
    // The products differ in a GRU alone.
    let products = || New::contiguous(gpu, [t, n, rows], dtype)?.tensor();
    let da = products()?;
    let db = if spec.kind == RnnKind::Gru { products()? } else { da.clone() };
    let mut product: Option<Tensor> = None;
    let planned = sequence::plan(gpu, Pass::Backward, (spec.kind, name), dtype, sizes)?;
    if let Some((plan, kernel)) = &planned {
        let options = if spec.reverse { sequence::REVERSE } else { 0 }
            | if grad_output.is_some() { sequence::GRADED } else { 0 };
        let weight = inputs.weight_hh.contiguous()?;
        let (grads, counters) = (plan.exchange(gpu, dtype, None)?, plan.counters(gpu)?);
        launch::rnn_sequence_backward(
            gpu,
            kernel,
            plan.launch(),
            plan.sequence(sizes, options),
            at(&da),
            at(&db),
            at(&dh),
            dc.as_ref().map_or(Pointer::NONE, at),
            kept.as_ref().map_or(Pointer::NONE, at),
            at(&output),
            at(&h0),
            c0.as_ref().map_or(Pointer::NONE, at),
            grad_output.as_ref().map_or(Pointer::NONE, at),
            at(&weight),
            at(&grads),
            at(&counters),
        )?;
    }
    let by_steps = if planned.is_some() { 0 } else { t };
    for taken in (0..by_steps).rev() {
        let time = spec.time(taken, t);
        let before = taken.checked_sub(1).map(|taken| spec.time(taken, t));
        // An LSTM keeps the cell state in its last block.
        let (c_before, c_stride) = match (before, &kept, &c0) {
            (Some(before), Some(kept), Some(_)) => {
                let last = (blocks - 1) * hidden * wide.size();
                (Pointer(step_of(kept, before).0 + last as u64), blocks * hidden)
            }
            (_, _, c0) => (c0.as_ref().map_or(Pointer::NONE, at), hidden),
        };
        launch::rnn_backward(
            gpu,
            &kernel,
            launch,
            n as u32,
            hidden as u32,
            u32::from(product.is_some()) | u32::from(grad_output.is_some()) << 1,
            c_stride as i64,
            step_of(&da, time),
            step_of(&db, time),
            at(&dh),
            dc.as_ref().map_or(Pointer::NONE, at),
            kept.as_ref().map_or(Pointer::NONE, |kept| step_of(kept, time)),
            step_of(&output, time),
            before.map_or(at(&h0), |before| step_of(&output, before)),
            c_before,
            product.as_ref().map_or(Pointer::NONE, at),
            grad_output.as_ref().map_or(Pointer::NONE, |grad| step_of(grad, time)),
        )?;
        product = Some(db.select(0, time as isize)?.matmul(&inputs.weight_hh)?.contiguous()?);
    }
    let dh0 = match &product {
        Some(product) => dh.add(&product.to_dtype(wide)?)?,
        None => dh,
    };
    let (da, db) = (da.reshape([t * n, rows])?, db.reshape([t * n, rows])?);
    let x = inputs.x.reshape([t * n, input])?;
    let h_before = states_before(spec, &output, &h0)?.reshape([t * n, hidden])?;
    let bias = |bias: &Option<Tensor>, grad: &Tensor| bias.as_ref().map(|_| grad.sum(0, false)).transpose();
    Ok(RnnGrads {
        x: da.matmul(&inputs.weight_ih)?.reshape([t, n, input])?,
        h0: dh0.to_dtype(dtype)?,
        c0: dc.map(|dc| dc.to_dtype(dtype)).transpose()?,
        weight_ih: da.t()?.matmul(&x)?,
        weight_hh: db.t()?.matmul(&h_before)?,
        bias_ih: bias(&inputs.bias_ih, &da)?,
        bias_hh: bias(&inputs.bias_hh, &db)?,
    })
}

/// The hidden state before each step, at the step's place in time.
fn states_before(spec: RnnSpec, output: &Tensor, h0: &Tensor) -> Result<Tensor> {
    let (others, first) = (output.dims()[0] - 1, h0.unsqueeze(0)?);
    match spec.reverse {
        false => Tensor::cat(&[first, output.narrow(0, 0, others)?], 0),
        true => Tensor::cat(&[output.narrow(0, 1, others)?, first], 0),
    }
}
