//! Normalisation over the last dims, over each channel, over groups of channels.

use crate::{Var, is_recording};
use tensor::{Error, Result, Shape, Tensor};

/// The statistics of a batch, for the running ones.
#[derive(Clone, Debug)]
pub struct BatchNormStats {
    /// `[c]`.
    pub mean: Tensor,
    /// `[c]`, over `n` elements: multiply by `n / (n - 1)` for the unbiased variance.
    pub biased_var: Tensor,
    /// How many elements each channel has.
    pub count: usize,
}

/// The last `dims` dims.
fn last(dims: usize) -> Vec<isize> {
    (1..=dims as isize).map(|d| -d).collect()
}

/// Centred and scaled by `weight` and `bias`, which broadcast, in differentiable steps.
fn affine(z: Var, weight: Option<&Var>, bias: Option<&Var>) -> Result<Var> {
    let z = weight.map_or(Ok(z.clone()), |w| z.mul(w))?;
    bias.map_or(Ok(z.clone()), |b| z.add(b))
}

impl Var {
    /// `(x - mean) / √(var + eps) · weight + bias` over the last dims; see [`Tensor::layer_norm`].
    pub fn layer_norm(
        &self,
        normalized_shape: &[usize],
        weight: Option<&Var>,
        bias: Option<&Var>,
        eps: f64,
    ) -> Result<Var> {
        self.value().check_norm(
            "layer_norm",
            normalized_shape,
            weight.map(Var::value),
            bias.map(Var::value),
        )?;
        let dims = normalized_shape.len();
        let (y, mean, rstd) = self.value().layer_norm_stats(
            normalized_shape,
            weight.map(Var::value),
            bias.map(Var::value),
            eps,
        )?;
        let (x, w, b) = (self.clone(), weight.cloned(), bias.cloned());
        let inputs: Vec<&Var> = [Some(self), weight, bias].into_iter().flatten().collect();
        Ok(Var::record("layer_norm", y, &inputs, move |back| {
            let g = back.grad();
            let has = [true, w.is_some(), b.is_some()];
            if is_recording() {
                return through_formula(back, &[Some(&x), w.as_ref(), b.as_ref()], |v| {
                    let (mean, var) = v[0].mean_var(last(dims))?;
                    let z = v[0].sub(&mean)?.mul(&var.add_scalar(eps)?.rsqrt()?)?;
                    let (weight, bias) = split_affine(v, has);
                    affine(z, weight, bias)
                });
            }
            let (dx, dw, db) =
                g.value().layer_norm_backward(x.value(), &mean, &rstd, w.as_ref().map(Var::value), dims)?;
            Ok(kept([dx, dw, db], has))
        }))
    }

    /// Normalises each channel of `[n, c, …]` with the batch's own mean and variance, and tells them.
    ///
    /// # Errors
    /// With fewer than two elements a channel: their variance says nothing.
    pub fn batch_norm_training(
        &self,
        weight: Option<&Var>,
        bias: Option<&Var>,
        eps: f64,
    ) -> Result<(Var, BatchNormStats)> {
        let channels = self.check_channels("batch_norm", weight, bias)?;
        let count = self.numel() / channels.max(1);
        if count < 2 {
            return Err(Error::shape(
                "batch_norm",
                self.shape(),
                "expected more than one value per channel in training",
            ));
        }
        let (y, mean, biased_var, rstd) =
            self.value().batch_norm_training(weight.map(Var::value), bias.map(Var::value), eps)?;
        let stats = BatchNormStats { mean: mean.clone(), biased_var, count };
        let (x, w, b) = (self.clone(), weight.cloned(), bias.cloned());
        let inputs: Vec<&Var> = [Some(self), weight, bias].into_iter().flatten().collect();
        let y = Var::record("batch_norm", y, &inputs, move |back| {
            let has = [true, w.is_some(), b.is_some()];
            if is_recording() {
                return through_formula(back, &[Some(&x), w.as_ref(), b.as_ref()], |v| {
                    let but_channels: Vec<isize> = (0..v[0].rank() as isize).filter(|&d| d != 1).collect();
                    let (mean, var) = v[0].mean_var(but_channels)?;
                    let z = v[0].sub(&mean)?.mul(&var.add_scalar(eps)?.rsqrt()?)?;
                    per_channel_affine(z, v, has)
                });
            }
            let weight = w.as_ref().map(Var::value);
            let (dx, dw, db) =
                back.grad().value().batch_norm_backward(x.value(), &mean, &rstd, weight, true)?;
            Ok(kept([dx, dw, db], has))
        });
        Ok((y, stats))
    }

    /// Normalises each channel of `[n, c, …]` with given statistics (`[c]`), as after training.
    pub fn batch_norm_eval(
        &self,
        mean: &Tensor,
        var: &Tensor,
        weight: Option<&Var>,
        bias: Option<&Var>,
        eps: f64,
    ) -> Result<Var> {
        let channels = self.check_channels("batch_norm", weight, bias)?;
        for t in [mean, var] {
            if t.dims() != [channels] {
                return Err(Error::shape(
                    "batch_norm",
                    t.shape(),
                    format!("expected running statistics of [{channels}]"),
                ));
            }
        }
        let wide = self.dtype().accumulator();
        let (mean, rstd) = (mean.to_dtype(wide)?, var.to_dtype(wide)?.add_scalar(eps)?.rsqrt()?);
        let y = self.value().batch_norm_apply(&mean, &rstd, weight.map(Var::value), bias.map(Var::value))?;
        let (x, w, b) = (self.clone(), weight.cloned(), bias.cloned());
        let inputs: Vec<&Var> = [Some(self), weight, bias].into_iter().flatten().collect();
        Ok(Var::record("batch_norm", y, &inputs, move |back| {
            let has = [true, w.is_some(), b.is_some()];
            if is_recording() {
                return through_formula(back, &[Some(&x), w.as_ref(), b.as_ref()], |v| {
                    let shape = channel_shape(v[0]);
                    let (mean, rstd) = (mean.reshape(shape)?, rstd.reshape(shape)?);
                    let z = v[0].sub(&mean.into())?.mul(&rstd.into())?;
                    per_channel_affine(z, v, has)
                });
            }
            let weight = w.as_ref().map(Var::value);
            let (dx, dw, db) =
                back.grad().value().batch_norm_backward(x.value(), &mean, &rstd, weight, false)?;
            Ok(kept([dx, dw, db], has))
        }))
    }

    /// Normalises each of `groups` groups of channels of every element of `[n, c, …]`; see [`Tensor::group_norm`].
    pub fn group_norm(
        &self,
        groups: usize,
        weight: Option<&Var>,
        bias: Option<&Var>,
        eps: f64,
    ) -> Result<Var> {
        let channels = self.check_channels("group_norm", weight, bias)?;
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(Error::argument(
                "group_norm",
                format!("{groups} groups do not divide {channels} channels"),
            ));
        }
        let (y, mean, rstd) =
            self.value().group_norm_stats(groups, weight.map(Var::value), bias.map(Var::value), eps)?;
        let (x, w, b) = (self.clone(), weight.cloned(), bias.cloned());
        let inputs: Vec<&Var> = [Some(self), weight, bias].into_iter().flatten().collect();
        Ok(Var::record("group_norm", y, &inputs, move |back| {
            let has = [true, w.is_some(), b.is_some()];
            if is_recording() {
                return through_formula(back, &[Some(&x), w.as_ref(), b.as_ref()], |v| {
                    let n = v[0].dims()[0];
                    let grouped = v[0].reshape([n, groups, v[0].numel() / (n * groups).max(1)])?;
                    let (mean, var) = grouped.mean_var(-1)?;
                    let z = grouped.sub(&mean)?.mul(&var.add_scalar(eps)?.rsqrt()?)?;
                    per_channel_affine(z.reshape(v[0].shape())?, v, has)
                });
            }
            let weight = w.as_ref().map(Var::value);
            let (dx, dw, db) = back.grad().value().group_norm_backward(x.value(), &mean, &rstd, weight)?;
            Ok(kept([dx, dw, db], has))
        }))
    }

    /// Normalises each channel of every element of `[n, c, spatial…]` (Ulyanov et al., 2016): as many groups as channels.
    ///
    /// # Errors
    /// With fewer than two elements a channel, as in [`batch_norm_training`](Self::batch_norm_training).
    pub fn instance_norm(&self, weight: Option<&Var>, bias: Option<&Var>, eps: f64) -> Result<Var> {
        let channels = self.check_channels("instance_norm", weight, bias)?;
        if self.dims()[2..].iter().product::<usize>() < 2 {
            let expected = "expected more than one value per channel";
            return Err(Error::shape("instance_norm", self.shape(), expected));
        }
        self.group_norm(channels.max(1), weight, bias, eps)
    }

    /// `x / √(mean(x²) + eps) · weight` over the last dims (Zhang & Sennrich, 2019).
    pub fn rms_norm(&self, normalized_shape: &[usize], weight: Option<&Var>, eps: f64) -> Result<Var> {
        self.value().check_norm("rms_norm", normalized_shape, weight.map(Var::value), None)?;
        let dims = normalized_shape.len();
        let (y, rstd) = self.value().rms_norm_stats(normalized_shape, weight.map(Var::value), eps)?;
        let (x, w) = (self.clone(), weight.cloned());
        let inputs: Vec<&Var> = [Some(self), weight].into_iter().flatten().collect();
        Ok(Var::record("rms_norm", y, &inputs, move |back| {
            if is_recording() {
                return through_formula(back, &[Some(&x), w.as_ref()], |v| {
                    let scale = v[0].square()?.mean(last(dims), true)?.add_scalar(eps)?.rsqrt()?;
                    affine(v[0].mul(&scale)?, v.get(1).copied(), None)
                });
            }
            let weight = w.as_ref().map(Var::value);
            let (dx, dw) = back.grad().value().rms_norm_backward(x.value(), &rstd, weight, dims)?;
            let grads = [Some(dx), w.is_some().then_some(dw)];
            Ok(grads.into_iter().flatten().map(|g| Some(g.into())).collect())
        }))
    }

    /// The number of channels of `[n, c, …]`, where weight and bias are `[c]`.
    fn check_channels(&self, op: &'static str, weight: Option<&Var>, bias: Option<&Var>) -> Result<usize> {
        let &[_, c, ..] = self.dims() else {
            return Err(Error::shape(op, self.shape(), "expected [n, c, …]"));
        };
        if !self.dtype().is_float() {
            return Err(Error::dtype(op, self.dtype(), "floats"));
        }
        self.value().check_affine(op, [c].into(), weight.map(Var::value), bias.map(Var::value))?;
        Ok(c)
    }
}

/// `[1, c, 1, …]`.
fn channel_shape(x: &Var) -> Shape {
    let mut shape = vec![1; x.rank()];
    shape[1] = x.dims()[1];
    shape.into()
}

/// Weight and bias among the operands that are there.
fn split_affine<'a>(v: &[&'a Var], has: [bool; 3]) -> (Option<&'a Var>, Option<&'a Var>) {
    let weight = has[1].then(|| v[1]);
    let bias = has[2].then(|| v[1 + has[1] as usize]);
    (weight, bias)
}

fn per_channel_affine(z: Var, v: &[&Var], has: [bool; 3]) -> Result<Var> {
    let shape = channel_shape(&z);
    let (weight, bias) = split_affine(v, has);
    let weight = weight.map(|w| w.reshape(shape)).transpose()?;
    let bias = bias.map(|b| b.reshape(shape)).transpose()?;
    affine(z, weight.as_ref(), bias.as_ref())
}

/// The gradients of the operands that are there.
fn kept(grads: [Tensor; 3], has: [bool; 3]) -> Vec<Option<Var>> {
    grads.into_iter().zip(has).filter(|(_, has)| *has).map(|(g, _)| Some(g.into())).collect()
}

/// Gradients with a history, for a fused kernel that has none: the op is computed again from its formula and
/// differentiated with the graph kept.
pub(super) fn through_formula(
    back: &crate::Backprop<'_>,
    inputs: &[Option<&Var>],
    formula: impl Fn(&[&Var]) -> Result<Var>,
) -> Result<Vec<Option<Var>>> {
    let inputs: Vec<&Var> = inputs.iter().flatten().copied().collect();
    // Each operand stands for itself through an identity node, so that the inner walk stops there.
    let stand_ins: Vec<Var> = inputs.iter().map(|v| v.hook(|g| Ok(g.clone()))).collect();
    let y = formula(&stand_ins.iter().collect::<Vec<_>>())?;
    crate::backward::vjp(&y, back.grad(), &stand_ins.iter().collect::<Vec<_>>())
}
