//! Reductions over any dims, and what is made of them.

use super::Tensor;
use crate::backend::DimMask;
use crate::op::{ArgOp, ReduceOp, ScanOp};
use crate::{DType, Dims, Error, Result, Shape};

impl Tensor {
    /// A reduction of the table, chosen at run time, over `dims`; with `keepdim` they stay with extent 1.
    pub fn reduce(&self, op: ReduceOp, dims: impl Into<Dims>, keepdim: bool) -> Result<Tensor> {
        let mask = dims.into().resolve(op.name(), self.rank())?;
        let y = self.backend().reduce(op, self, &mask)?;
        Ok(if keepdim { y } else { self.without(&mask, y) })
    }

    /// A reduction, `y`, without the reduced dims, which have extent 1.
    fn without(&self, mask: &DimMask, y: Tensor) -> Tensor {
        let rank = self.rank();
        // From the last dim on, so that those before keep their places.
        y.into_view_by(|layout| (0..rank).rev().filter(|&d| mask[d]).for_each(|d| layout.remove(d)))
    }

    /// The sum over `dims`; 0 over nothing. Integers and bools sum to `int64`.
    pub fn sum(&self, dims: impl Into<Dims>, keepdim: bool) -> Result<Tensor> {
        let dims = dims.into();
        match self.dtype().is_float() {
            true => self.reduce(ReduceOp::Sum, dims, keepdim),
            false => self.to_dtype(DType::I64)?.reduce(ReduceOp::Sum, dims, keepdim),
        }
    }

    /// The sum of all elements, `[]`.
    pub fn sum_all(&self) -> Result<Tensor> {
        self.sum(Dims::ALL, false)
    }

    /// The product over `dims`; 1 over nothing. Integers and bools multiply to `int64`.
    pub fn prod(&self, dims: impl Into<Dims>, keepdim: bool) -> Result<Tensor> {
        let dims = dims.into();
        match self.dtype().is_float() {
            true => self.reduce(ReduceOp::Prod, dims, keepdim),
            false => self.to_dtype(DType::I64)?.reduce(ReduceOp::Prod, dims, keepdim),
        }
    }

    /// How many elements a reduction over `dims` combines.
    fn combined(&self, op: &'static str, dims: &Dims) -> Result<usize> {
        let mask = dims.resolve(op, self.rank())?;
        Ok((0..self.rank()).filter(|&d| mask[d]).map(|d| self.dims()[d]).product())
    }

    /// The mean over `dims`; NaN over nothing.
    pub fn mean(&self, dims: impl Into<Dims>, keepdim: bool) -> Result<Tensor> {
        self.check_float("mean")?;
        let dims = dims.into();
        let n = self.combined("mean", &dims)?;
        self.sum(dims, keepdim)?.div_scalar(n as f64)
    }

    /// The mean of all elements, `[]`.
    pub fn mean_all(&self) -> Result<Tensor> {
        self.mean(Dims::ALL, false)
    }

    /// The variance over `dims`: squared distances from the mean over `n - correction`.
    pub fn var(&self, dims: impl Into<Dims>, correction: usize, keepdim: bool) -> Result<Tensor> {
        Ok(self.moments("var", &dims.into(), correction, keepdim)?.0)
    }

    /// The variance over `dims`, as [`var`](Self::var), and the mean.
    ///
    /// ```
    /// use gradus_tensor::{Device, Tensor};
    /// # fn main() -> gradus_tensor::Result<()> {
    /// let x = Tensor::from_slice(&[1f32, 3., 5., 5.], [2, 2], &Device::cpu())?;
    /// let (var, mean) = x.var_mean(1, 1, false)?;
    /// assert_eq!((var.to_vec::<f32>()?, mean.to_vec::<f32>()?), (vec![2., 0.], vec![2., 5.]));
    /// # Ok(()) }
    /// ```
    pub fn var_mean(
        &self,
        dims: impl Into<Dims>,
        correction: usize,
        keepdim: bool,
    ) -> Result<(Tensor, Tensor)> {
        self.moments("var_mean", &dims.into(), correction, keepdim)
    }

    fn moments(
        &self,
        op: &'static str,
        dims: &Dims,
        correction: usize,
        keepdim: bool,
    ) -> Result<(Tensor, Tensor)> {
        self.check_float(op)?;
        let mask = dims.resolve(op, self.rank())?;
        let (var, mean) = self.backend().var_mean(self, &mask, correction as f64)?;
        let kept = |y: Tensor| if keepdim { y } else { self.without(&mask, y) };
        Ok((kept(var), kept(mean)))
    }

    /// The standard deviation over `dims`: the root of [`var`](Self::var).
    pub fn std(&self, dims: impl Into<Dims>, correction: usize, keepdim: bool) -> Result<Tensor> {
        self.moments("std", &dims.into(), correction, keepdim)?.0.sqrt()
    }

    /// The largest element over `dims`; NaN wins.
    ///
    /// # Errors
    /// Over nothing: there is no largest of no elements.
    pub fn amax(&self, dims: impl Into<Dims>, keepdim: bool) -> Result<Tensor> {
        self.extreme(ReduceOp::Amax, dims.into(), keepdim)
    }

    /// The smallest element over `dims`; NaN wins.
    ///
    /// # Errors
    /// Over nothing.
    pub fn amin(&self, dims: impl Into<Dims>, keepdim: bool) -> Result<Tensor> {
        self.extreme(ReduceOp::Amin, dims.into(), keepdim)
    }

    fn extreme(&self, op: ReduceOp, dims: Dims, keepdim: bool) -> Result<Tensor> {
        if self.combined(op.name(), &dims)? == 0 {
            return Err(Error::shape(
                op.name(),
                self.shape(),
                "expected at least one element to choose from",
            ));
        }
        self.reduce(op, dims, keepdim)
    }

    /// Whether any element over `dims` is not 0.
    pub fn any(&self, dims: impl Into<Dims>, keepdim: bool) -> Result<Tensor> {
        self.to_dtype(DType::Bool)?.reduce(ReduceOp::Any, dims, keepdim)
    }

    /// Whether all elements over `dims` are not 0.
    pub fn all(&self, dims: impl Into<Dims>, keepdim: bool) -> Result<Tensor> {
        self.to_dtype(DType::Bool)?.reduce(ReduceOp::All, dims, keepdim)
    }

    /// The index of the largest element along `dim`, `int64`; of equals the first, NaN wins.
    pub fn argmax(&self, dim: isize, keepdim: bool) -> Result<Tensor> {
        self.arg_reduce(ArgOp::ArgMax, dim, keepdim)
    }

    /// The index of the smallest element along `dim`, `int64`; of equals the first, NaN wins.
    pub fn argmin(&self, dim: isize, keepdim: bool) -> Result<Tensor> {
        self.arg_reduce(ArgOp::ArgMin, dim, keepdim)
    }

    fn arg_reduce(&self, op: ArgOp, dim: isize, keepdim: bool) -> Result<Tensor> {
        let at = self.shape().dim(op.name(), dim)?;
        if self.dims()[at] == 0 {
            return Err(Error::shape(
                op.name(),
                self.shape(),
                "expected at least one element to choose from",
            ));
        }
        let y = self.backend().arg_reduce(op, self, at)?;
        if keepdim { Ok(y) } else { y.squeeze(at as isize) }
    }

    /// The largest element along `dim` and its index.
    pub fn max(&self, dim: isize, keepdim: bool) -> Result<(Tensor, Tensor)> {
        let index = self.argmax(dim, true)?;
        self.picked(dim, index, keepdim)
    }

    /// The smallest element along `dim` and its index.
    pub fn min(&self, dim: isize, keepdim: bool) -> Result<(Tensor, Tensor)> {
        let index = self.argmin(dim, true)?;
        self.picked(dim, index, keepdim)
    }

    fn picked(&self, dim: isize, index: Tensor, keepdim: bool) -> Result<(Tensor, Tensor)> {
        let values = self.gather(dim, &index)?;
        if keepdim { Ok((values, index)) } else { Ok((values.squeeze(dim)?, index.squeeze(dim)?)) }
    }

    /// `log Σ e^x` over `dims`, without overflow.
    pub fn logsumexp(&self, dims: impl Into<Dims>, keepdim: bool) -> Result<Tensor> {
        self.check_float("logsumexp")?;
        let dims = dims.into();
        let top = self.amax(dims.clone(), true)?;
        // Infinite maxima are not subtracted: ∞ - ∞ has no value.
        let finite = top.isfinite()?.select_from(&top, &top.zeros_like()?)?;
        let sum = (self - &finite)?.exp()?.sum(dims.clone(), keepdim)?.log()?;
        &sum + &finite.reshape(sum.shape())?
    }

    /// The `p`-norm over `dims`: `(Σ |x|^p)^(1/p)`; with ∞ or -∞ the largest or smallest magnitude, with 0 the number
    /// of elements that are not 0.
    pub fn norm(&self, p: f64, dims: impl Into<Dims>, keepdim: bool) -> Result<Tensor> {
        self.check_float("norm")?;
        let dims = dims.into();
        match p {
            2.0 => self.square()?.sum(dims, keepdim)?.sqrt(),
            1.0 => self.abs()?.sum(dims, keepdim),
            f64::INFINITY => self.abs()?.amax(dims, keepdim),
            f64::NEG_INFINITY => self.abs()?.amin(dims, keepdim),
            0.0 => self.ne(&self.zeros_like()?)?.to_dtype(self.dtype())?.sum(dims, keepdim),
            p => self.abs()?.pow_scalar(p)?.sum(dims, keepdim)?.pow_scalar(1.0 / p),
        }
    }

    /// Running sums along `dim`. Integers and bools sum to `int64`.
    pub fn cumsum(&self, dim: isize) -> Result<Tensor> {
        self.scan(ScanOp::CumSum, dim)
    }

    /// Running products along `dim`. Integers and bools multiply to `int64`.
    pub fn cumprod(&self, dim: isize) -> Result<Tensor> {
        self.scan(ScanOp::CumProd, dim)
    }

    /// The largest element so far along `dim`, and its index (`int64`): of equals the last; NaN wins from where it stands.
    ///
    /// ```
    /// use gradus_tensor::{Device, Tensor};
    /// # fn main() -> gradus_tensor::Result<()> {
    /// let (y, index) = Tensor::from_slice(&[1f32, 3., 2., 3.], [4], &Device::cpu())?.cummax(0)?;
    /// assert_eq!((y.to_vec::<f32>()?, index.to_vec::<i64>()?), (vec![1., 3., 3., 3.], vec![0, 1, 1, 3]));
    /// # Ok(()) }
    /// ```
    pub fn cummax(&self, dim: isize) -> Result<(Tensor, Tensor)> {
        let index = self.arg_scan("cummax", ArgOp::ArgMax, dim)?;
        Ok((self.gather(dim, &index)?, index))
    }

    /// The smallest element so far along `dim`, and its index (`int64`): of equals the last; NaN wins from where it stands.
    pub fn cummin(&self, dim: isize) -> Result<(Tensor, Tensor)> {
        let index = self.arg_scan("cummin", ArgOp::ArgMin, dim)?;
        Ok((self.gather(dim, &index)?, index))
    }

    /// The index of the largest or smallest element so far, as [`cummax`](Self::cummax) and [`cummin`](Self::cummin) give it.
    pub fn arg_scan(&self, name: &'static str, op: ArgOp, dim: isize) -> Result<Tensor> {
        self.backend().arg_scan(op, self, self.shape().dim(name, dim)?)
    }

    /// `log Σ e^x` of the elements so far along `dim`, without overflow.
    pub fn logcumsumexp(&self, dim: isize) -> Result<Tensor> {
        self.check_float("logcumsumexp")?;
        self.backend().logcumsumexp(self, self.shape().dim("logcumsumexp", dim)?)
    }

    fn scan(&self, op: ScanOp, dim: isize) -> Result<Tensor> {
        let at = self.shape().dim(op.name(), dim)?;
        match self.dtype().is_float() {
            true => self.backend().scan(op, self, at),
            false => self.backend().scan(op, &self.to_dtype(DType::I64)?, at),
        }
    }

    /// Whether every element is equal to that of `other`, within `atol + rtol · |other|`; NaN equals NaN.
    pub fn all_close(&self, other: &Tensor, rtol: f64, atol: f64) -> Result<bool> {
        self.check_same("all_close", other)?;
        if self.shape() != other.shape() {
            return Err(Error::shapes("all_close", self.shape(), other.shape()));
        }
        let (a, b) =
            (self.to_dtype(DType::F64)?.to_vec::<f64>()?, other.to_dtype(DType::F64)?.to_vec::<f64>()?);
        let close =
            |x: f64, y: f64| x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= atol + rtol * y.abs();
        Ok(a.iter().zip(&b).all(|(&x, &y)| close(x, y)))
    }

    /// The lower triangle of the last two dims: zeros above the `diagonal`-th diagonal.
    pub fn tril(&self, diagonal: i64) -> Result<Tensor> {
        self.triangle("tril", |column, row| column.le(&row.add_scalar(diagonal)?))
    }

    /// The upper triangle of the last two dims: zeros below the `diagonal`-th diagonal.
    pub fn triu(&self, diagonal: i64) -> Result<Tensor> {
        self.triangle("triu", |column, row| column.ge(&row.add_scalar(diagonal)?))
    }

    fn triangle(
        &self,
        op: &'static str,
        keep: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let &[.., n, m] = self.dims() else {
            return Err(Error::shape(op, self.shape(), "expected at least two dims"));
        };
        let options = (DType::I64, self.device());
        let row = Tensor::arange(0, n, 1, options)?.reshape([n, 1])?;
        let column = Tensor::arange(0, m, 1, options)?;
        let zero = Tensor::zeros(Shape::SCALAR, (self.dtype(), self.device()))?;
        keep(&column, &row)?.select_from(self, &zero)
    }
}
