//! Modules one after the other.

use crate::fusion::fuse_conv_bn_eval;
use crate::{Entry, Forward, Fusable, FusedConv2d, Module, Path};
use autograd::Var;
use tensor::Result;

/// Modules one after the other; their names are their places: `0.weight`, `2.bias`.
///
/// ```
/// use gradus_nn::{Forward, Init, Linear, Module, Relu, Sequential};
/// use tensor::{Device, Tensor};
/// # fn main() -> tensor::Result<()> {
/// let mut init = Init::new(0);
/// let mlp = Sequential::new().add(Linear::new(4, 8, &mut init)?).add(Relu).add(Linear::new(8, 2, &mut init)?);
/// assert_eq!(mlp.forward(&Tensor::ones([3, 4], &Device::cpu())?.into())?.dims(), [3, 2]);
/// assert_eq!(mlp.params()[2].0, "2.weight");
/// # Ok(()) }
/// ```
#[derive(Default)]
pub struct Sequential(Vec<Box<dyn Forward + Send + Sync>>);

impl Sequential {
    /// Without modules: the identity.
    pub fn new() -> Sequential {
        Sequential::default()
    }

    /// With one more at the end.
    #[must_use]
    #[allow(clippy::should_implement_trait, reason = "it is PyTorch's and everybody's name for it")]
    pub fn add(mut self, module: impl Forward + Send + Sync + 'static) -> Sequential {
        self.0.push(Box::new(module));
        self
    }

    /// The same function in evaluation with fewer passes: each [`Conv2d`](crate::Conv2d) takes up a
    /// [`BatchNorm`](crate::BatchNorm) right after it, by [`fuse_conv_bn_eval`], and an activation after that, as one
    /// [`FusedConv2d`]. Modules move up in place of what was taken up, so their names change: load weights before.
    ///
    /// ```
    /// use gradus_nn::{BatchNorm2d, Conv2d, Forward, Init, Module, Relu, Sequential};
    /// use tensor::{Device, Tensor};
    /// # fn main() -> tensor::Result<()> {
    /// let mut init = Init::new(0);
    /// let conv = Conv2d::new(3, 8, 3, &mut init)?;
    /// let net = Sequential::new().add(conv).add(BatchNorm2d::new(8, &mut init)?).add(Relu);
    /// net.eval();
    /// let x = Tensor::ones([1, 3, 6, 6], &Device::cpu())?.into();
    /// let expected = net.forward(&x)?;
    /// let fused = net.fuse_eval()?;
    /// assert_eq!(fused.len(), 1);
    /// assert!(autograd::no_grad(|| fused.forward(&x))?.value().all_close(expected.value(), 1e-5, 1e-5)?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If a normalisation has other channels than the convolution before it.
    pub fn fuse_eval(self) -> Result<Sequential> {
        let mut fused = Sequential::new();
        let mut modules = self.0.into_iter().peekable();
        while let Some(module) = modules.next() {
            let Fusable::Conv(conv) = module.fusable() else {
                fused.0.push(module);
                continue;
            };
            let mut all = FusedConv2d { conv: conv.clone(), activation: None };
            if let Some(Fusable::Norm(norm)) = modules.peek().map(|next| next.fusable()) {
                all.conv = fuse_conv_bn_eval(conv, norm)?;
                modules.next();
            }
            if let Some(Fusable::Activation(op)) = modules.peek().map(|next| next.fusable()) {
                all.activation = Some(op);
                modules.next();
            }
            fused = fused.add(all);
        }
        Ok(fused)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Module for Sequential {
    fn visit<'a>(&'a self, path: &mut Path, f: &mut dyn FnMut(&Path, Entry<'a>)) {
        self.0.visit(path, f);
    }
}

impl Forward for Sequential {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.0.iter().try_fold(x.clone(), |x, module| module.forward(&x))
    }
}
