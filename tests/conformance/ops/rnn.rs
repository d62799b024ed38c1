//! Recurrent networks, by their modules, and single steps of them.

use super::{Answer, Failure, Inputs, Op, Value};
use crate::format::Args;
use gradus::autograd::{Backward, RnnVars};
use gradus::nn::{Gru, Init, Lstm, LstmState, Module, Rnn, RnnConfig};
use gradus::tensor::{RnnKind, RnnSpec};

pub(super) fn lookup(name: &str) -> Option<Op> {
    match name {
        "rnn_tanh" => Some(|i, a| network(RnnKind::Tanh, i, a)),
        "rnn_relu" => Some(|i, a| network(RnnKind::Relu, i, a)),
        "gru" => Some(|i, a| network(RnnKind::Gru, i, a)),
        "lstm" => Some(|i, a| network(RnnKind::Lstm, i, a)),
        "rnn_tanh_cell" => Some(|i, _| cell(RnnKind::Tanh, i)),
        "gru_cell" => Some(|i, _| cell(RnnKind::Gru, i)),
        "lstm_cell" => Some(|i, _| cell(RnnKind::Lstm, i)),
        _ => None,
    }
}

/// A module that has the recorded weights, as one op of all inputs.
fn network(kind: RnnKind, i: &Inputs, a: &Args) -> Answer {
    if a.opt_int("proj_size").is_some_and(|size| size > 0) {
        return Err(Failure::NotCovered("lstm proj_size".into()));
    }
    let hidden = usize::try_from(a.int("hidden_size"))?;
    let input = i.get("weight_ih_l0").size(1)?;
    let config = RnnConfig {
        num_layers: usize::try_from(a.int("num_layers"))?,
        bidirectional: a.bool("bidirectional"),
        batch_first: a.bool("batch_first"),
        bias: a.bool("bias"),
        dropout: 0.0,
    };
    let mut bridge = Bridge::default();
    let (x, h) = (bridge.input(i.x()), i.opt("h0").map(|h| bridge.input(h)));
    let init = &mut Init::new(0);
    let outputs = match kind {
        RnnKind::Lstm => {
            let lstm = Lstm::new(input, hidden, config, init)?;
            bridge.weights(&lstm, i)?;
            let c = i.opt("c0").map(|c| bridge.input(c));
            let zeros = |like: &Value| Ok::<_, Failure>(Value::from(like.value().zeros_like()?));
            let state = match (h, c) {
                (Some(h), Some(c)) => Some(LstmState { h, c }),
                (Some(h), None) => Some(LstmState { c: zeros(&h)?, h }),
                (None, Some(c)) => Some(LstmState { h: zeros(&c)?, c }),
                (None, None) => None,
            };
            let (y, state) = lstm.forward(&x, state.as_ref())?;
            vec![y, state.h, state.c]
        }
        RnnKind::Gru => {
            let gru = Gru::new(input, hidden, config, init)?;
            bridge.weights(&gru, i)?;
            let (y, h) = gru.forward(&x, h.as_ref())?;
            vec![y, h]
        }
        RnnKind::Tanh | RnnKind::Relu => {
            let make = if kind == RnnKind::Relu { Rnn::relu } else { Rnn::new };
            let rnn = make(input, hidden, config, init)?;
            bridge.weights(&rnn, i)?;
            let (y, h) = rnn.forward(&x, h.as_ref())?;
            vec![y, h]
        }
    };
    Ok(outputs.into_iter().map(|y| bridge.output(y)).collect())
}

/// Makes a module one op: parameters are leaves of their own, whose gradients go on to the inputs they came from.
#[derive(Default)]
struct Bridge {
    inputs: Vec<Value>,
    leaves: Vec<Value>,
}

impl Bridge {
    fn input(&mut self, x: &Value) -> Value {
        let leaf = Value::leaf(x.value().clone());
        self.inputs.push(x.clone());
        self.leaves.push(leaf.clone());
        leaf
    }

    /// Gives every parameter the input of its name.
    fn weights(&mut self, module: &impl Module, inputs: &Inputs) -> Result<(), Failure> {
        for (name, param) in module.params() {
            let weight = inputs.get(&name);
            param.set(weight.value().clone())?;
            self.inputs.push(weight.clone());
            self.leaves.push(param.leaf());
        }
        Ok(())
    }

    fn output(&self, y: Value) -> Value {
        let leaves = self.leaves.clone();
        let inputs: Vec<&Value> = self.inputs.iter().collect();
        Value::record("module", y.value().clone(), &inputs, move |back| {
            let gradient = Some(back.grad().value().clone());
            let grads = y.backward_with(&Backward { gradient, retain_graph: true, create_graph: false })?;
            Ok(leaves.iter().map(|leaf| grads.find(leaf).cloned()).collect())
        })
    }
}

/// One step: a sequence of one.
fn cell(kind: RnnKind, i: &Inputs) -> Answer {
    let vars = RnnVars {
        x: i.x().unsqueeze(0)?,
        h0: i.get("h").clone(),
        c0: i.opt("c").cloned(),
        weight_ih: i.get("weight_ih").clone(),
        weight_hh: i.get("weight_hh").clone(),
        bias_ih: i.opt("bias_ih").cloned(),
        bias_hh: i.opt("bias_hh").cloned(),
    };
    let result = gradus::autograd::rnn(RnnSpec { kind, reverse: false }, &vars)?;
    Ok([result.h_n].into_iter().chain(result.c_n).collect())
}
