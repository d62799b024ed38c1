//! Running results along a dim.

use crate::Var;
use tensor::op::{ArgOp, CompareOp};
use tensor::{DType, Dims, Result, Tensor};

/// `f` from the last element along `dim` to the first.
fn reversed(x: &Var, dim: isize, f: impl FnOnce(&Var) -> Result<Var>) -> Result<Var> {
    f(&x.flip([dim])?)?.flip([dim])
}

impl Var {
    /// Running sums along `dim`; see [`Tensor::cumsum`].
    pub fn cumsum(&self, dim: isize) -> Result<Var> {
        let y = self.value().cumsum(dim)?;
        if !self.dtype().is_float() {
            return Ok(self.cut("cumsum", y));
        }
        Ok(Var::record1("cumsum", y, self, move |g| g.flip([dim])?.cumsum(dim)?.flip([dim])))
    }

    /// Running products along `dim`; see [`Tensor::cumprod`]. The gradient is right where elements are 0.
    pub fn cumprod(&self, dim: isize) -> Result<Var> {
        let y = self.value().cumprod(dim)?;
        if !self.dtype().is_float() {
            return Ok(self.cut("cumprod", y));
        }
        let x = self.clone();
        Ok(Var::record1("cumprod", y, self, move |g| {
            let sums = |y: &Var| reversed(&g.mul(y)?, dim, |t| t.cumsum(dim));
            let zero = x.value().compare_scalar(CompareOp::Eq, 0.0)?;
            if zero.any(Dims::ALL, false)?.item()? == 0.0 {
                // Element j holds x[i] as a factor if i <= j.
                return sums(&x.cumprod(dim)?)?.div(&x);
            }
            // From the first 0 on all products are 0: it alone changes them, by the products without it.
            let first = zero.logical_and(&zero.cumsum(dim)?.compare_scalar(CompareOp::Eq, 1.0)?)?;
            let before = sums(&x.cumprod(dim)?)?.div(&x.masked_fill(&zero, 1.0)?)?.masked_fill(&zero, 0.0)?;
            let there = sums(&x.masked_fill(&first, 1.0)?.cumprod(dim)?)?;
            there.select_where(&first, &before)
        }))
    }

    /// The largest element so far along `dim` and its index; see [`Tensor::cummax`].
    pub fn cummax(&self, dim: isize) -> Result<(Var, Tensor)> {
        let index = self.value().arg_scan("cummax", ArgOp::ArgMax, dim)?;
        Ok((self.gather(dim, &index)?, index))
    }

    /// The smallest element so far along `dim` and its index; see [`Tensor::cummin`].
    pub fn cummin(&self, dim: isize) -> Result<(Var, Tensor)> {
        let index = self.value().arg_scan("cummin", ArgOp::ArgMin, dim)?;
        Ok((self.gather(dim, &index)?, index))
    }

    /// `log Σ e^x` of the elements so far along `dim`; see [`Tensor::logcumsumexp`].
    pub fn logcumsumexp(&self, dim: isize) -> Result<Var> {
        let (y, x) = (self.value().logcumsumexp(dim)?, self.clone());
        Ok(Var::record_with_output("logcumsumexp", y, &[self], move |back| {
            let (g, y) = (back.grad(), back.output()?);
            // Σ g[j] · e^(x[i] - y[j]) over j >= i, of positive and of negative gradients in logarithms. What has the other sign
            // is as good as nothing, but finite: ∞ - ∞ has no value.
            let nothing = match g.dtype() {
                DType::F64 => f64::MIN,
                DType::F16 => -65504.0,
                _ => -3e38,
            };
            let share = |op: CompareOp, size: &Var| -> Result<Var> {
                let none = g.value().compare_scalar(op, 0.0)?.logical_not()?;
                let log = size.masked_fill(&none, 1.0)?.log()?.masked_fill(&none, nothing)?;
                reversed(&log.sub(&y)?, dim, |t| t.logcumsumexp(dim))?.add(&x)?.exp()
            };
            let (up, down) = (share(CompareOp::Gt, g)?, share(CompareOp::Lt, &g.neg()?)?);
            Ok(vec![Some(up.sub(&down)?)])
        }))
    }
}
