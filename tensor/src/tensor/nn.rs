//! The functions of neural networks that backends may have fused kernels for.

use super::Tensor;
use crate::backend::CrossEntropy;
use crate::{DType, Error, Generator, Result, Shape};

impl Tensor {
    /// Each element times 0 with probability `p`, else times `1 / (1 - p)`, and which were kept, as bools: what
    /// [`dropout_backward`](Self::dropout_backward) takes. As many numbers are drawn as there are elements.
    ///
    /// # Errors
    /// For a `p` that is not within `[0, 1)`.
    pub fn dropout(&self, p: f64, generator: &mut Generator) -> Result<(Tensor, Tensor)> {
        self.check_float("dropout")?;
        if !(0.0..1.0).contains(&p) {
            return Err(Error::argument("dropout", format!("a probability below 1 was expected, got {p}")));
        }
        let offset = generator.advance(self.numel() as u64);
        self.backend().dropout(self, 1.0 - p, generator.seed(), offset)
    }

    /// The gradient of [`dropout`](Self::dropout) in its input, from that of its result, `self`.
    ///
    /// # Errors
    /// When the shapes or devices differ, or `kept` is not of bools.
    pub fn dropout_backward(&self, kept: &Tensor, p: f64) -> Result<Tensor> {
        kept.check_dtype("dropout", DType::Bool)?;
        self.check_device("dropout", kept)?;
        if self.shape() != kept.shape() {
            return Err(Error::shapes("dropout", self.shape(), kept.shape()));
        }
        self.backend().dropout_backward(self, kept, 1.0 - p)
    }

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

    /// The cross-entropy of logits `[n, c, …]` for `int64` classes `[n, …]`, and with `gradient` its gradient in the logits:
    /// for [`Reduction::None`](crate::Reduction::None) that of each loss in its own logits.
    ///
    /// # Errors
    /// Shapes that do not fit, a class out of range.
    pub fn cross_entropy(
        &self,
        target: &Tensor,
        options: &CrossEntropy,
        gradient: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        const OP: &str = "cross_entropy";
        self.check_float(OP)?;
        self.check_device(OP, target)?;
        if target.dtype() != DType::I64 {
            return Err(Error::dtype(OP, target.dtype(), "int64 classes"));
        }
        if self.rank() < 2 || target.shape() != self.shape().removed(1) {
            return Err(Error::shapes(OP, self.shape(), target.shape())
                .hint("the target has the shape of the input without the dim of classes"));
        }
        if let Some(weight) = options.weight {
            self.check_device(OP, weight)?;
            if weight.dims() != [self.dims()[1]] {
                let expected = format!("expected a weight of [{}]", self.dims()[1]);
                return Err(Error::shape(OP, weight.shape(), expected));
            }
        }
        self.backend().cross_entropy(self, target, options, gradient)
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

    /// As [`layer_norm`](Self::layer_norm), with the mean and `1 / √(var + eps)` that its gradient needs.
    pub fn layer_norm_stats(
        &self,
        normalized_shape: &[usize],
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        self.check_norm("layer_norm", normalized_shape, weight, bias)?;
        self.backend().layer_norm(self, normalized_shape.len(), weight, bias, eps)
    }

    /// The gradient of [`softmax`](Self::softmax), or with `log` of [`log_softmax`](Self::log_softmax), from that of its
    /// result, `self`, and the result `y`.
    pub fn softmax_backward(&self, y: &Tensor, dim: isize, log: bool) -> Result<Tensor> {
        self.check_like("softmax_backward", y)?;
        self.backend().softmax_backward(self, y, self.shape().dim("softmax_backward", dim)?, log)
    }

    /// Gradients of [`layer_norm_stats`](Self::layer_norm_stats) over `dims` dims in input, weight and bias, from that of
    /// its result, `self`.
    ///
    /// # Errors
    /// Statistics and weights that are not those of `x` and so many dims.
    pub fn layer_norm_backward(
        &self,
        x: &Tensor,
        mean: &Tensor,
        rstd: &Tensor,
        weight: Option<&Tensor>,
        dims: usize,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        self.check_norm_backward("layer_norm_backward", x, &[mean, rstd], weight, dims)?;
        self.backend().layer_norm_backward(self, x, mean, rstd, weight, dims)
    }

    /// `x / √(mean(x²) + eps) · weight` over the last dims, whose extents are `normalized_shape`, and `1 / √(mean(x²) + eps)`,
    /// which its gradient needs.
    pub fn rms_norm_stats(
        &self,
        normalized_shape: &[usize],
        weight: Option<&Tensor>,
        eps: f64,
    ) -> Result<(Tensor, Tensor)> {
        self.check_norm("rms_norm", normalized_shape, weight, None)?;
        self.backend().rms_norm(self, normalized_shape.len(), weight, eps)
    }

    /// `x / √(mean(x²) + eps) · weight` over the last dims, whose extents are `normalized_shape` (Zhang & Sennrich, 2019).
    pub fn rms_norm(&self, normalized_shape: &[usize], weight: Option<&Tensor>, eps: f64) -> Result<Tensor> {
        Ok(self.rms_norm_stats(normalized_shape, weight, eps)?.0)
    }

    /// Gradients of [`rms_norm_stats`](Self::rms_norm_stats) over `dims` dims in input and weight, from that of its result,
    /// `self`.
    ///
    /// # Errors
    /// Statistics and weights that are not those of `x` and so many dims.
    pub fn rms_norm_backward(
        &self,
        x: &Tensor,
        rstd: &Tensor,
        weight: Option<&Tensor>,
        dims: usize,
    ) -> Result<(Tensor, Tensor)> {
        self.check_norm_backward("rms_norm_backward", x, &[rstd], weight, dims)?;
        self.backend().rms_norm_backward(self, x, rstd, weight, dims)
    }

    /// Normalises each of `groups` groups of channels of every element of `[n, c, …]` (Wu & He, 2018); weight and bias are
    /// `[c]`. Gives the mean and `1 / √(var + eps)` too, `[n, groups]`, in f32 for half precision.
    ///
    /// # Errors
    /// Groups that do not divide the channels.
    pub fn group_norm_stats(
        &self,
        groups: usize,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        const OP: &str = "group_norm";
        self.check_float(OP)?;
        let &[_, c, ..] = self.dims() else {
            return Err(Error::shape(OP, self.shape(), "expected [n, c, …]"));
        };
        self.check_affine(OP, [c].into(), weight, bias)?;
        if groups == 0 || !c.is_multiple_of(groups) {
            return Err(Error::argument(OP, format!("{groups} groups do not divide {c} channels")));
        }
        self.backend().group_norm(self, groups, weight, bias, eps)
    }

    /// Normalises each of `groups` groups of channels of every element of `[n, c, …]`; see
    /// [`group_norm_stats`](Self::group_norm_stats).
    pub fn group_norm(
        &self,
        groups: usize,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<Tensor> {
        Ok(self.group_norm_stats(groups, weight, bias, eps)?.0)
    }

    /// Gradients of [`group_norm_stats`](Self::group_norm_stats) in input, weight and bias, from that of its result, `self`.
    pub fn group_norm_backward(
        &self,
        x: &Tensor,
        mean: &Tensor,
        rstd: &Tensor,
        weight: Option<&Tensor>,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        const OP: &str = "group_norm_backward";
        self.check_like(OP, x)?;
        let (&[n, c, ..], &[m, groups]) = (x.dims(), mean.dims()) else {
            return Err(Error::shapes(OP, x.shape(), mean.shape()));
        };
        if m != n || groups == 0 || !c.is_multiple_of(groups) || rstd.shape() != mean.shape() {
            return Err(Error::shapes(OP, x.shape(), mean.shape()));
        }
        x.check_affine(OP, [c].into(), weight, None)?;
        self.backend().group_norm_backward(self, x, mean, rstd, weight)
    }

    /// Normalises each channel of `[n, c, …]` by its own statistics: `(y, mean, biased variance, 1 / √(var + eps))`, the
    /// latter three `[c]`, in f32 for half precision.
    pub fn batch_norm_training(
        &self,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<(Tensor, Tensor, Tensor, Tensor)> {
        let given: Vec<&Tensor> = [weight, bias].into_iter().flatten().collect();
        self.check_batch_norm("batch_norm_training", &given)?;
        self.backend().batch_norm_training(self, weight, bias, eps)
    }

    /// Mean and biased variance of each channel of `[n, c, …]`: `([c], [c])`, in f32 for half precision.
    pub fn batch_norm_stats(&self) -> Result<(Tensor, Tensor)> {
        self.check_batch_norm("batch_norm_stats", &[])?;
        self.backend().batch_norm_stats(self)
    }

    /// `(x - mean) · rstd · weight + bias` for each channel of `[n, c, …]`; all of them are `[c]`.
    pub fn batch_norm_apply(
        &self,
        mean: &Tensor,
        rstd: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        let given: Vec<&Tensor> = [Some(mean), Some(rstd), weight, bias].into_iter().flatten().collect();
        self.check_batch_norm("batch_norm_apply", &given)?;
        self.backend().batch_norm_apply(self, mean, rstd, weight, bias)
    }

    /// Gradients of batch normalisation in input, weight and bias, from that of its result, `self`. With `training` the
    /// mean and rstd were the batch's own.
    pub fn batch_norm_backward(
        &self,
        x: &Tensor,
        mean: &Tensor,
        rstd: &Tensor,
        weight: Option<&Tensor>,
        training: bool,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        self.check_like("batch_norm_backward", x)?;
        let given: Vec<&Tensor> = [Some(mean), Some(rstd), weight].into_iter().flatten().collect();
        x.check_batch_norm("batch_norm_backward", &given)?;
        self.backend().batch_norm_backward(self, x, mean, rstd, weight, training)
    }

    fn check_batch_norm(&self, op: &'static str, per_channel: &[&Tensor]) -> Result<()> {
        self.check_float(op)?;
        let &[_, c, ..] = self.dims() else {
            return Err(Error::shape(op, self.shape(), "expected [n, c, …]"));
        };
        for t in per_channel {
            self.check_device(op, t)?;
            if t.dims() != [c] {
                return Err(Error::shape(
                    op,
                    t.shape(),
                    format!("expected one number for each of {c} channels"),
                ));
            }
        }
        Ok(())
    }

    /// Errors unless both have one shape, dtype and device.
    pub(crate) fn check_like(&self, op: &'static str, other: &Tensor) -> Result<()> {
        self.check_same(op, other)?;
        if self.shape() == other.shape() {
            Ok(())
        } else {
            Err(Error::shapes(op, self.shape(), other.shape()))
        }
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

    /// Errors unless these are a gradient, the statistics over the last `dims` dims, and a weight that go with `x`.
    fn check_norm_backward(
        &self,
        op: &'static str,
        x: &Tensor,
        stats: &[&Tensor],
        weight: Option<&Tensor>,
        dims: usize,
    ) -> Result<()> {
        self.check_like(op, x)?;
        if dims == 0 || dims > x.rank() {
            return Err(Error::argument(op, format!("{dims} dims of {}", x.rank())));
        }
        let kept = x.rank() - dims;
        let shape = (kept..x.rank()).fold(x.shape(), |shape, d| shape.with_dim(d, 1));
        for stat in stats {
            x.check_device(op, stat)?;
            if stat.shape() != shape {
                return Err(Error::shapes(op, stat.shape(), shape));
            }
        }
        x.check_norm(op, &x.dims()[kept..], weight, None)
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
