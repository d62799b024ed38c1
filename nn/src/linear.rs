//! The fully connected layer.

use crate::located::Located;
use crate::{Forward, Init, Param, module};
use autograd::Var;
use tensor::Result;

/// `y = x · Wᵀ + b`.
///
/// # Shapes
/// - weight: `[out, in]`, bias: `[out]`, as PyTorch stores them
/// - input: `[…, in]`, output: `[…, out]`
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Param,
    /// `[out]`.
    pub bias: Option<Param>,
}
module!(Linear { weight, bias });

impl Linear {
    /// Weights and biases uniform within `1 / √in`, as PyTorch starts them.
    pub fn new(inputs: usize, outputs: usize, init: &mut Init) -> Result<Linear> {
        let bound = 1.0 / (inputs.max(1) as f64).sqrt();
        Ok(Linear {
            weight: init.uniform([outputs, inputs], bound)?,
            bias: Some(init.uniform([outputs], bound)?),
        })
    }

    /// Without a bias.
    #[must_use]
    pub fn no_bias(mut self) -> Linear {
        self.bias = None;
        self
    }
}

impl Forward for Linear {
    fn forward(&self, x: &Var) -> Result<Var> {
        let bias = self.bias.as_ref().map(Param::var);
        x.linear(&self.weight.var(), bias.as_ref()).located(&self.weight, "Linear")
    }
}
