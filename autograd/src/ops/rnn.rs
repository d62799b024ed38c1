//! Recurrent layers over whole sequences.

use crate::{Var, is_recording};
use std::sync::{Arc, Mutex, PoisonError};
use tensor::{Error, Result, RnnGrads, RnnInputs, RnnKind, RnnOutputGrads, RnnOutputs, RnnSpec, Tensor};

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
pub fn rnn(spec: RnnSpec, vars: &RnnVars) -> Result<RnnResult> {
    let outputs = tensor::rnn(spec, &vars.values(), is_training(&[vars]))?;
    let steps = vars.x.dims()[0];
    let (value, cells) = (outputs.output.clone(), outputs.c_n.clone());
    let layer = Layer { kind: spec.kind, directions: vec![(spec, vars.clone(), outputs)] };
    let (output, c_n) = layer.record(value, cells)?;
    if steps == 0 {
        return Ok(RnnResult { output, h_n: vars.h0.clone(), c_n: vars.c0.clone() });
    }
    let h_n = output.select(0, spec.time(steps - 1, steps) as isize)?;
    Ok(RnnResult { output, h_n, c_n })
}

/// A layer that runs forwards and one that runs in reverse, side by side where that is faster; see
/// [`tensor::rnn_bidirectional`].
///
/// # Shapes
/// - output: `[t, n, 2 · hidden]`, forward before reverse; final states: `[2, n, hidden]`
pub fn rnn_bidirectional(kind: RnnKind, vars: [&RnnVars; 2]) -> Result<RnnResult> {
    let values = vars.map(RnnVars::values);
    let outputs = tensor::rnn_bidirectional(kind, [&values[0], &values[1]], is_training(&vars))?;
    let steps = vars[0].x.dims()[0];
    let value = Tensor::cat(&outputs.each_ref().map(|outputs| outputs.output.clone()), -1)?;
    let cells: Vec<Tensor> = outputs.iter().filter_map(|outputs| outputs.c_n.clone()).collect();
    let cells = if cells.is_empty() { None } else { Some(Tensor::stack(&cells, 0)?) };
    let directions = vars.into_iter().zip(outputs).zip([false, true]);
    let directions = directions
        .map(|((vars, outputs), reverse)| (RnnSpec { kind, reverse }, vars.clone(), outputs))
        .collect();
    let (output, c_n) = Layer { kind, directions }.record(value, cells)?;
    let both = |states: [Option<Var>; 2]| match states {
        [Some(first), Some(second)] => Var::stack(&[first, second], 0).map(Some),
        _ => Ok(None),
    };
    let initial = |of: fn(&RnnVars) -> Option<Var>| both(vars.map(of));
    let (h_n, c_n) = if steps == 0 {
        (initial(|vars| Some(vars.h0.clone()))?, initial(|vars| vars.c0.clone())?)
    } else {
        let hidden = vars[0].h0.size(-1)?;
        let last = |time: usize, first: usize| output.select(0, time as isize)?.narrow(-1, first, hidden);
        (both([Some(last(steps - 1, 0)?), Some(last(0, hidden)?)])?, c_n)
    };
    let h_n = h_n.ok_or_else(|| Error::argument("rnn", "there is a hidden state for each direction"))?;
    Ok(RnnResult { output, h_n, c_n })
}

/// Whether the backward pass of some layers may be asked for.
fn is_training(vars: &[&RnnVars]) -> bool {
    is_recording() && vars.iter().flat_map(|vars| vars.operands()).any(Var::requires_grad)
}

/// One or two directions with what the forward pass computed.
struct Layer {
    kind: RnnKind,
    directions: Vec<(RnnSpec, RnnVars, RnnOutputs)>,
}

impl Layer {
    /// Records the layer as an op: its output, those of two directions side by side, and its final cell states, those of two
    /// directions stacked.
    ///
    /// The two are results of one op: the node of the cell states lies above that of the output in the graph, and hands its
    /// gradient over on the side.
    fn record(self, output: Tensor, cells: Option<Tensor>) -> Result<(Var, Option<Var>)> {
        let slot: CellGrad = Arc::default();
        let (vars, cell_grad) = (self.vars(), slot.clone());
        let operands: Vec<&Var> = vars.iter().flat_map(RnnVars::operands).collect();
        let output = Var::record("rnn", output, &operands, move |b| {
            let cells = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            let output = self.parts(b.grad(), |i, hidden| b.grad().narrow(-1, i * hidden, hidden))?;
            let cells =
                cells.map(|cells| self.parts(&cells, |i, _| cells.select(0, i as isize))).transpose()?;
            match is_recording() {
                true => self.through_steps(&output, cells.as_deref()),
                false => self.fused_backward(&output, cells.as_deref()),
            }
        });
        let c_n = cells.map(|cells| {
            let shape = output.shape();
            Var::record("rnn cell", cells, &[&output], move |b| {
                *cell_grad.lock().unwrap_or_else(PoisonError::into_inner) = Some(b.grad().clone());
                // Nothing for the output itself, but the layer's node must be visited: a zero that takes no memory.
                let zero = Tensor::zeros((), (b.grad().dtype(), b.grad().device()))?;
                Ok(vec![Some(zero.broadcast_to(shape)?.into())])
            })
        });
        Ok((output, c_n))
    }

    fn vars(&self) -> Vec<RnnVars> {
        self.directions.iter().map(|(_, vars, _)| vars.clone()).collect()
    }

    /// The parts of a gradient that belong to the directions; `of` takes the number of a direction and how many units it has.
    fn parts(&self, whole: &Var, of: impl Fn(usize, usize) -> Result<Var>) -> Result<Vec<Var>> {
        match &self.directions[..] {
            [_] => Ok(vec![whole.clone()]),
            both => both.iter().enumerate().map(|(i, (_, vars, _))| of(i, vars.h0.size(-1)?)).collect(),
        }
    }

    /// The gradients of all operands, from those of each direction's results.
    fn fused_backward(&self, output: &[Var], cells: Option<&[Var]>) -> Result<Vec<Option<Var>>> {
        let grads = |i: usize| RnnOutputGrads {
            output: Some(output[i].value()),
            h_n: None,
            c_n: cells.map(|cells| cells[i].value()),
        };
        let found = match &self.directions[..] {
            [(_, first, of_first), (_, second, of_second)] => {
                let inputs = [&first.values(), &second.values()];
                let outputs = [of_first, of_second];
                let grads = [grads(0), grads(1)];
                tensor::rnn_bidirectional_backward(self.kind, inputs, outputs, grads)?.into()
            }
            directions => directions
                .iter()
                .enumerate()
                .map(|(i, (spec, vars, outputs))| {
                    let RnnOutputGrads { output, h_n, c_n } = grads(i);
                    tensor::rnn_backward(*spec, &vars.values(), outputs, output, h_n, c_n)
                })
                .collect::<Result<Vec<_>>>()?,
        };
        let of_operands = |((_, vars, _), g): (&(RnnSpec, RnnVars, RnnOutputs), RnnGrads)| {
            [
                (true, Some(g.x)),
                (true, Some(g.h0)),
                (vars.c0.is_some(), g.c0),
                (true, Some(g.weight_ih)),
                (true, Some(g.weight_hh)),
                (vars.bias_ih.is_some(), g.bias_ih),
                (vars.bias_hh.is_some(), g.bias_hh),
            ]
        };
        let all = self.directions.iter().zip(found).flat_map(of_operands);
        Ok(all.filter(|(given, _)| *given).map(|(_, g)| g.map(Var::from)).collect())
    }

    /// Gradients with a history: the steps are taken again one by one, in differentiable ops.
    fn through_steps(&self, output: &[Var], cells: Option<&[Var]>) -> Result<Vec<Option<Var>>> {
        let mut grads = vec![];
        for (i, (spec, vars, _)) in self.directions.iter().enumerate() {
            grads.extend(through_steps(*spec, vars, &output[i], cells.map(|cells| &cells[i]))?);
        }
        Ok(grads)
    }
}

/// The gradients of one direction's operands, with a history.
fn through_steps(spec: RnnSpec, vars: &RnnVars, grad: &Var, cell: Option<&Var>) -> Result<Vec<Option<Var>>> {
    let stand_ins: Vec<Var> = vars.operands().into_iter().map(|v| v.hook(|g| Ok(g.clone()))).collect();
    let (output, c_n) = steps(spec, &vars.replaced(&stand_ins))?;
    let mut y = vec![output.flatten(0)?];
    let mut gradient = vec![grad.flatten(0)?];
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
    blocks.try_into().map_err(|_| Error::argument("rnn", "the gates do not divide"))
}
