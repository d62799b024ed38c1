//! Matrix products.

use super::Tensor;
use crate::{Error, Result, Shape};

impl Tensor {
    /// The matrix product, with NumPy's rules for vectors and batches.
    ///
    /// # Shapes
    /// - `[…, m, k] · […, k, n] -> […, m, n]`, where the leading dims broadcast
    /// - a vector on the left is a row, one on the right a column; its dim is removed from the result
    ///
    /// # Errors
    /// When the inner extents differ, the leading dims do not broadcast, or an operand is a single number.
    ///
    /// ```
    /// use gradus_tensor::{Device, Tensor};
    /// # fn main() -> gradus_tensor::Result<()> {
    /// let (a, b) = (Tensor::ones([5, 1, 2, 3], &Device::cpu())?, Tensor::ones([4, 3, 6], &Device::cpu())?);
    /// assert_eq!(a.matmul(&b)?.dims(), [5, 4, 2, 6]);
    /// # Ok(()) }
    /// ```
    pub fn matmul(&self, rhs: &Tensor) -> Result<Tensor> {
        self.check_same("matmul", rhs)?;
        let mismatch = || Error::shapes("matmul", self.shape(), rhs.shape());
        if self.rank() == 0 || rhs.rank() == 0 {
            return Err(mismatch().hint("multiply by a single number with mul"));
        }
        let a = if self.rank() == 1 { self.unsqueeze(0)? } else { self.clone() };
        let b = if rhs.rank() == 1 { rhs.unsqueeze(1)? } else { rhs.clone() };
        let (&[ref a_batch @ .., m, k], &[ref b_batch @ .., k2, n]) = (a.dims(), b.dims()) else {
            return Err(mismatch());
        };
        if k != k2 {
            return Err(mismatch());
        }
        let batch = Shape::from(a_batch).broadcast(&Shape::from(b_batch)).ok_or_else(mismatch)?;
        let with = |rows: usize, columns: usize| Shape::from([batch.dims(), &[rows, columns]].concat());
        let out = with(m, n).checked("matmul")?;
        let product = self.backend().matmul(&a.broadcast_to(with(m, k))?, &b.broadcast_to(with(k, n))?)?;
        debug_assert_eq!(product.shape(), out);
        match (self.rank(), rhs.rank()) {
            (1, 1) => product.reshape(Shape::SCALAR),
            (1, _) => product.squeeze(-2),
            (_, 1) => product.squeeze(-1),
            _ => Ok(product),
        }
    }

    /// `self · weightᵀ + bias`.
    ///
    /// # Shapes
    /// - `self`: `[…, in]`, result: `[…, out]`
    /// - `weight`: `[out, in]`, as PyTorch stores it; `bias`: `[out]`
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        self.check_same("linear", weight)?;
        let (&[.., features], &[out, inputs]) = (self.dims(), weight.dims()) else {
            return Err(Error::shapes("linear", self.shape(), weight.shape())
                .hint("the input is […, in] and the weight [out, in]"));
        };
        if features != inputs {
            return Err(Error::shapes("linear", self.shape(), weight.shape()).hint(format!(
                "the last dim of the input has {features} features, the weight expects {inputs}"
            )));
        }
        if let Some(bias) = bias {
            self.check_same("linear", bias)?;
            if bias.dims() != [out] {
                return Err(Error::shape("linear", bias.shape(), format!("expected a bias of [{out}]")));
            }
        }
        self.backend().linear(self, weight, bias)
    }
}
