//! The functions of neural networks that backends may have fused kernels for.

use super::Tensor;
use crate::{Error, Result, Shape};

impl Tensor {
    /// `e^x / Σ e^x` along `dim`.
    pub fn softmax(&self, dim: isize) -> Result<Tensor> {
        self.check_float("softmax")?;
        self.backend().softmax(self, self.shape().dim("softmax", dim)?, false)
    }

    /// `log softmax(x)` along `dim`, without underflow.
    pub fn log_softmax(&self, dim: isize) -> Result<Tensor> {
        self.check_float("log_softmax")?;
        self.backend().softmax(self, self.shape().dim("log_softmax", dim)?, true)
    }

    /// `(x - mean) / √(var + eps) · weight + bias`, with mean and biased variance over the last dims, whose extents
    /// are `normalized_shape`.
    pub fn layer_norm(
        &self,
        normalized_shape: &[usize],
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<Tensor> {
        self.check_norm("layer_norm", normalized_shape, weight, bias)?;
        Ok(self.backend().layer_norm(self, normalized_shape.len(), weight, bias, eps)?.0)
    }

    /// Errors unless the last dims have the extents `normalized` and weight and bias have just these.
    pub fn check_norm(
        &self,
        op: &'static str,
        normalized: &[usize],
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
    ) -> Result<()> {
        self.check_float(op)?;
        if normalized.is_empty() || !self.dims().ends_with(normalized) {
            let expected = format!("expected it to end with {normalized:?}");
            return Err(Error::shape(op, self.shape(), expected));
        }
        self.check_affine(op, Shape::from(normalized), weight, bias)
    }

    /// Errors unless weight and bias, where given, have this shape and the input's dtype and device.
    pub fn check_affine(
        &self,
        op: &'static str,
        shape: Shape,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
    ) -> Result<()> {
        for (name, t) in [("weight", weight), ("bias", bias)] {
            let Some(t) = t else { continue };
            self.check_same(op, t)?;
            if t.shape() != shape {
                return Err(Error::shape(op, t.shape(), format!("expected a {name} of {shape}")));
            }
        }
        Ok(())
    }
}
