//! Modules one after the other.

use crate::{Entry, Forward, Module, Path};
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
