//! The forward pass of a recurrent layer.

use tensor::{Result, RnnInputs, RnnOutputs, RnnSizes, RnnSpec, Tensor};

use super::sequence::{self, Directions, Plan};
use super::{form, launch_of, step_of};
use crate::backend::copy::copy;
use crate::backend::names::short;
use crate::backend::storage::{New, at};
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};

/// A layer and direction, and what its steps write.
pub(super) struct Forward<'a> {
    spec: RnnSpec,
    inputs: &'a RnnInputs,
    sizes: RnnSizes,
    /// The input's product of the whole sequence.
    projected: Tensor,
    output: Tensor,
    kept: Option<Tensor>,
    /// The cell state, in place, and the hidden one: before the first step, then after the last.
    c: Option<Tensor>,
    h: Tensor,
}

impl<'a> Forward<'a> {
    /// Of at least one unit and step. `training`: whether steps keep what the backward pass needs.
    pub(super) fn new(
        gpu: &'static Gpu,
        spec: RnnSpec,
        inputs: &'a RnnInputs,
        training: bool,
    ) -> Result<Forward<'a>> {
        let sizes = inputs.sizes(spec.kind)?;
        let RnnSizes { t, n, hidden, .. } = sizes;
        let (dtype, wide, (_, blocks)) = (inputs.x.dtype(), inputs.x.dtype().accumulator(), form(spec.kind));
        let kept =
            (training && blocks > 0).then(|| New::contiguous(gpu, [t, n, blocks * hidden], wide)?.tensor());
        Ok(Forward {
            spec,
            inputs,
            sizes,
            projected: inputs.x.linear(&inputs.weight_ih, inputs.bias_ih.as_ref())?.contiguous()?,
            output: New::contiguous(gpu, [t, n, hidden], dtype)?.tensor()?,
            kept: kept.transpose()?,
            c: inputs.c0.as_ref().map(|c0| copy(gpu, c0, wide)).transpose()?,
            h: inputs.h0.contiguous()?,
        })
    }

    /// A product and a kernel for each step.
    pub(super) fn by_steps(&mut self, gpu: &'static Gpu) -> Result<()> {
        let Forward { spec, inputs, sizes, projected, output, kept, c, h } = self;
        let kernel = format!("rnn_forward_{}_{}", form(spec.kind).0, short(output.dtype()));
        let launch = launch_of(*sizes)?;
        for time in (0..sizes.t).map(|taken| spec.time(taken, sizes.t)) {
            let recurrent = h.linear(&inputs.weight_hh, inputs.bias_hh.as_ref())?.contiguous()?;
            launch::rnn_forward(
                gpu,
                &kernel,
                launch,
                sizes.n as u32,
                sizes.hidden as u32,
                u32::from(kept.is_some()),
                step_of(output, time),
                c.as_ref().map_or(Pointer::NONE, at),
                kept.as_ref().map_or(Pointer::NONE, |kept| step_of(kept, time)),
                step_of(projected, time),
                at(&recurrent),
                at(h),
            )?;
            *h = output.select(0, time as isize)?;
        }
        Ok(())
    }

    pub(super) fn outputs(self, gpu: &'static Gpu) -> Result<RnnOutputs> {
        let dtype = self.output.dtype();
        Ok(RnnOutputs {
            h_n: copy(gpu, &self.h, dtype)?,
            c_n: self.c.map(|c| c.to_dtype(dtype)).transpose()?,
            saved: self.kept.into_iter().collect(),
            output: self.output,
        })
    }
}

/// All steps of one layer, or of two of the same extents, in one launch.
pub(super) fn together<const N: usize>(
    gpu: &'static Gpu,
    (plan, kernel): (Plan, String),
    mut layers: [&mut Forward; N],
) -> Result<()> {
    let (mut operands, mut held) = (vec![], vec![]);
    for layer in &layers {
        let Forward { spec, inputs, projected, output, kept, c, h, .. } = &**layer;
        let weight = inputs.weight_hh.contiguous()?;
        let bias = inputs.bias_hh.as_ref().map(Tensor::contiguous).transpose()?;
        let (state, counters) = (plan.exchange(gpu, output.dtype(), Some(h))?, plan.counters(gpu)?);
        operands.push(sequence::Forward {
            output: at(output),
            c: c.as_ref().map_or(Pointer::NONE, at),
            kept: kept.as_ref().map_or(Pointer::NONE, at),
            projected: at(projected),
            weight: at(&weight),
            bias: bias.as_ref().map_or(Pointer::NONE, at),
            state: at(&state),
            counters: at(&counters),
            options: if kept.is_some() { sequence::KEEPS } else { 0 }
                | if spec.reverse { sequence::REVERSE } else { 0 }
                | if bias.is_some() { sequence::BIASED } else { 0 },
        });
        held.push((weight, bias, state, counters));
    }
    let whole = plan.sequence(layers[0].sizes);
    launch::rnn_sequence(gpu, &kernel, plan.launch(), whole, Directions::new(&operands))?;
    for layer in &mut layers {
        let t = layer.sizes.t;
        layer.h = layer.output.select(0, layer.spec.time(t - 1, t) as isize)?;
    }
    Ok(())
}
