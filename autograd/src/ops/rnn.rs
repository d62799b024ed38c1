//! Recurrent layers over whole sequences.

use crate::{Backprop, Var, is_recording};
use std::sync::{Arc, Mutex, PoisonError};
use tensor::{Result, RnnInputs, RnnKind, RnnOutputs, RnnSpec, Tensor};

/// The operands of one recurrent layer and direction; shapes as in [`RnnInputs`].
#[derive(Clone, Debug)]
pub struct RnnVars {
    /// `[t, n, input]`.
    pub x: Var,
    /// `[n, hidden]`.
    pub h0: Var,
    /// `[n, hidden]`, for an LSTM.
    pub c0: Option<Var>,
    /// `[gates * hidden, input]`.
    pub weight_ih: Var,
    /// `[gates * hidden, hidden]`.
    pub weight_hh: Var,
    /// `[gates * hidden]`.
    pub bias_ih: Option<Var>,
    /// `[gates * hidden]`.
    pub bias_hh: Option<Var>,
}

/// What a recurrent layer computes.
#[derive(Clone, Debug)]
pub struct RnnResult {
    /// The hidden state after each step, at the step's place in time: `[t, n, hidden]`.
    pub output: Var,
    /// The hidden state after the last step taken: `[n, hidden]`.
    pub h_n: Var,
    /// The cell state after the last step taken, for an LSTM: `[n, hidden]`.
    pub c_n: Option<Var>,
}

impl RnnVars {
    /// Those that are there, in order of declaration.
    fn operands(&self) -> Vec<&Var> {
        let all = [
            Some(&self.x),
            Some(&self.h0),
            self.c0.as_ref(),
            Some(&self.weight_ih),
            Some(&self.weight_hh),
            self.bias_ih.as_ref(),
            self.bias_hh.as_ref(),
        ];
        all.into_iter().flatten().collect()
    }

    /// The same operands with other Vars in place of [`operands`](Self::operands).
    fn replaced(&self, by: &[Var]) -> RnnVars {
        let mut by = by.iter().cloned();
        let mut next = |old: &Var| by.next().unwrap_or_else(|| old.clone());
        RnnVars {
            x: next(&self.x),
            h0: next(&self.h0),
            c0: self.c0.as_ref().map(&mut next),
            weight_ih: next(&self.weight_ih),
            weight_hh: next(&self.weight_hh),
            bias_ih: self.bias_ih.as_ref().map(&mut next),
            bias_hh: self.bias_hh.as_ref().map(&mut next),
        }
    }

    fn values(&self) -> RnnInputs {
        let value = |v: &Option<Var>| v.as_ref().map(|v| v.value().clone());
        RnnInputs {
            x: self.x.value().clone(),
            h0: self.h0.value().clone(),
            c0: value(&self.c0),
            weight_ih: self.weight_ih.value().clone(),
            weight_hh: self.weight_hh.value().clone(),
            bias_ih: value(&self.bias_ih),
            bias_hh: value(&self.bias_hh),
        }
    }
}

/// The gradient of the final cell state on its way to the node of the layer.
type CellGrad = Arc<Mutex<Option<Var>>>;

/// One layer and direction of a recurrent network over a whole sequence; see [`tensor::rnn`].
///
/// The output and the final cell state are two results of one op: the node of the cell state lies above that of the
/// output in the graph, and hands its gradient over on the side.
pub fn rnn(spec: RnnSpec, vars: &RnnVars) -> Result<RnnResult> {
    let training = is_recording() && vars.operands().iter().any(|v| v.requires_grad());
    let inputs = vars.values();
    let outputs = Arc::new(tensor::rnn(spec, &inputs, training)?);
    let steps = vars.x.dims()[0];
    let cell_grad: CellGrad = Arc::default();
    let (saved, slot, kept) = (vars.clone(), cell_grad.clone(), outputs.clone());
    let output = Var::record("rnn", outputs.output.clone(), &vars.operands(), move |b| {
        let cell = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        match is_recording() {
            true => through_steps(b, spec, &saved, cell),
            false => fused_backward(b, spec, &saved, &kept, cell),
        }
    });
    if steps == 0 {
        return Ok(RnnResult { output, h_n: vars.h0.clone(), c_n: vars.c0.clone() });
    }
    let h_n = output.select(0, spec.time(steps - 1, steps) as isize)?;
    let c_n = outputs.c_n.clone().map(|c| {
        let shape = output.shape();
        Var::record("rnn cell", c, &[&output], move |b| {
            *cell_grad.lock().unwrap_or_else(PoisonError::into_inner) = Some(b.grad().clone());
            // Nothing for the output itself, but the layer's node must be visited: a zero that takes no memory.
            let zero = Tensor::zeros((), (b.grad().dtype(), b.grad().device()))?;
            Ok(vec![Some(zero.broadcast_to(shape)?.into())])
        })
    });
    Ok(RnnResult { output, h_n, c_n })
}

fn fused_backward(
    b: &Backprop<'_>,
    spec: RnnSpec,
    vars: &RnnVars,
    outputs: &RnnOutputs,
    cell: Option<Var>,
) -> Result<Vec<Option<Var>>> {
    let cell = cell.map(Var::into_value);
    let g = tensor::rnn_backward(spec, &vars.values(), outputs, Some(b.grad().value()), None, cell.as_ref())?;
    let all = [
        (true, Some(g.x)),
        (true, Some(g.h0)),
        (vars.c0.is_some(), g.c0),
        (true, Some(g.weight_ih)),
        (true, Some(g.weight_hh)),
        (vars.bias_ih.is_some(), g.bias_ih),
        (vars.bias_hh.is_some(), g.bias_hh),
    ];
    Ok(all.into_iter().filter(|(given, _)| *given).map(|(_, g)| g.map(Var::from)).collect())
}

/// Gradients with a history: the steps are taken again one by one, in differentiable ops.
fn through_steps(
    b: &Backprop<'_>,
    spec: RnnSpec,
    vars: &RnnVars,
    cell: Option<Var>,
) -> Result<Vec<Option<Var>>> {
    let stand_ins: Vec<Var> = vars.operands().into_iter().map(|v| v.hook(|g| Ok(g.clone()))).collect();
    let (output, c_n) = steps(spec, &vars.replaced(&stand_ins))?;
    let mut y = vec![output.flatten(0)?];
    let mut gradient = vec![b.grad().flatten(0)?];
    if let (Some(c_n), Some(cell)) = (c_n, cell) {
        y.push(c_n.flatten(0)?);
        gradient.push(cell.flatten(0)?);
    }
    let targets: Vec<&Var> = stand_ins.iter().collect();
    crate::backward::vjp(&Var::cat(&y, 0)?, &Var::cat(&gradient, 0)?, &targets)
}

/// The equations, one step after the other: the output and the final cell state.
fn steps(spec: RnnSpec, vars: &RnnVars) -> Result<(Var, Option<Var>)> {
    let count = vars.x.dims()[0];
    let (mut h, mut c) = (vars.h0.clone(), vars.c0.clone());
    let mut outputs = vec![h.clone(); count];
    for taken in 0..count {
        let at = spec.time(taken, count);
        let x = vars.x.select(0, at as isize)?.linear(&vars.weight_ih, vars.bias_ih.as_ref())?;
        let u = h.linear(&vars.weight_hh, vars.bias_hh.as_ref())?;
        (h, c) = match (spec.kind, &c) {
            (RnnKind::Tanh, _) => (x.add(&u)?.tanh()?, None),
            (RnnKind::Relu, _) => (x.add(&u)?.relu()?, None),
            (RnnKind::Gru, _) => {
                let ([r, z, n], [ur, uz, un]) = (gates(&x)?, gates(&u)?);
                let (r, z) = (r.add(&ur)?.sigmoid()?, z.add(&uz)?.sigmoid()?);
                let n = n.add(&r.mul(&un)?)?.tanh()?;
                (n.add(&z.mul(&h.sub(&n)?)?)?, None)
            }
            (RnnKind::Lstm, c) => {
                let [i, f, g, o] = gates(&x.add(&u)?)?;
                let new = i.sigmoid()?.mul(&g.tanh()?)?;
                let kept = c.as_ref().map(|c| f.sigmoid()?.mul(c)).transpose()?;
                let c = kept.map_or(Ok(new.clone()), |kept| kept.add(&new))?;
                (o.sigmoid()?.mul(&c.tanh()?)?, Some(c))
            }
        };
        outputs[at] = h.clone();
    }
    Ok((Var::stack(&outputs, 0)?, c))
}

/// `[n, K · hidden]` as `K` blocks of `[n, hidden]`.
fn gates<const K: usize>(x: &Var) -> Result<[Var; K]> {
    let hidden = x.size(-1)? / K;
    let blocks = (0..K).map(|k| x.narrow(-1, k * hidden, hidden)).collect::<Result<Vec<_>>>()?;
    blocks.try_into().map_err(|_| tensor::Error::argument("rnn", "the gates do not divide"))
}
