//! Recurrent layers as values: which equations, which operands, which results.

#[cfg(test)]
pub(crate) mod testing;

use crate::{DType, Error, Result, Shape, Tensor};

/// Which gate equations a recurrent layer uses.
///
/// Below, `a = x · weight_ihᵀ + bias_ih`, `b = h · weight_hhᵀ + bias_hh`, and an index picks a gate's block of units.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum RnnKind {
    /// `h' = tanh(a + b)`.
    Tanh,
    /// `h' = relu(a + b)`.
    Relu,
    /// `i, f, o = σ(a + b)`, `g = tanh(a + b)`, `c' = f·c + i·g`, `h' = o · tanh(c')`; blocks in the order i, f, g, o.
    Lstm,
    /// `r, z = σ(a + b)`, `n = tanh(a + r·b)`, `h' = (1 - z)·n + z·h`; blocks in the order r, z, n.
    Gru,
}

impl RnnKind {
    /// How many blocks of `hidden` rows the weights have.
    pub fn gates(self) -> usize {
        match self {
            RnnKind::Tanh | RnnKind::Relu => 1,
            RnnKind::Lstm => 4,
            RnnKind::Gru => 3,
        }
    }

    /// What the layer is called in messages.
    pub fn name(self) -> &'static str {
        match self {
            RnnKind::Tanh | RnnKind::Relu => "plain RNN",
            RnnKind::Lstm => "LSTM",
            RnnKind::Gru => "GRU",
        }
    }
}

/// One layer and direction of a recurrent network over a whole sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct RnnSpec {
    /// The gate equations.
    pub kind: RnnKind,
    /// Whether time runs from the last step to the first.
    pub reverse: bool,
}

impl RnnSpec {
    /// The place in time of the `taken`-th step of `steps`.
    pub fn time(self, taken: usize, steps: usize) -> usize {
        if self.reverse { steps - 1 - taken } else { taken }
    }
}

/// The operands of one recurrent layer and direction, all of one float dtype.
#[derive(Clone, Debug)]
pub struct RnnInputs {
    /// `[t, n, input]`.
    pub x: Tensor,
    /// `[n, hidden]`.
    pub h0: Tensor,
    /// `[n, hidden]`, for an LSTM.
    pub c0: Option<Tensor>,
    /// `[gates * hidden, input]`.
    pub weight_ih: Tensor,
    /// `[gates * hidden, hidden]`.
    pub weight_hh: Tensor,
    /// `[gates * hidden]`.
    pub bias_ih: Option<Tensor>,
    /// `[gates * hidden]`.
    pub bias_hh: Option<Tensor>,
}

/// The extents of a recurrent layer's operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RnnSizes {
    /// Time steps.
    pub t: usize,
    /// Sequences in the batch.
    pub n: usize,
    /// Features of the input.
    pub input: usize,
    /// Units.
    pub hidden: usize,
}

impl RnnInputs {
    /// The extents.
    ///
    /// # Errors
    /// When a shape does not fit the others, a dtype or device differs from that of `x`, or there is a cell state
    /// where the kind has none or the other way round. The message names the operand.
    pub fn sizes(&self, kind: RnnKind) -> Result<RnnSizes> {
        const OP: &str = "rnn";
        self.x.check_float(OP)?;
        let &[t, n, input] = self.x.dims() else {
            return Err(Error::shape(OP, self.x.shape(), "expected an input of [t, n, input]")
                .hint("a batch-first input takes transpose(0, 1), a single sequence unsqueeze(1)"));
        };
        let &[_, hidden] = self.h0.dims() else {
            return Err(Error::shape(OP, self.h0.shape(), format!("expected an h0 of [{n}, hidden]")));
        };
        let rows = kind.gates() * hidden;
        let expected: [(&str, Option<&Tensor>, Shape); 6] = [
            ("h0", Some(&self.h0), [n, hidden].into()),
            ("c0", self.c0.as_ref(), [n, hidden].into()),
            ("weight_ih", Some(&self.weight_ih), [rows, input].into()),
            ("weight_hh", Some(&self.weight_hh), [rows, hidden].into()),
            ("bias_ih", self.bias_ih.as_ref(), [rows].into()),
            ("bias_hh", self.bias_hh.as_ref(), [rows].into()),
        ];
        for (name, operand, shape) in expected {
            let Some(operand) = operand else { continue };
            self.x.check_same(OP, operand).map_err(|e| e.hint(format!("{name} differs from the input")))?;
            if operand.shape() != shape {
                return Err(Error::shape(OP, operand.shape(), format!("expected a {name} of {shape}")).hint(
                    format!(
                        "the input has {n} sequences of {input} features, h0 has {hidden} units, the {} has {} gates",
                        kind.name(),
                        kind.gates()
                    ),
                ));
            }
        }
        match (kind, &self.c0) {
            (RnnKind::Lstm, None) => Err(Error::argument(OP, "an LSTM needs an initial cell state c0")),
            (RnnKind::Tanh | RnnKind::Relu | RnnKind::Gru, Some(_)) => {
                Err(Error::argument(OP, format!("the {} has no cell state, but got a c0", kind.name())))
            }
            _ => Ok(RnnSizes { t, n, input, hidden }),
        }
    }

    /// The operands converted to another dtype.
    pub fn to_dtype(&self, dtype: DType) -> Result<RnnInputs> {
        let optional = |t: &Option<Tensor>| t.as_ref().map(|t| t.to_dtype(dtype)).transpose();
        Ok(RnnInputs {
            x: self.x.to_dtype(dtype)?,
            h0: self.h0.to_dtype(dtype)?,
            c0: optional(&self.c0)?,
            weight_ih: self.weight_ih.to_dtype(dtype)?,
            weight_hh: self.weight_hh.to_dtype(dtype)?,
            bias_ih: optional(&self.bias_ih)?,
            bias_hh: optional(&self.bias_hh)?,
        })
    }
}

/// What a recurrent layer computes.
#[derive(Clone, Debug)]
pub struct RnnOutputs {
    /// The hidden state after each step, at the step's place in time: `[t, n, hidden]`.
    pub output: Tensor,
    /// The hidden state after the last step taken: `[n, hidden]`.
    pub h_n: Tensor,
    /// The cell state after the last step taken, for an LSTM: `[n, hidden]`.
    pub c_n: Option<Tensor>,
    /// What the backward pass needs, as this backend likes it; empty unless asked for.
    pub saved: Vec<Tensor>,
}

/// The gradients that a backward pass starts from, shaped as the outputs; an absent one is zero.
#[derive(Clone, Copy, Debug, Default)]
pub struct RnnOutputGrads<'a> {
    /// `[t, n, hidden]`.
    pub output: Option<&'a Tensor>,
    /// `[n, hidden]`.
    pub h_n: Option<&'a Tensor>,
    /// `[n, hidden]`, for an LSTM.
    pub c_n: Option<&'a Tensor>,
}

/// Gradients of the operands of a recurrent layer, in the order of [`RnnInputs`].
#[derive(Clone, Debug)]
pub struct RnnGrads {
    /// `[t, n, input]`.
    pub x: Tensor,
    /// `[n, hidden]`.
    pub h0: Tensor,
    /// `[n, hidden]`, for an LSTM.
    pub c0: Option<Tensor>,
    /// As the weight.
    pub weight_ih: Tensor,
    /// As the weight.
    pub weight_hh: Tensor,
    /// As the bias; absent where the bias is.
    pub bias_ih: Option<Tensor>,
    /// As the bias; absent where the bias is.
    pub bias_hh: Option<Tensor>,
}

impl RnnGrads {
    /// The gradients converted to another dtype.
    pub fn to_dtype(&self, dtype: DType) -> Result<RnnGrads> {
        let optional = |t: &Option<Tensor>| t.as_ref().map(|t| t.to_dtype(dtype)).transpose();
        Ok(RnnGrads {
            x: self.x.to_dtype(dtype)?,
            h0: self.h0.to_dtype(dtype)?,
            c0: optional(&self.c0)?,
            weight_ih: self.weight_ih.to_dtype(dtype)?,
            weight_hh: self.weight_hh.to_dtype(dtype)?,
            bias_ih: optional(&self.bias_ih)?,
            bias_hh: optional(&self.bias_hh)?,
        })
    }
}
