//! Normalising layers.

use crate::located::Located;
use crate::{Buffer, Forward, Fusable, Init, Mode, Param, module};
use autograd::Var;
use tensor::{DType, Result, Tensor};

/// Batch normalisation of each channel of `[n, c, …]` (Ioffe & Szegedy, 2015): `(x - mean) / √(var + eps) · weight + bias`.
///
/// In training the mean and biased variance are the batch's, and the running ones move towards them (the variance
/// unbiased) by `momentum`; in evaluation they are the running ones. Names and defaults are PyTorch's, so that weights of
/// `BatchNorm1d`, `BatchNorm2d` and `BatchNorm3d` load.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// `[c]`.
    pub weight: Param,
    /// `[c]`.
    pub bias: Param,
    /// `[c]`.
    pub running_mean: Buffer,
    /// `[c]`.
    pub running_var: Buffer,
    /// How many batches the running statistics have seen, `int64` `[]`.
    pub num_batches_tracked: Buffer,
    /// Added to the variance.
    pub eps: f64,
    /// How far the running statistics move towards the batch's.
    pub momentum: f64,
    /// Whether the running statistics are the plain averages over all batches seen, in place of moving ones: PyTorch's
    /// `momentum=None`.
    pub cumulative: bool,
    training: Mode,
}
module!(BatchNorm { weight, bias, running_mean, running_var, num_batches_tracked, training });

/// [`BatchNorm`] of `[n, c]` or `[n, c, l]`.
pub type BatchNorm1d = BatchNorm;
/// [`BatchNorm`] of images `[n, c, h, w]`.
pub type BatchNorm2d = BatchNorm;
/// [`BatchNorm`] of volumes `[n, c, d, h, w]`.
pub type BatchNorm3d = BatchNorm;

impl BatchNorm {
    /// For `channels` channels, with `eps` 1e-5 and `momentum` 0.1.
    pub fn new(channels: usize, init: &mut Init) -> Result<BatchNorm> {
        let device = init.tensor([0], 0.0)?;
        Ok(BatchNorm {
            weight: init.full([channels], 1.0)?,
            bias: init.full([channels], 0.0)?,
            running_mean: Buffer::new(init.tensor([channels], 0.0)?),
            running_var: Buffer::new(init.tensor([channels], 1.0)?),
            num_batches_tracked: Buffer::new(Tensor::zeros((), (DType::I64, device.device()))?),
            eps: 1e-5,
            momentum: 0.1,
            cumulative: false,
            training: Mode::default(),
        })
    }

    fn track(&self, stats: &autograd::BatchNormStats) -> Result<()> {
        let seen = self.num_batches_tracked.value().add_scalar(1)?;
        let momentum = if self.cumulative { 1.0 / seen.item()? } else { self.momentum };
        let towards = |running: &Buffer, batch: &Tensor, scale: f64| {
            let old = running.value();
            let batch = batch.to_dtype(old.dtype())?.mul_scalar(momentum * scale)?;
            let new = old.mul_scalar(1.0 - momentum)?.add(&batch)?;
            drop(old); // so that the buffer is the only one to hold it
            running.set(new)
        };
        let n = stats.count as f64;
        towards(&self.running_mean, &stats.mean, 1.0)?;
        towards(&self.running_var, &stats.biased_var, n / (n - 1.0))?;
        self.num_batches_tracked.set(seen)
    }

    fn normalised(&self, x: &Var) -> Result<Var> {
        let (weight, bias) = (self.weight.var(), self.bias.var());
        if !self.training.is_training() {
            let (mean, var) = (self.running_mean.value(), self.running_var.value());
            return x.batch_norm_eval(&mean, &var, Some(&weight), Some(&bias), self.eps);
        }
        let (y, stats) = x.batch_norm_training(Some(&weight), Some(&bias), self.eps)?;
        self.track(&stats)?;
        Ok(y)
    }
}

impl Forward for BatchNorm {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.normalised(x).located(&self.weight, "BatchNorm")
    }

    fn fusable(&self) -> Fusable<'_> {
        Fusable::Norm(self)
    }
}

/// Normalisation over the last dims (Ba, Kiros & Hinton, 2016). See [`Var::layer_norm`].
#[derive(Clone, Debug)]
pub struct LayerNorm {
    /// Of the normalised shape.
    pub weight: Param,
    /// Of the normalised shape.
    pub bias: Param,
    /// Added to the variance.
    pub eps: f64,
}
module!(LayerNorm { weight, bias });

impl LayerNorm {
    /// Over the last dims, of these extents, with `eps` 1e-5.
    pub fn new(normalized_shape: &[usize], init: &mut Init) -> Result<LayerNorm> {
        Ok(LayerNorm {
            weight: init.full(normalized_shape, 1.0)?,
            bias: init.full(normalized_shape, 0.0)?,
            eps: 1e-5,
        })
    }
}

impl Forward for LayerNorm {
    fn forward(&self, x: &Var) -> Result<Var> {
        let shape = self.weight.shape();
        x.layer_norm(shape.dims(), Some(&self.weight.var()), Some(&self.bias.var()), self.eps)
            .located(&self.weight, "LayerNorm")
    }
}

/// Normalisation of groups of channels of `[n, c, …]` (Wu & He, 2018). See [`Var::group_norm`].
#[derive(Clone, Debug)]
pub struct GroupNorm {
    /// `[c]`.
    pub weight: Param,
    /// `[c]`.
    pub bias: Param,
    /// Into how many groups the channels are split.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f64,
}
module!(GroupNorm { weight, bias });

impl GroupNorm {
    /// `groups` groups of `channels` channels, with `eps` 1e-5.
    pub fn new(groups: usize, channels: usize, init: &mut Init) -> Result<GroupNorm> {
        Ok(GroupNorm {
            weight: init.full([channels], 1.0)?,
            bias: init.full([channels], 0.0)?,
            groups,
            eps: 1e-5,
        })
    }
}

impl Forward for GroupNorm {
    fn forward(&self, x: &Var) -> Result<Var> {
        x.group_norm(self.groups, Some(&self.weight.var()), Some(&self.bias.var()), self.eps)
            .located(&self.weight, "GroupNorm")
    }
}

/// Normalisation by the root mean square over the last dims (Zhang & Sennrich, 2019). See [`Var::rms_norm`].
#[derive(Clone, Debug)]
pub struct RmsNorm {
    /// Of the normalised shape.
    pub weight: Param,
    /// Added to the mean square; without, the machine epsilon of what is computed in, as in PyTorch.
    pub eps: Option<f64>,
}
module!(RmsNorm { weight });

impl RmsNorm {
    /// Over the last dims, of these extents.
    pub fn new(normalized_shape: &[usize], init: &mut Init) -> Result<RmsNorm> {
        Ok(RmsNorm { weight: init.full(normalized_shape, 1.0)?, eps: None })
    }
}

impl Forward for RmsNorm {
    fn forward(&self, x: &Var) -> Result<Var> {
        let eps = self.eps.unwrap_or(match x.dtype() {
            DType::F64 => f64::EPSILON,
            _ => f64::from(f32::EPSILON),
        });
        x.rms_norm(self.weight.shape().dims(), Some(&self.weight.var()), eps).located(&self.weight, "RmsNorm")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Module;
    use tensor::Device;

    #[test]
    fn cumulative_statistics_are_the_averages_over_all_batches() -> Result<()> {
        let mut init = Init::new(1);
        let norm = BatchNorm { cumulative: true, ..BatchNorm::new(1, &mut init)? };
        norm.train();
        for batch in [[1f32, 3.0], [5.0, 5.0], [2.0, 8.0]] {
            norm.forward(&Tensor::from_slice(&batch, [2, 1], &Device::cpu())?.into())?;
        }
        // Means 2, 5, 5 and unbiased variances 2, 0, 18.
        assert!((norm.running_mean.value().item()? - 4.0).abs() < 1e-6);
        assert!((norm.running_var.value().item()? - 20.0 / 3.0).abs() < 1e-5);
        assert_eq!(norm.num_batches_tracked.value().item()?, 3.0);
        Ok(())
    }
}
