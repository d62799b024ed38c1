//! Sorting and choosing the largest.

use super::Tensor;
use crate::{Error, Result};

impl Tensor {
    /// The elements along `dim` in order, and where each came from (`int64`). Stable; NaN counts as the largest.
    pub fn sort(&self, dim: isize, descending: bool) -> Result<(Tensor, Tensor)> {
        self.backend().sort(self, self.shape().dim("sort", dim)?, descending)
    }

    /// The indices that would sort along `dim`, `int64`.
    pub fn argsort(&self, dim: isize, descending: bool) -> Result<Tensor> {
        Ok(self.sort(dim, descending)?.1)
    }

    /// The `k` largest (or smallest) elements along `dim`, in order, and their indices (`int64`).
    pub fn topk(&self, k: usize, dim: isize, largest: bool) -> Result<(Tensor, Tensor)> {
        if k > self.size(dim)? {
            let message = format!("there are no {k} elements along dim {dim} of shape {}", self.shape());
            return Err(Error::argument("topk", message));
        }
        self.backend().topk(self, self.shape().dim("topk", dim)?, k, largest)
    }
}
