//! Softmax and its logarithm.

use crate::{Var, is_recording};
use tensor::Result;

impl Var {
    /// `e^x / Σ e^x` along `dim`.
    pub fn softmax(&self, dim: isize) -> Result<Var> {
        Ok(Var::record_with_output("softmax", self.value().softmax(dim)?, &[self], move |b| {
            let (g, y) = (b.grad(), b.output()?);
            // The fused kernel has no gradient of its own: gradients of gradients go through the formula.
            Ok(vec![Some(match is_recording() {
                true => y.mul(&g.sub(&g.mul(&y)?.sum(dim, true)?)?)?,
                false => g.value().softmax_backward(y.value(), dim, false)?.into(),
            })])
        }))
    }

    /// `log softmax(x)` along `dim`, without underflow.
    pub fn log_softmax(&self, dim: isize) -> Result<Var> {
        Ok(Var::record_with_output("log_softmax", self.value().log_softmax(dim)?, &[self], move |b| {
            let (g, y) = (b.grad(), b.output()?);
            Ok(vec![Some(match is_recording() {
                true => g.sub(&y.exp()?.mul(&g.sum(dim, true)?)?)?,
                false => g.value().softmax_backward(y.value(), dim, true)?.into(),
            })])
        }))
    }
}
