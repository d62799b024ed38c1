//! Matrix products.

use super::Tensor;
use crate::op::UnaryOp;
use crate::{DType, Error, Result, Shape};

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
        if let (&[m, k], &[k2, n]) = (self.dims(), rhs.dims())
            && k == k2
        {
            // Two matrices need no views of them.
            Shape::from([m, n]).checked("matmul")?;
            return self.backend().matmul(self, rhs);
        }
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

    /// The matrix product of bytes, in `int32`: what quantised layers are made of.
    ///
    /// Each sum is exact modulo 2³²: beyond 32 bits it wraps, which takes more than 130 000 products of `int8`, half as many
    /// with `uint8` on one side, a quarter with it on both.
    ///
    /// # Shapes
    /// - `[m, k] · [k, n] -> [m, n]`; each operand is `int8` or `uint8`
    ///
    /// # Errors
    /// When an operand has another dtype or rank, or the inner extents differ.
    ///
    /// ```
    /// use gradus_tensor::{DType, Device, Tensor};
    /// # fn main() -> gradus_tensor::Result<()> {
    /// let a = Tensor::full([2, 300], -128, (DType::I8, &Device::cpu()))?;
    /// assert_eq!(a.int_mm(&a.t()?)?.to_vec::<i32>()?, [300 * 128 * 128; 4]);
    /// # Ok(()) }
    /// ```
    pub fn int_mm(&self, rhs: &Tensor) -> Result<Tensor> {
        for operand in [self, rhs] {
            if !matches!(operand.dtype(), DType::I8 | DType::U8) {
                return Err(Error::dtype("int_mm", operand.dtype(), "int8 or uint8"));
            }
        }
        self.check_device("int_mm", rhs)?;
        match (self.dims(), rhs.dims()) {
            (&[m, k], &[k2, n]) if k == k2 => {
                Shape::from([m, n]).checked("int_mm")?;
                self.backend().int_mm(self, rhs)
            }
            _ => {
                Err(Error::shapes("int_mm", self.shape(), rhs.shape())
                    .hint("the operands are [m, k] and [k, n]"))
            }
        }
    }

    /// `self · weightᵀ + bias`.
    ///
    /// # Shapes
    /// - `self`: `[…, in]`, result: `[…, out]`
    /// - `weight`: `[out, in]`, as PyTorch stores it; `bias`: `[out]`
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        self.check_linear("linear", weight, bias)?;
        self.backend().linear(self, weight, bias)
    }

    /// `activation(self · weightᵀ + bias + residual)` in one pass over the result where the device has such a kernel. Without a
    /// gradient: a graph takes the steps one by one.
    ///
    /// # Shapes
    /// As in [`linear`](Self::linear); the residual has the shape of the result.
    ///
    /// ```
    /// use gradus_tensor::{Device, Tensor, op::UnaryOp};
    /// # fn main() -> gradus_tensor::Result<()> {
    /// let cpu = &Device::cpu();
    /// let (x, w) = (Tensor::from_slice(&[1f32, -2.0], [1, 2], cpu)?, Tensor::ones([3, 2], cpu)?);
    /// let residual = Tensor::from_slice(&[0f32, 1.0, 2.0], [1, 3], cpu)?;
    /// let y = x.linear_fused(&w, None, Some(&residual), Some(UnaryOp::Relu))?;
    /// assert_eq!(y.to_vec::<f32>()?, [0., 0., 1.]);
    /// # Ok(()) }
    /// ```
    pub fn linear_fused(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        residual: Option<&Tensor>,
        activation: Option<UnaryOp>,
    ) -> Result<Tensor> {
        const OP: &str = "linear_fused";
        self.check_linear(OP, weight, bias)?;
        if let Some(residual) = residual {
            self.check_same(OP, residual)?;
            let (lead, out) = (&self.dims()[..self.rank() - 1], weight.dims()[0]);
            if residual.rank() != self.rank()
                || residual.dims()[..lead.len()] != *lead
                || residual.dims()[lead.len()] != out
            {
                return Err(Error::shape(
                    OP,
                    residual.shape(),
                    format!("expected a residual of {lead:?} and then {out}"),
                ));
            }
        }
        self.backend().linear_fused(self, weight, bias, residual, activation)
    }

    fn check_linear(&self, op: &'static str, weight: &Tensor, bias: Option<&Tensor>) -> Result<()> {
        self.check_same(op, weight)?;
        let (&[.., features], &[out, inputs]) = (self.dims(), weight.dims()) else {
            return Err(Error::shapes(op, self.shape(), weight.shape())
                .hint("the input is […, in] and the weight [out, in]"));
        };
        if features != inputs {
            return Err(Error::shapes(op, self.shape(), weight.shape()).hint(format!(
                "the last dim of the input has {features} features, the weight expects {inputs}"
            )));
        }
        if let Some(bias) = bias {
            self.check_same(op, bias)?;
            if bias.dims() != [out] {
                return Err(Error::shape(op, bias.shape(), format!("expected a bias of [{out}]")));
            }
        }
        Ok(())
    }
}
