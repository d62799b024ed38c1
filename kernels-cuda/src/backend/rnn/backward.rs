//! The backward pass of a recurrent layer.

use tensor::backend::RnnOutputGrads;
use tensor::{
    Error, Layout, Number, Result, RnnGrads, RnnInputs, RnnKind, RnnOutputs, RnnSizes, RnnSpec, Shape, Tensor,
};

use super::sequence::{self, Directions, Plan};
use super::{form, launch_of, step_of};
use crate::backend::copy::{copy, full};
use crate::backend::names::short;
use crate::backend::storage::{New, at};
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};

/// A layer and direction, and what its steps read and write.
pub(super) struct Backward<'a> {
    spec: RnnSpec,
    inputs: &'a RnnInputs,
    sizes: RnnSizes,
    kept: Option<Tensor>,
    output: Tensor,
    h0: Tensor,
    c0: Option<Tensor>,
    grad_output: Option<Tensor>,
    /// Gradients of states, from the last step back to the first; changed in place.
    dh: Tensor,
    dc: Option<Tensor>,
    /// Those of the input's and the recurrent products, which differ in a GRU alone.
    da: Tensor,
    db: Tensor,
}

impl<'a> Backward<'a> {
    /// Of at least one unit and step.
    pub(super) fn new(
        gpu: &'static Gpu,
        spec: RnnSpec,
        inputs: &'a RnnInputs,
        outputs: &RnnOutputs,
        grads: RnnOutputGrads,
    ) -> Result<Backward<'a>> {
        let sizes = inputs.sizes(spec.kind)?;
        let RnnSizes { t, n, hidden, .. } = sizes;
        let (dtype, wide) = (inputs.x.dtype(), inputs.x.dtype().accumulator());
        let kept = kept(spec, sizes, outputs)?;
        let c0 = inputs.c0.as_ref().map(|c0| c0.to_dtype(wide)?.contiguous()).transpose()?;
        let start = |grad: Option<&Tensor>| match grad {
            Some(grad) => copy(gpu, grad, wide),
            None => full(gpu, Layout::contiguous([n, hidden].into()), wide, Number::Int(0)),
        };
        let products = || New::contiguous(gpu, [t, n, spec.kind.gates() * hidden], dtype)?.tensor();
        let da = products()?;
        Ok(Backward {
            spec,
            inputs,
            sizes,
            kept,
            output: outputs.output.contiguous()?,
            h0: inputs.h0.contiguous()?,
            grad_output: grads.output.map(|grad| grad.to_dtype(dtype)?.contiguous()).transpose()?,
            dh: start(grads.h_n)?,
            dc: c0.as_ref().map(|_| start(grads.c_n)).transpose()?,
            c0,
            db: if spec.kind == RnnKind::Gru { products()? } else { da.clone() },
            da,
        })
    }

    /// A kernel and a product for each step; what the last product adds to the gradient of the first state.
    pub(super) fn by_steps(&self, gpu: &'static Gpu) -> Result<Option<Tensor>> {
        let Backward { spec, inputs, sizes, kept, output, h0, c0, grad_output, dh, dc, da, db } = self;
        let RnnSizes { t, n, hidden, .. } = *sizes;
        let (name, blocks) = form(spec.kind);
        let kernel = format!("rnn_backward_{name}_{}", short(output.dtype()));
        let (launch, wide) = (launch_of(*sizes)?, dh.dtype());
        let mut product: Option<Tensor> = None;
        for taken in (0..t).rev() {
            let time = spec.time(taken, t);
            let before = taken.checked_sub(1).map(|taken| spec.time(taken, t));
            // An LSTM keeps the cell state in its last block.
            let (c_before, c_stride) = match (before, kept, c0) {
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
                step_of(da, time),
                step_of(db, time),
                at(dh),
                dc.as_ref().map_or(Pointer::NONE, at),
                kept.as_ref().map_or(Pointer::NONE, |kept| step_of(kept, time)),
                step_of(output, time),
                before.map_or(at(h0), |before| step_of(output, before)),
                c_before,
                product.as_ref().map_or(Pointer::NONE, at),
                grad_output.as_ref().map_or(Pointer::NONE, |grad| step_of(grad, time)),
            )?;
            product = Some(db.select(0, time as isize)?.matmul(&inputs.weight_hh)?.contiguous()?);
        }
        Ok(product)
    }

    /// All gradients, from those of the products; `product` is to be added to that of the first state.
    pub(super) fn grads(self, product: Option<Tensor>) -> Result<RnnGrads> {
        let Backward { spec, inputs, sizes, output, h0, dh, dc, da, db, .. } = self;
        let RnnSizes { t, n, input, hidden } = sizes;
        let (dtype, rows) = (output.dtype(), spec.kind.gates() * hidden);
        let dh0 = match &product {
            Some(product) => dh.add(&product.to_dtype(dh.dtype())?)?,
            None => dh,
        };
        let (da, db) = (da.reshape([t * n, rows])?, db.reshape([t * n, rows])?);
        let x = inputs.x.reshape([t * n, input])?;
        let h_before = states_before(spec, &output, &h0)?.reshape([t * n, hidden])?;
        let bias =
            |bias: &Option<Tensor>, grad: &Tensor| bias.as_ref().map(|_| grad.sum(0, false)).transpose();
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
}

/// All steps of one layer, or of two of the same extents, in one launch.
pub(super) fn together<const N: usize>(
    gpu: &'static Gpu,
    (plan, kernel): (Plan, String),
    layers: [&Backward; N],
) -> Result<()> {
    let (mut operands, mut held) = (vec![], vec![]);
    for layer in layers {
        let Backward { spec, inputs, kept, output, h0, c0, grad_output, dh, dc, da, db, .. } = layer;
        let weight = inputs.weight_hh.contiguous()?;
        let (grads, counters) = (plan.exchange(gpu, output.dtype(), None)?, plan.counters(gpu)?);
        let place = |x: &Option<Tensor>| x.as_ref().map_or(Pointer::NONE, at);
        operands.push(sequence::Backward {
            da: at(da),
            db: at(db),
            dh: at(dh),
            dc: place(dc),
            kept: place(kept),
            output: at(output),
            h0: at(h0),
            c0: place(c0),
            grad: place(grad_output),
            weight: at(&weight),
            grads: at(&grads),
            counters: at(&counters),
            options: if spec.reverse { sequence::REVERSE } else { 0 }
                | if grad_output.is_some() { sequence::GRADED } else { 0 },
        });
        held.push((weight, grads, counters));
    }
    let whole = plan.sequence(layers[0].sizes);
    Ok(launch::rnn_sequence_backward(gpu, &kernel, plan.launch(), whole, Directions::new(&operands))?)
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

/// The hidden state before each step, at the step's place in time.
fn states_before(spec: RnnSpec, output: &Tensor, h0: &Tensor) -> Result<Tensor> {
    let (others, first) = (output.dims()[0] - 1, h0.unsqueeze(0)?);
    match spec.reverse {
        false => Tensor::cat(&[first, output.narrow(0, 0, others)?], 0),
        true => Tensor::cat(&[output.narrow(0, 1, others)?, first], 0),
    }
}
