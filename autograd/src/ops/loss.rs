//! Losses: differentiable compositions, with PyTorch's names and reductions.

use super::norm::through_formula;
use crate::{Var, is_recording};
pub use tensor::Reduction;
use tensor::op::CompareOp;
use tensor::{CrossEntropy, DType, Device, Error, ErrorKind, Result, Tensor};

/// The losses reduced to one, or not.
fn reduce(reduction: Reduction, losses: Var) -> Result<Var> {
    match reduction {
        Reduction::None => Ok(losses),
        Reduction::Mean => losses.mean_all(),
        Reduction::Sum => losses.sum_all(),
    }
}

/// Options of [`Var::cross_entropy_with`] and [`Var::nll_loss_with`].
#[derive(Clone, Debug)]
pub struct ClassLoss {
    /// A factor for each class, `[c]`.
    pub weight: Option<Tensor>,
    /// Rows of this class count for nothing.
    pub ignore_index: i64,
    /// This share of the target is spread evenly over all classes.
    pub label_smoothing: f64,
    /// The mean is over the weights of the rows that count.
    pub reduction: Reduction,
}

impl Default for ClassLoss {
    fn default() -> Self {
        ClassLoss { weight: None, ignore_index: -100, label_smoothing: 0.0, reduction: Reduction::Mean }
    }
}

impl Var {
    /// The mean of `-log softmax(x)[class]` over the rows of logits `[n, c]` (or `[c]`, or `[n, c, d…]`), for `int64`
    /// classes `[n]` (`[]`, `[n, d…]`) or, as floats of the shape of the logits, class probabilities.
    ///
    /// # Errors
    /// Shapes that do not fit, a class out of range, a label smoothing that is no share.
    pub fn cross_entropy(&self, target: &Tensor) -> Result<Var> {
        self.cross_entropy_with(target, &ClassLoss::default())
    }

    /// As [`cross_entropy`](Self::cross_entropy), with options.
    pub fn cross_entropy_with(&self, target: &Tensor, options: &ClassLoss) -> Result<Var> {
        let dim = self.class_dim("cross_entropy")?;
        if !(0.0..=1.0).contains(&options.label_smoothing) {
            let message = format!("label_smoothing lies within 0 and 1, got {}", options.label_smoothing);
            return Err(Error::argument("cross_entropy", message));
        }
        if target.dtype().is_float() {
            return self.log_softmax(dim)?.class_probabilities(target, dim, options);
        }
        if dim == 0 {
            let loss = self.unsqueeze(0)?.cross_entropy_with(&target.unsqueeze(0)?, options)?;
            return if options.reduction == Reduction::None { loss.squeeze(0) } else { Ok(loss) };
        }
        let fused = CrossEntropy {
            weight: options.weight.as_ref(),
            ignore_index: options.ignore_index,
            label_smoothing: options.label_smoothing,
            reduction: options.reduction,
        };
        // The gradient is a by-product of the loss, while the logits are in the cache.
        let gradient = is_recording() && self.requires_grad();
        let (loss, dx) = self.value().cross_entropy(target, &fused, gradient)?;
        let Some(dx) = dx else { return Ok(Var::record("cross_entropy", loss, &[self], |_| Ok(vec![None]))) };
        let (x, target, options) = (self.clone(), target.clone(), options.clone());
        Ok(Var::record("cross_entropy", loss, &[self], move |back| {
            if is_recording() {
                return through_formula(back, &[Some(&x)], |v| {
                    v[0].log_softmax(1)?.class_indices("cross_entropy", &target, 1, &options)
                });
            }
            let g = back.grad().value();
            let dx = match options.reduction {
                Reduction::None => dx.mul(&g.unsqueeze(1)?)?,
                // Where it costs nothing to look: the gradient of the last loss is 1.
                Reduction::Mean | Reduction::Sum if g.device() == &Device::cpu() && g.item()? == 1.0 => {
                    dx.clone()
                }
                Reduction::Mean | Reduction::Sum => dx.mul(g)?,
            };
            Ok(vec![Some(dx.into())])
        }))
    }

    /// The mean of `-x[class]` over the rows of log-probabilities; shapes as in [`cross_entropy`](Self::cross_entropy).
    pub fn nll_loss(&self, target: &Tensor) -> Result<Var> {
        self.nll_loss_with(target, &ClassLoss::default())
    }

    /// As [`nll_loss`](Self::nll_loss), with options; label smoothing does not apply.
    pub fn nll_loss_with(&self, target: &Tensor, options: &ClassLoss) -> Result<Var> {
        let options = ClassLoss { label_smoothing: 0.0, ..options.clone() };
        self.class_indices("nll_loss", target, self.class_dim("nll_loss")?, &options)
    }

    fn class_dim(&self, op: &'static str) -> Result<isize> {
        match self.rank() {
            0 => Err(Error::shape(op, self.shape(), "expected [c], [n, c] or [n, c, d…]")),
            1 => Ok(0),
            _ => Ok(1),
        }
    }

    fn class_weights(&self, op: &'static str, dim: isize, options: &ClassLoss) -> Result<Option<Tensor>> {
        let Some(weight) = &options.weight else { return Ok(None) };
        let classes = self.size(dim)?;
        if weight.dims() != [classes] {
            return Err(Error::shape(op, weight.shape(), format!("expected a weight of [{classes}]")));
        }
        Ok(Some(weight.to_dtype(self.dtype())?))
    }

    /// From log-probabilities with classes along `dim`.
    fn class_indices(
        &self,
        op: &'static str,
        target: &Tensor,
        dim: isize,
        options: &ClassLoss,
    ) -> Result<Var> {
        if target.dtype() != DType::I64 {
            return Err(Error::dtype(op, target.dtype(), "int64 classes"));
        }
        let classes = self.size(dim)?;
        if target.shape() != self.shape().removed(dim as usize) {
            return Err(Error::shapes(op, self.shape(), target.shape())
                .hint("the target has the shape of the input without the dim of classes"));
        }
        let weight = self.class_weights(op, dim, options)?;
        let counts = target.compare_scalar(CompareOp::Ne, options.ignore_index)?;
        let safe = target.masked_fill(&counts.logical_not()?, 0)?;
        check_classes(op, &safe, classes)?;
        let per_row = match &weight {
            Some(w) => w.index_select(0, &safe.reshape([safe.numel()])?)?.reshape(safe.shape())?,
            None => Tensor::ones(safe.shape(), (self.dtype(), self.device()))?,
        };
        let per_row = counts.to_dtype(self.dtype())?.mul(&per_row)?;
        let picked = self.gather(dim, &safe.unsqueeze(dim)?)?.squeeze(dim)?;
        let mut losses = picked.mul(&per_row.clone().into())?.neg()?;
        // -∞ · 0 is NaN: rows that do not count must not.
        losses = losses.keep_where(&counts)?;
        if options.label_smoothing > 0.0 {
            let share = options.label_smoothing / classes as f64;
            let spread = match &weight {
                Some(w) => self.mul(&along(w, self.rank(), dim)?.into())?,
                None => self.clone(),
            };
            let spread = spread.sum(dim, false)?.mul_scalar(-share)?.keep_where(&counts)?;
            losses = losses.mul_scalar(1.0 - options.label_smoothing)?.add(&spread)?;
        }
        match options.reduction {
            Reduction::Mean => losses.sum_all()?.div(&per_row.sum_all()?.into()),
            other => reduce(other, losses),
        }
    }

    /// From log-probabilities with classes along `dim`, against probabilities of the same shape.
    fn class_probabilities(&self, target: &Tensor, dim: isize, options: &ClassLoss) -> Result<Var> {
        const OP: &str = "cross_entropy";
        if target.shape() != self.shape() {
            return Err(Error::shapes(OP, self.shape(), target.shape())
                .hint("a target of floats holds a probability for each class"));
        }
        let classes = self.size(dim)? as f64;
        let mut target = target.to_dtype(self.dtype())?;
        if options.label_smoothing > 0.0 {
            let eps = options.label_smoothing;
            target = target.mul_scalar(1.0 - eps)?.add_scalar(eps / classes)?;
        }
        if let Some(w) = self.class_weights(OP, dim, options)? {
            target = target.mul(&along(&w, self.rank(), dim)?)?;
        }
        let losses = self.mul(&target.into())?.sum(dim, false)?.neg()?;
        reduce(options.reduction, losses)
    }

    fn check_target(&self, op: &'static str, target: &Var) -> Result<()> {
        if self.dtype() != target.dtype() {
            return Err(ErrorKind::DTypeMismatch { op, lhs: self.dtype(), rhs: target.dtype() }.into());
        }
        match self.shape() == target.shape() {
            true => Ok(()),
            false => Err(Error::shapes(op, self.shape(), target.shape()).hint(
                "input and target of this loss have one shape; reshape or broadcast one of them first",
            )),
        }
    }

    /// `(x - y)²`.
    pub fn mse_loss(&self, target: &Var, reduction: Reduction) -> Result<Var> {
        self.check_target("mse_loss", target)?;
        reduce(reduction, self.sub(target)?.square()?)
    }

    /// `|x - y|`.
    pub fn l1_loss(&self, target: &Var, reduction: Reduction) -> Result<Var> {
        self.check_target("l1_loss", target)?;
        reduce(reduction, self.sub(target)?.abs()?)
    }

    /// `d² / 2` for distances up to `delta`, `delta · (d - delta / 2)` above.
    pub fn huber_loss(&self, target: &Var, delta: f64, reduction: Reduction) -> Result<Var> {
        self.check_target("huber_loss", target)?;
        if delta <= 0.0 {
            return Err(Error::argument("huber_loss", format!("delta is positive, got {delta}")));
        }
        let d = self.sub(target)?.abs()?;
        let near = d.square()?.mul_scalar(0.5)?;
        let far = d.sub_scalar(delta / 2.0)?.mul_scalar(delta)?;
        reduce(reduction, near.select_where(&d.value().compare_scalar(CompareOp::Le, delta)?, &far)?)
    }

    /// `d² / (2 · beta)` for distances below `beta`, `d - beta / 2` above; with `beta` 0 the distance itself.
    pub fn smooth_l1_loss(&self, target: &Var, beta: f64, reduction: Reduction) -> Result<Var> {
        if beta == 0.0 {
            return self.l1_loss(target, reduction);
        }
        self.check_target("smooth_l1_loss", target)?;
        if beta < 0.0 {
            return Err(Error::argument("smooth_l1_loss", format!("beta is not negative, got {beta}")));
        }
        self.huber_loss(target, beta, reduction)?.div_scalar(beta)
    }

    /// `-(y · log σ(x) · pos_weight + (1 - y) · log(1 - σ(x)))`, times `weight`; both broadcast.
    pub fn bce_with_logits_loss(
        &self,
        target: &Var,
        weight: Option<&Tensor>,
        pos_weight: Option<&Tensor>,
        reduction: Reduction,
    ) -> Result<Var> {
        self.check_target("bce_with_logits_loss", target)?;
        // log σ(-x) = log σ(x) - x
        let log_p = self.logsigmoid()?;
        let negative = target.neg()?.add_scalar(1.0)?.mul(&log_p.sub(self)?)?;
        let mut positive = target.mul(&log_p)?;
        if let Some(pos_weight) = pos_weight {
            positive = positive.mul(&pos_weight.into())?;
        }
        let mut losses = positive.add(&negative)?.neg()?;
        if let Some(weight) = weight {
            losses = losses.mul(&weight.into())?;
        }
        reduce(reduction, losses)
    }

    /// `-(y · log x + (1 - y) · log(1 - x))` for probabilities `x`, times `weight`; logarithms are at least -100.
    ///
    /// # Errors
    /// If an `x` is no probability.
    pub fn bce_loss(&self, target: &Var, weight: Option<&Tensor>, reduction: Reduction) -> Result<Var> {
        self.check_target("bce_loss", target)?;
        if self.numel() > 0 {
            let (low, high) = (self.value().amin(.., false)?.item()?, self.value().amax(.., false)?.item()?);
            // NaN is neither.
            if !(low >= 0.0 && high <= 1.0) {
                let message = format!("probabilities lie within 0 and 1, got {low} to {high}");
                return Err(Error::argument("bce_loss", message).hint("bce_with_logits_loss takes logits"));
            }
        }
        let log = |p: &Var| p.log()?.clamp(Some(-100.0), None);
        let complement = |p: &Var| p.neg()?.add_scalar(1.0);
        let positive = target.mul(&log(self)?)?;
        let negative = complement(target)?.mul(&log(&complement(self)?)?)?;
        let mut losses = positive.add(&negative)?.neg()?;
        if let Some(weight) = weight {
            losses = losses.mul(&weight.into())?;
        }
        reduce(reduction, losses)
    }

    /// `y · (log y - x)` for log-probabilities `x`; with `log_target` the target is a logarithm too. The mean is over all
    /// elements; divide the sum by the batch for the divergence itself.
    pub fn kl_div(&self, target: &Var, log_target: bool, reduction: Reduction) -> Result<Var> {
        self.check_target("kl_div", target)?;
        let losses = match log_target {
            true => target.exp()?.mul(&target.sub(self)?)?,
            false => target.xlogy(target)?.sub(&target.mul(self)?)?,
        };
        reduce(reduction, losses)
    }
}

/// `[c]` shaped to broadcast along `dim` of `rank` dims.
fn along(t: &Tensor, rank: usize, dim: isize) -> Result<Tensor> {
    let mut shape = vec![1; rank];
    shape[dim as usize] = t.numel();
    t.reshape(shape)
}

/// Errors if a class is out of range: better than an index error that names another op.
fn check_classes(op: &'static str, target: &Tensor, classes: usize) -> Result<()> {
    if target.numel() == 0 {
        return Ok(());
    }
    let (low, high) =
        (target.amin(.., false)?.to_scalar::<i64>()?, target.amax(.., false)?.to_scalar::<i64>()?);
    match if low < 0 { Some(low) } else { (high >= classes as i64).then_some(high) } {
        None => Ok(()),
        Some(class) => Err(Error::argument(
            op,
            format!("class {class} is out of range: the input has {classes} classes"),
        )),
    }
}
