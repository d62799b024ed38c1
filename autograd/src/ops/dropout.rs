//! Dropout.

use crate::Var;
use tensor::{Generator, Result, Tensor};

impl Var {
    /// See [`Tensor::dropout`].
    pub fn dropout(&self, p: f64, generator: &mut Generator) -> Result<Var> {
        let (y, kept) = self.value().dropout(p, generator)?;
        Ok(self.thinned(y, kept, p))
    }

    /// Records `y`, in which only what is `kept` of this is left. The gradient is thinned as the value was, and so is that of
    /// the gradient.
    fn thinned(&self, y: Tensor, kept: Tensor, p: f64) -> Var {
        Var::record1("dropout", y, self, move |g| {
            let dx = g.value().dropout_backward(&kept, p)?;
            Ok(g.thinned(dx, kept.clone(), p))
        })
    }
}
