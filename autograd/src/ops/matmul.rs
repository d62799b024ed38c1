//! Matrix products.

use crate::Var;
use tensor::{Result, Shape};

/// The gradient of one factor, summed over the batch dims that broadcasting added.
fn factor(g: Var, shape: Shape) -> Result<Var> {
    if g.rank() >= shape.rank() { g.sum_to(shape) } else { g.reshape(shape) }
}

impl Var {
    /// The matrix product, with NumPy's rules for vectors and batches; see [`Tensor::matmul`](tensor::Tensor::matmul).
    pub fn matmul(&self, rhs: &Var) -> Result<Var> {
        let y = self.value().matmul(rhs.value())?;
        let (a, b) = (self.clone(), rhs.clone());
        Ok(Var::record("matmul", y, &[self, rhs], move |back| {
            // Vectors are taken as matrices of one row or column: dA = g · Bᵀ, dB = Aᵀ · g.
            let matrix_a = if a.rank() == 1 { a.unsqueeze(0)? } else { a.clone() };
            let matrix_b = if b.rank() == 1 { b.unsqueeze(1)? } else { b.clone() };
            let mut g = back.grad().clone();
            if a.rank() == 1 {
                g = g.unsqueeze(if b.rank() == 1 { 0 } else { -2 })?;
            }
            if b.rank() == 1 {
                g = g.unsqueeze(-1)?;
            }
            Ok(vec![
                back.want(0, || factor(g.matmul(&matrix_b.t()?)?, matrix_a.shape())?.reshape(a.shape()))?,
                back.want(1, || factor(matrix_a.t()?.matmul(&g)?, matrix_b.shape())?.reshape(b.shape()))?,
            ])
        }))
    }

    /// `self · weightᵀ + bias`; see [`Tensor::linear`](tensor::Tensor::linear).
    pub fn linear(&self, weight: &Var, bias: Option<&Var>) -> Result<Var> {
        let y = self.value().linear(weight.value(), bias.map(Var::value))?;
        let (x, w) = (self.clone(), weight.clone());
        let mut inputs = vec![self, weight];
        inputs.extend(bias);
        let has_bias = bias.is_some();
        Ok(Var::record("linear", y, &inputs, move |b| {
            let g = b.grad();
            let (rows, out, features) = (x.numel() / w.dims()[1].max(1), w.dims()[0], w.dims()[1]);
            let mut grads = vec![
                b.want(0, || g.matmul(&w))?,
                b.want(1, || g.reshape([rows, out])?.t()?.matmul(&x.reshape([rows, features])?))?,
            ];
            if has_bias {
                grads.push(b.want(2, || g.reshape([rows, out])?.sum(0, false))?);
            }
            Ok(grads)
        }))
    }
}
