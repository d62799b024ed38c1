//! Long short-term memory.

use super::stack::{RnnConfig, Stack};
use crate::{Entry, Init, Module, Path};
use autograd::Var;
use tensor::{Error, Result, RnnKind};

/// Long short-term memory (Hochreiter & Schmidhuber, 1997), with gates in the order i, f, g, o:
///
/// `c' = σ(f) · c + σ(i) · tanh(g)`, `h' = σ(o) · tanh(c')`.
///
/// # Shapes
/// - input: `[t, n, input]`, or `[n, t, input]` with `batch_first`
/// - output: `[t, n, directions · hidden]`, likewise
/// - states: `[layers · directions, n, hidden]`
///
/// ```
/// use gradus_nn::{Init, Lstm, Module, RnnConfig};
/// use tensor::{Device, Tensor};
/// # fn main() -> tensor::Result<()> {
/// let config = RnnConfig { num_layers: 2, bidirectional: true, ..Default::default() };
/// let lstm = Lstm::new(3, 4, config, &mut Init::new(0))?;
/// let (y, state) = lstm.forward(&Tensor::ones([5, 2, 3], &Device::cpu())?.into(), None)?;
/// assert_eq!((y.dims(), state.h.dims()), (&[5, 2, 8][..], &[4, 2, 4][..]));
/// assert_eq!(lstm.params()[4].0, "weight_ih_l0_reverse");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Lstm(Stack);

/// The hidden and the cell state of every layer and direction.
#[derive(Clone, Debug)]
pub struct LstmState {
    /// `[layers · directions, n, hidden]`.
    pub h: Var,
    /// `[layers · directions, n, hidden]`.
    pub c: Var,
}

impl LstmState {
    /// The values alone: what is carried from one stretch of a long sequence to the next.
    #[must_use]
    pub fn detach(&self) -> LstmState {
        LstmState { h: self.h.detach(), c: self.c.detach() }
    }
}

impl Lstm {
    /// Weights uniform within `1 / √hidden`, as PyTorch starts them.
    ///
    /// # Errors
    /// Without layers or units, or with a dropout that is no probability.
    pub fn new(input: usize, hidden: usize, config: RnnConfig, init: &mut Init) -> Result<Lstm> {
        Stack::new(RnnKind::Lstm, input, hidden, config, init).map(Lstm)
    }

    /// The output and the final state; the initial one is zero if absent.
    pub fn forward(&self, x: &Var, state: Option<&LstmState>) -> Result<(Var, LstmState)> {
        let (y, h, c) = self.0.forward(x, state.map(|s| &s.h), state.map(|s| &s.c))?;
        let c = c.ok_or_else(|| Error::argument("rnn", "the backend gave no cell state"))?;
        Ok((y, LstmState { h, c }))
    }
}

impl Module for Lstm {
    fn visit<'a>(&'a self, path: &mut Path, f: &mut dyn FnMut(&Path, Entry<'a>)) {
        self.0.visit(path, f);
    }
}
