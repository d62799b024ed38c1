//! Recurrent layers made of tensor ops, and their gradients by hand.
//!
//! What the forward pass saves, in the accumulator's dtype, `[t, n, blocks * hidden]`:
//! - LSTM: i, f, g, o and the cell state after the step
//! - GRU: r, z, n and `b_n`, the recurrent part of the gate n before it is multiplied by r
//! - plain: nothing, as the output tells all

use crate::{Error, Result, RnnGrads, RnnInputs, RnnKind, RnnOutputs, RnnSpec, Tensor};

/// One layer and direction over a whole sequence.
pub fn rnn(spec: RnnSpec, inputs: &RnnInputs, training: bool) -> Result<RnnOutputs> {
    let sizes = inputs.sizes(spec.kind)?;
    let dtype = inputs.x.dtype();
    let wide = inputs.to_dtype(dtype.accumulator())?;
    let (mut h, mut c) = (wide.h0.clone(), wide.cell().clone());
    let (mut outputs, mut saved) = (vec![h.clone(); sizes.t], vec![h.clone(); sizes.t]);
    if sizes.n * sizes.hidden > 0 {
        let projected = wide.x.linear(&wide.weight_ih, wide.bias_ih.as_ref())?;
        for time in (0..sizes.t).map(|taken| spec.time(taken, sizes.t)) {
            let recurrent = h.linear(&wide.weight_hh, wide.bias_hh.as_ref())?;
            let step = step(spec.kind, &projected.select(0, time as isize)?, &recurrent, &h, &c)?;
            if training && !step.saved.is_empty() {
                saved[time] = Tensor::cat(&step.saved, -1)?;
            }
            outputs[time] = step.h.clone();
            (h, c) = (step.h, step.c);
        }
    }
    let keeps = training && matches!(spec.kind, RnnKind::Lstm | RnnKind::Gru);
    Ok(RnnOutputs {
        output: stacked(&outputs, &h)?.to_dtype(dtype)?,
        h_n: h.to_dtype(dtype)?,
        c_n: inputs.c0.is_some().then(|| c.to_dtype(dtype)).transpose()?,
        saved: if keeps { vec![stacked(&saved, &h)?] } else { vec![] },
    })
}

/// The gradients of [`rnn`]: backwards through the steps for those of the pre-activations, which give all others.
pub fn rnn_backward(
    spec: RnnSpec,
    inputs: &RnnInputs,
    outputs: &RnnOutputs,
    grad_output: Option<&Tensor>,
    grad_h_n: Option<&Tensor>,
    grad_c_n: Option<&Tensor>,
) -> Result<RnnGrads> {
    let sizes = inputs.sizes(spec.kind)?;
    let dtype = inputs.x.dtype();
    let wide = inputs.to_dtype(dtype.accumulator())?;
    let widened = |t: &Tensor| t.to_dtype(dtype.accumulator());
    let state_grad = |grad: Option<&Tensor>| grad.map_or_else(|| wide.h0.zeros_like(), widened);
    let (mut dh, mut dc) = (state_grad(grad_h_n)?, state_grad(grad_c_n)?);
    let rows = [sizes.t * sizes.n, spec.kind.gates() * sizes.hidden];
    let empty = Tensor::zeros([0, rows[1]], (dh.dtype(), dh.device()))?;
    let (mut da, mut db) = (vec![empty.clone(); sizes.t], vec![empty; sizes.t]);
    let output = widened(&outputs.output)?;
    let h_before = before(spec, &output, &wide.h0)?;
    if sizes.t * sizes.n * sizes.hidden > 0 {
        let saved = saved(spec.kind, outputs, &output)?;
        let c_before = match spec.kind {
            RnnKind::Lstm => before(spec, &saved.narrow(-1, 4 * sizes.hidden, sizes.hidden)?, wide.cell())?,
            RnnKind::Tanh | RnnKind::Relu | RnnKind::Gru => h_before.clone(),
        };
        for time in (0..sizes.t).rev().map(|taken| spec.time(taken, sizes.t)) {
            let at = |t: &Tensor| t.select(0, time as isize);
            if let Some(grad) = grad_output {
                dh = dh.add(&widened(&at(grad)?)?)?;
            }
            let step = step_backward(spec.kind, &at(&saved)?, &at(&h_before)?, &at(&c_before)?, &dh, &dc)?;
            dh = step.h.add(&step.b.matmul(&wide.weight_hh)?)?;
            dc = step.c;
            (da[time], db[time]) = (step.a, step.b);
        }
    }
    let flat = |steps: &[Tensor]| match sizes.t * sizes.n * sizes.hidden {
        0 => Tensor::zeros(rows, (dh.dtype(), dh.device())),
        _ => Tensor::cat(steps, 0),
    };
    let (da, db) = (flat(&da)?, flat(&db)?);
    let x = wide.x.reshape([rows[0], sizes.input])?;
    let h_before = h_before.reshape([rows[0], sizes.hidden])?;
    let bias = |bias: &Option<Tensor>, grad: &Tensor| bias.as_ref().map(|_| grad.sum(0, false)).transpose();
    RnnGrads {
        x: da.matmul(&wide.weight_ih)?.reshape(inputs.x.shape())?,
        h0: dh,
        c0: inputs.c0.as_ref().map(|_| dc),
        weight_ih: da.t()?.matmul(&x)?,
        weight_hh: db.t()?.matmul(&h_before)?,
        bias_ih: bias(&inputs.bias_ih, &da)?,
        bias_hh: bias(&inputs.bias_hh, &db)?,
    }
    .to_dtype(dtype)
}

impl RnnInputs {
    /// The initial cell state. Kinds that have none carry h0 in its place and do not look at it.
    fn cell(&self) -> &Tensor {
        self.c0.as_ref().unwrap_or(&self.h0)
    }
}

/// Steps along a new first dim; of no steps, shaped like `one`.
fn stacked(steps: &[Tensor], one: &Tensor) -> Result<Tensor> {
    if steps.is_empty() { one.unsqueeze(0)?.narrow(0, 0, 0) } else { Tensor::stack(steps, 0) }
}

/// The state before each step, at the step's place in time, from those after each step and before the first.
fn before(spec: RnnSpec, after: &Tensor, first: &Tensor) -> Result<Tensor> {
    let others = after.dims()[0].saturating_sub(1);
    let first = first.unsqueeze(0)?.narrow(0, 0, after.dims()[0].min(1))?;
    match spec.reverse {
        false => Tensor::cat(&[first, after.narrow(0, 0, others)?], 0),
        true => Tensor::cat(&[after.narrow(0, after.dims()[0].min(1), others)?, first], 0),
    }
}

/// What the forward pass saved; a plain layer's output.
fn saved(kind: RnnKind, outputs: &RnnOutputs, output: &Tensor) -> Result<Tensor> {
    match (kind, outputs.saved.first()) {
        (RnnKind::Tanh | RnnKind::Relu, _) => Ok(output.clone()),
        (RnnKind::Lstm | RnnKind::Gru, Some(saved)) => Ok(saved.clone()),
        (RnnKind::Lstm | RnnKind::Gru, None) => {
            Err(Error::argument("rnn_backward", "the outputs do not hold what it needs")
                .hint("compute them with training = true"))
        }
    }
}

/// A step's results, all `[n, hidden]`.
struct Step {
    h: Tensor,
    c: Tensor,
    saved: Vec<Tensor>,
}

/// One step from the projections `a` of the input and `b` of the state, both `[n, gates * hidden]`.
fn step(kind: RnnKind, a: &Tensor, b: &Tensor, h: &Tensor, c: &Tensor) -> Result<Step> {
    let hidden = h.dims()[1];
    let block = |t: &Tensor, k: usize| t.narrow(-1, k * hidden, hidden);
    let sum = a.add(b)?;
    Ok(match kind {
        RnnKind::Tanh => Step { h: sum.tanh()?, c: c.clone(), saved: vec![] },
        RnnKind::Relu => Step { h: sum.relu()?, c: c.clone(), saved: vec![] },
        RnnKind::Lstm => {
            let (i, f) = (block(&sum, 0)?.sigmoid()?, block(&sum, 1)?.sigmoid()?);
            let (g, o) = (block(&sum, 2)?.tanh()?, block(&sum, 3)?.sigmoid()?);
            let c = f.mul(c)?.add(&i.mul(&g)?)?;
            Step { h: o.mul(&c.tanh()?)?, c: c.clone(), saved: vec![i, f, g, o, c] }
        }
        RnnKind::Gru => {
            let (r, z) = (block(&sum, 0)?.sigmoid()?, block(&sum, 1)?.sigmoid()?);
            let b_n = block(b, 2)?;
            let n = block(a, 2)?.add(&r.mul(&b_n)?)?.tanh()?;
            let h = one_minus(&z)?.mul(&n)?.add(&z.mul(h)?)?;
            Step { h, c: c.clone(), saved: vec![r, z, n, b_n] }
        }
    })
}

/// A step's gradients: of the projections `a` and `b`, of the cell state before it, and of the hidden state before it as
/// far as it does not go through `b`.
struct StepGrads {
    a: Tensor,
    b: Tensor,
    h: Tensor,
    c: Tensor,
}

/// The gradients of [`step`] from what it saved, the states before it, and the gradients of the states after it.
fn step_backward(
    kind: RnnKind,
    saved: &Tensor,
    h_before: &Tensor,
    c_before: &Tensor,
    dh: &Tensor,
    dc: &Tensor,
) -> Result<StepGrads> {
    let hidden = dh.dims()[1];
    let block = |k: usize| saved.narrow(-1, k * hidden, hidden);
    Ok(match kind {
        RnnKind::Tanh => {
            let a = dh.mul(&tanh_slope(saved)?)?;
            StepGrads { b: a.clone(), a, h: dh.zeros_like()?, c: dc.clone() }
        }
        RnnKind::Relu => {
            let zero = dh.zeros_like()?;
            let a = saved.le(&zero)?.select_from(&zero, dh)?;
            StepGrads { b: a.clone(), a, h: zero, c: dc.clone() }
        }
        RnnKind::Lstm => {
            let (i, f, g, o, c) = (block(0)?, block(1)?, block(2)?, block(3)?, block(4)?);
            let tanh_c = c.tanh()?;
            let dc = dc.add(&dh.mul(&o)?.mul(&tanh_slope(&tanh_c)?)?)?;
            let blocks = [
                dc.mul(&g)?.mul(&sigmoid_slope(&i)?)?,
                dc.mul(c_before)?.mul(&sigmoid_slope(&f)?)?,
                dc.mul(&i)?.mul(&tanh_slope(&g)?)?,
                dh.mul(&tanh_c)?.mul(&sigmoid_slope(&o)?)?,
            ];
            let a = Tensor::cat(&blocks, -1)?;
            StepGrads { b: a.clone(), a, h: dh.zeros_like()?, c: dc.mul(&f)? }
        }
        RnnKind::Gru => {
            let (r, z, n, b_n) = (block(0)?, block(1)?, block(2)?, block(3)?);
            let dn = dh.mul(&one_minus(&z)?)?.mul(&tanh_slope(&n)?)?;
            let dz = dh.mul(&h_before.sub(&n)?)?.mul(&sigmoid_slope(&z)?)?;
            let dr = dn.mul(&b_n)?.mul(&sigmoid_slope(&r)?)?;
            let b = Tensor::cat(&[dr.clone(), dz.clone(), dn.mul(&r)?], -1)?;
            StepGrads { a: Tensor::cat(&[dr, dz, dn], -1)?, b, h: dh.mul(&z)?, c: dc.clone() }
        }
    })
}

/// `1 - x`.
fn one_minus(x: &Tensor) -> Result<Tensor> {
    x.neg()?.add_scalar(1.0)
}

/// The derivative of the sigmoid where its value is `s`: `s·(1 - s)`.
fn sigmoid_slope(s: &Tensor) -> Result<Tensor> {
    s.mul(&one_minus(s)?)
}

/// The derivative of tanh where its value is `y`: `1 - y²`.
fn tanh_slope(y: &Tensor) -> Result<Tensor> {
    one_minus(&y.square()?)
}

#[cfg(test)]
mod tests;
