//! Layers and directions of one recurrent network: what LSTM, GRU and the plain network share.

use crate::located::Located;
use crate::{Dropout, Entry, Forward, Init, Module, Param, Path};
use autograd::{RnnVars, Var};
use tensor::{Error, Result, RnnKind, RnnSpec, Tensor};

/// How a recurrent network is built; the defaults are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RnnConfig {
    /// Layers, each fed by the one below.
    pub num_layers: usize,
    /// Whether every layer also runs from the last step to the first; outputs of both directions stand side by side.
    pub bidirectional: bool,
    /// Whether inputs and outputs are `[n, t, …]` instead of `[t, n, …]`. States are not affected.
    pub batch_first: bool,
    /// Whether there are biases.
    pub bias: bool,
    /// The probability with which, in training, elements between layers are set to 0.
    pub dropout: f64,
}

impl Default for RnnConfig {
    fn default() -> RnnConfig {
        RnnConfig { num_layers: 1, bidirectional: false, batch_first: false, bias: true, dropout: 0.0 }
    }
}

/// The weights of one layer and direction.
#[derive(Clone, Debug)]
struct Weights {
    weight_ih: Param,
    weight_hh: Param,
    bias_ih: Option<Param>,
    bias_hh: Option<Param>,
}

impl Weights {
    fn named(&self) -> [(&'static str, Option<&Param>); 4] {
        [
            ("weight_ih", Some(&self.weight_ih)),
            ("weight_hh", Some(&self.weight_hh)),
            ("bias_ih", self.bias_ih.as_ref()),
            ("bias_hh", self.bias_hh.as_ref()),
        ]
    }
}

/// All layers and directions, layer by layer, forward before reverse.
#[derive(Clone, Debug)]
pub(super) struct Stack {
    kind: RnnKind,
    hidden: usize,
    config: RnnConfig,
    weights: Vec<Weights>,
    dropout: Dropout,
}

/// PyTorch puts the layer in the name, not in the path: `weight_ih_l0_reverse`.
impl Module for Stack {
    fn visit<'a>(&'a self, path: &mut Path, f: &mut dyn FnMut(&Path, Entry<'a>)) {
        for (i, weights) in self.weights.iter().enumerate() {
            let reverse = if self.is_reverse(i) { "_reverse" } else { "" };
            for (name, param) in weights.named() {
                let Some(param) = param else { continue };
                let layer = i / self.directions();
                path.enter(&format!("{name}_l{layer}{reverse}"), |path| param.visit(path, f));
            }
        }
        self.dropout.visit(path, f);
    }
}

impl Stack {
    pub(super) fn new(
        kind: RnnKind,
        input: usize,
        hidden: usize,
        config: RnnConfig,
        init: &mut Init,
    ) -> Result<Stack> {
        if config.num_layers == 0 || hidden == 0 {
            return Err(Error::argument("rnn", "there is at least one layer of one unit"));
        }
        let directions = if config.bidirectional { 2 } else { 1 };
        let (rows, bound) = (kind.gates() * hidden, 1.0 / (hidden as f64).sqrt());
        let mut weights = vec![];
        for i in 0..config.num_layers * directions {
            let features = if i < directions { input } else { hidden * directions };
            let (weight_ih, weight_hh) =
                (init.uniform([rows, features], bound)?, init.uniform([rows, hidden], bound)?);
            let mut bias = || if config.bias { init.uniform([rows], bound).map(Some) } else { Ok(None) };
            weights.push(Weights { weight_ih, weight_hh, bias_ih: bias()?, bias_hh: bias()? });
        }
        let dropout = Dropout::new(config.dropout, init)?;
        Ok(Stack { kind, hidden, config, weights, dropout })
    }

    fn directions(&self) -> usize {
        if self.config.bidirectional { 2 } else { 1 }
    }

    fn is_reverse(&self, i: usize) -> bool {
        self.config.bidirectional && i % 2 == 1
    }

    /// Output `[t, n, directions · hidden]` (or batch first), and the final states, `[layers · directions, n, hidden]`.
    pub(super) fn forward(
        &self,
        x: &Var,
        h: Option<&Var>,
        c: Option<&Var>,
    ) -> Result<(Var, Var, Option<Var>)> {
        let first = &self.weights[0];
        self.run(x, h, c).located(&first.weight_ih, self.kind.name())
    }

    fn run(&self, x: &Var, h: Option<&Var>, c: Option<&Var>) -> Result<(Var, Var, Option<Var>)> {
        if x.rank() != 3 {
            let order = if self.config.batch_first { "[n, t, input]" } else { "[t, n, input]" };
            return Err(Error::shape("rnn", x.shape(), format!("expected an input of {order}")));
        }
        let mut x = if self.config.batch_first { x.transpose(0, 1)? } else { x.clone() };
        let n = x.dims()[1];
        let (h, c) = (self.states("h0", h, &x, n)?, self.states("c0", c, &x, n)?);
        let (mut h_n, mut c_n) = (vec![], vec![]);
        for layer in 0..self.config.num_layers {
            if layer > 0 {
                x = self.dropout.forward(&x)?;
            }
            let first = layer * self.directions();
            let operands = |i: usize| self.operands(first + i, &x, &h, &c);
            let result = if self.config.bidirectional {
                autograd::rnn_bidirectional(self.kind, [&operands(0)?, &operands(1)?])?
            } else {
                autograd::rnn(RnnSpec { kind: self.kind, reverse: false }, &operands(0)?)?
            };
            // States of one direction are one layer's, those of two are stacked already.
            let stacked = |state: Var| if self.config.bidirectional { Ok(state) } else { state.unsqueeze(0) };
            x = result.output;
            h_n.push(stacked(result.h_n)?);
            c_n.extend(result.c_n.map(stacked).transpose()?);
        }
        if self.config.batch_first {
            x = x.transpose(0, 1)?;
        }
        let c_n = if c_n.is_empty() { None } else { Some(Var::cat(&c_n, 0)?) };
        Ok((x, Var::cat(&h_n, 0)?, c_n))
    }

    /// The initial states of every layer and direction: zeros if absent.
    fn states(&self, name: &str, given: Option<&Var>, x: &Var, n: usize) -> Result<Var> {
        let expected = [self.weights.len(), n, self.hidden];
        match given {
            Some(state) if state.dims() == expected => Ok(state.clone()),
            Some(state) => {
                Err(Error::shape("rnn", state.shape(), format!("expected an {name} of {expected:?}")))
            }
            None => Ok(Tensor::zeros(expected, (x.dtype(), x.device()))?.into()),
        }
    }

    fn operands(&self, i: usize, x: &Var, h: &Var, c: &Var) -> Result<RnnVars> {
        let w = &self.weights[i];
        let c0 = if self.kind == RnnKind::Lstm { Some(c.select(0, i as isize)?) } else { None };
        Ok(RnnVars {
            x: x.clone(),
            h0: h.select(0, i as isize)?,
            c0,
            weight_ih: w.weight_ih.var(),
            weight_hh: w.weight_hh.var(),
            bias_ih: w.bias_ih.as_ref().map(Param::var),
            bias_hh: w.bias_hh.as_ref().map(Param::var),
        })
    }
}
