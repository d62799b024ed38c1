//! Gated recurrent units.

use super::stack::{RnnConfig, Stack};
use crate::{Entry, Init, Module, Path};
use autograd::Var;
use tensor::{Result, RnnKind};

/// Gated recurrent units (Cho et al., 2014), with gates in the order r, z, n, as cuDNN and PyTorch have them:
///
/// `n = tanh(W x + b + r · (U h + c))`, `h' = (1 - z) · n + z · h`.
///
/// Shapes are those of [`Lstm`](crate::Lstm), without a cell state.
#[derive(Clone, Debug)]
pub struct Gru(Stack);

impl Gru {
    /// Weights uniform within `1 / √hidden`, as PyTorch starts them.
    ///
    /// # Errors
    /// Without layers or units, or with a dropout that is no probability.
    pub fn new(input: usize, hidden: usize, config: RnnConfig, init: &mut Init) -> Result<Gru> {
        Stack::new(RnnKind::Gru, input, hidden, config, init).map(Gru)
    }

    /// The output and the final state, `[layers · directions, n, hidden]`; the initial one is zero if absent.
    pub fn forward(&self, x: &Var, h: Option<&Var>) -> Result<(Var, Var)> {
        let (y, h, _) = self.0.forward(x, h, None)?;
        Ok((y, h))
    }
}

impl Module for Gru {
    fn visit<'a>(&'a self, path: &mut Path, f: &mut dyn FnMut(&Path, Entry<'a>)) {
        self.0.visit(path, f);
    }
}
