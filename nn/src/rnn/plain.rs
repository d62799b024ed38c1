//! The plain recurrent network.

use super::stack::{RnnConfig, Stack};
use crate::{Entry, Init, Module, Path};
use autograd::Var;
use tensor::{Result, RnnKind};

/// The plain recurrent network (Elman, 1990): `h' = tanh(W x + b + U h + c)`, or with ReLU.
///
/// Shapes are those of [`Lstm`](crate::Lstm), without a cell state.
#[derive(Clone, Debug)]
pub struct Rnn(Stack);

impl Rnn {
    /// With `tanh`. Weights uniform within `1 / √hidden`, as PyTorch starts them.
    ///
    /// # Errors
    /// Without layers or units, or with a dropout that is no probability.
    pub fn new(input: usize, hidden: usize, config: RnnConfig, init: &mut Init) -> Result<Rnn> {
        Stack::new(RnnKind::Tanh, input, hidden, config, init).map(Rnn)
    }

    /// As [`new`](Self::new), with ReLU.
    pub fn relu(input: usize, hidden: usize, config: RnnConfig, init: &mut Init) -> Result<Rnn> {
        Stack::new(RnnKind::Relu, input, hidden, config, init).map(Rnn)
    }

    /// The output and the final state, `[layers · directions, n, hidden]`; the initial one is zero if absent.
    pub fn forward(&self, x: &Var, h: Option<&Var>) -> Result<(Var, Var)> {
        let (y, h, _) = self.0.forward(x, h, None)?;
        Ok((y, h))
    }
}

impl Module for Rnn {
    fn visit<'a>(&'a self, path: &mut Path, f: &mut dyn FnMut(&Path, Entry<'a>)) {
        self.0.visit(path, f);
    }
}
