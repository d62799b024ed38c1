//! Reductions and what is made of them.

use crate::{Var, is_recording};
use tensor::op::{CompareOp, ReduceOp};
use tensor::{Dims, Result, Shape, Tensor};

/// The shape with the reduced dims kept as 1.
fn kept_shape(shape: Shape, op: &'static str, dims: &Dims) -> Result<Shape> {
    let mask = dims.resolve(op, shape.rank())?;
    Ok((0..shape.rank()).fold(shape, |s, d| if mask[d] { s.with_dim(d, 1) } else { s }))
}

/// The gradient of a reduction in the shape of its input; `kept` is that of the result with the reduced dims as 1.
fn spread(g: &Var, kept: Shape, shape: Shape) -> Result<Var> {
    // One number broadcasts as it is.
    if g.rank() == 0 { g.broadcast_to(shape) } else { g.reshape(kept)?.broadcast_to(shape) }
}

impl Var {
    /// The sum over `dims`; see [`Tensor::sum`].
    pub fn sum(&self, dims: impl Into<Dims>, keepdim: bool) -> Result<Var> {
        let dims = dims.into();
        let shape = self.shape();
        let kept = kept_shape(shape, "sum", &dims)?;
        let y = self.value().sum(dims, keepdim)?;
        if !self.dtype().is_float() {
            return Ok(self.cut("sum", y));
        }
        Ok(Var::record1("sum", y, self, move |g| spread(g, kept, shape)))
    }

    /// The sum of all elements, `[]`.
    pub fn sum_all(&self) -> Result<Var> {
        self.sum(Dims::ALL, false)
    }

    /// The mean over `dims`; see [`Tensor::mean`].
    pub fn mean(&self, dims: impl Into<Dims>, keepdim: bool) -> Result<Var> {
        let dims = dims.into();
        let shape = self.shape();
        let kept = kept_shape(shape, "mean", &dims)?;
        let y = self.value().mean(dims, keepdim)?;
        let n = shape.numel() as f64 / kept.numel().max(1) as f64;
        Ok(Var::record1("mean", y, self, move |g| spread(&g.div_scalar(n)?, kept, shape)))
    }

    /// The mean of all elements, `[]`.
    pub fn mean_all(&self) -> Result<Var> {
        self.mean(Dims::ALL, false)
    }

    /// The variance over `dims`; see [`Tensor::var`].
    pub fn var(&self, dims: impl Into<Dims>, correction: usize, keepdim: bool) -> Result<Var> {
        let dims = dims.into();
        let kept = kept_shape(self.shape(), "var", &dims)?;
        let n = self.numel() as f64 / kept.numel().max(1) as f64;
        let (y, mean) = self.value().var_mean(dims.clone(), correction, keepdim)?;
        let (x, mean) = (self.clone(), mean.reshape(kept)?);
        Ok(Var::record1("var", y, self, move |g| {
            let mean = if is_recording() { x.mean(dims.clone(), true)? } else { mean.clone().into() };
            let scale = 2.0 / (n - correction as f64).max(0.0);
            x.sub(&mean)?.mul(&g.reshape(kept)?.mul_scalar(scale)?)
        }))
    }

    /// The standard deviation over `dims`; see [`Tensor::std`]. Its gradient is 0 where it is 0.
    pub fn std(&self, dims: impl Into<Dims>, correction: usize, keepdim: bool) -> Result<Var> {
        let var = self.var(dims, correction, keepdim)?;
        Ok(Var::record_with_output("std", var.value().sqrt()?, &[&var], |back| {
            let y = back.output()?;
            let constant = y.value().compare_scalar(CompareOp::Eq, 0.0)?;
            Ok(vec![Some(back.grad().div(&y.mul_scalar(2.0)?)?.masked_fill(&constant, 0.0)?)])
        }))
    }

    /// The largest element over `dims`; see [`Tensor::amax`]. Equal elements share the gradient, that of NaN is NaN.
    pub fn amax(&self, dims: impl Into<Dims>, keepdim: bool) -> Result<Var> {
        self.extreme(ReduceOp::Amax, dims.into(), keepdim)
    }

    /// The smallest element over `dims`; see [`Tensor::amin`]. Equal elements share the gradient, that of NaN is NaN.
    pub fn amin(&self, dims: impl Into<Dims>, keepdim: bool) -> Result<Var> {
        self.extreme(ReduceOp::Amin, dims.into(), keepdim)
    }

    fn extreme(&self, op: ReduceOp, dims: Dims, keepdim: bool) -> Result<Var> {
        let shape = self.shape();
        let kept = kept_shape(shape, op.name(), &dims)?;
        let y = match op {
            ReduceOp::Amin => self.value().amin(dims.clone(), keepdim)?,
            _ => self.value().amax(dims.clone(), keepdim)?,
        };
        let (x, top) = (self.value().clone(), y.reshape(kept)?);
        Ok(Var::record1(op.name(), y, self, move |g| {
            let hit = x.eq(&top)?;
            let count = hit.sum(dims.clone(), true)?.to_dtype(x.dtype())?;
            g.reshape(kept)?.broadcast_to(shape)?.keep_where(&hit)?.div(&count.into())
        }))
    }

    /// The largest element along `dim` and its index; see [`Tensor::max`].
    pub fn max(&self, dim: isize, keepdim: bool) -> Result<(Var, Tensor)> {
        self.picked(dim, self.value().argmax(dim, true)?, keepdim)
    }

    /// The smallest element along `dim` and its index; see [`Tensor::min`].
    pub fn min(&self, dim: isize, keepdim: bool) -> Result<(Var, Tensor)> {
        self.picked(dim, self.value().argmin(dim, true)?, keepdim)
    }

    fn picked(&self, dim: isize, index: Tensor, keepdim: bool) -> Result<(Var, Tensor)> {
        let values = self.gather(dim, &index)?;
        if keepdim { Ok((values, index)) } else { Ok((values.squeeze(dim)?, index.squeeze(dim)?)) }
    }

    /// The product over `dims`; see [`Tensor::prod`]. The gradient is right where elements are 0.
    pub fn prod(&self, dims: impl Into<Dims>, keepdim: bool) -> Result<Var> {
        let dims = dims.into();
        let shape = self.shape();
        let kept = kept_shape(shape, "prod", &dims)?;
        let y = self.value().prod(dims.clone(), keepdim)?;
        if !self.dtype().is_float() {
            return Ok(self.cut("prod", y));
        }
        let x = self.clone();
        Ok(Var::record1("prod", y, self, move |g| {
            let others = product_of_others(&x, &dims)?;
            g.reshape(kept)?.mul(&others)
        }))
    }

    /// `log Σ e^x` over `dims`; see [`Tensor::logsumexp`].
    pub fn logsumexp(&self, dims: impl Into<Dims>, keepdim: bool) -> Result<Var> {
        let dims = dims.into();
        let kept = kept_shape(self.shape(), "logsumexp", &dims)?;
        let y = self.value().logsumexp(dims, keepdim)?;
        let x = self.clone();
        Ok(Var::record_with_output("logsumexp", y, &[self], move |b| {
            let weights = x.sub(&b.output()?.reshape(kept)?)?.exp()?;
            Ok(vec![Some(b.grad().reshape(kept)?.mul(&weights)?)])
        }))
    }

    /// The `p`-norm over `dims`; see [`Tensor::norm`]. The gradient at 0 is 0.
    pub fn norm(&self, p: f64, dims: impl Into<Dims>, keepdim: bool) -> Result<Var> {
        let dims = dims.into();
        match p {
            1.0 => return self.abs()?.sum(dims, keepdim),
            f64::INFINITY => return self.abs()?.amax(dims, keepdim),
            f64::NEG_INFINITY => return self.abs()?.amin(dims, keepdim),
            _ => {}
        }
        let kept = kept_shape(self.shape(), "norm", &dims)?;
        let y = self.value().norm(p, dims, keepdim)?;
        let x = self.clone();
        Ok(Var::record_with_output("norm", y, &[self], move |b| {
            if p == 0.0 {
                return Ok(vec![Some(x.value().zeros_like()?.into())]);
            }
            let (g, y) = (b.grad().reshape(kept)?, b.output()?.reshape(kept)?);
            // x · |x|^(p-2) / y^(p-1), and 0 where the norm is.
            let slope = match p {
                2.0 => x.div(&y)?,
                p => x.sign()?.mul(&x.abs()?.pow_scalar(p - 1.0)?)?.div(&y.pow_scalar(p - 1.0)?)?,
            };
            let flat = y.value().compare_scalar(CompareOp::Eq, 0.0)?;
            Ok(vec![Some(g.mul(&slope.masked_fill(&flat, 0.0)?)?)])
        }))
    }

    /// Sums away the dims that broadcasting from `shape` had stretched or added.
    pub fn sum_to(&self, shape: impl Into<Shape>) -> Result<Var> {
        let (shape, from) = (shape.into(), self.shape());
        if shape == from {
            return Ok(self.clone());
        }
        Ok(Var::record1("sum_to", self.value().sum_to(shape)?, self, move |g| g.broadcast_to(from)))
    }
}

/// For each element the product of all others that are reduced with it.
fn product_of_others(x: &Var, dims: &Dims) -> Result<Var> {
    let mask = dims.resolve("prod", x.rank())?;
    // The reduced dims become one last dim of n; with an n × n mask of ones on its diagonal each row leaves one out.
    let kept: Vec<isize> = (0..x.rank() as isize).filter(|&d| !mask[d as usize]).collect();
    let reduced: Vec<isize> = (0..x.rank() as isize).filter(|&d| mask[d as usize]).collect();
    let order = [kept, reduced].concat();
    let moved = x.permute(&order)?;
    let split = order.iter().take_while(|&&d| !mask[d as usize]).count();
    let lead: Vec<usize> = moved.dims()[..split].to_vec();
    let n: usize = moved.dims()[split..].iter().product();
    let flat = moved.reshape([lead.clone(), vec![1, n]].concat())?;
    let diagonal = Tensor::eye(n, n, (tensor::DType::I64, x.device()))?.to_dtype(tensor::DType::Bool)?;
    let square = flat.broadcast_to([lead, vec![n, n]].concat())?.masked_fill(&diagonal, 1.0)?;
    let mut inverse = vec![0isize; order.len()];
    order.iter().enumerate().for_each(|(to, &from)| inverse[from as usize] = to as isize);
    square.prod(-1, false)?.reshape(moved.shape())?.permute(&inverse)
}
