//! Pooling.

use crate::{Var, is_recording};
use tensor::{Error, Pool, Result, Shape, Spatial, Tensor};

impl Var {
    /// The largest of each window of `[n, c, h, w]` or `[c, h, w]`; see [`Tensor::max_pool2d`].
    pub fn max_pool2d(&self, pool: impl Into<Pool>) -> Result<Var> {
        self.images("max_pool2d", |x| x.max_pool(pool))
    }

    /// The largest of each window of `[n, c, spatial…]`, without its index; see [`Tensor::max_pool_with_indices`].
    pub fn max_pool(&self, pool: impl Into<Pool>) -> Result<Var> {
        if !is_recording() || !self.requires_grad() {
            return Ok(Var::record("max_pool", self.value().max_pool(pool)?, &[self], |_| Ok(vec![None])));
        }
        let (y, places) = self.value().max_pool_places(pool)?;
        let shape = self.shape();
        Ok(Var::record1("max_pool", y, self, move |g| match is_recording() {
            true => unpool(g, &places.indices()?, shape),
            false => Ok(places.backward(g.value())?.into()),
        }))
    }

    /// The largest of nearly equal windows of `[n, c, l]` or `[c, l]`; see [`Tensor::adaptive_max_pool1d`].
    pub fn adaptive_max_pool1d(&self, output: usize) -> Result<Var> {
        match self.rank() {
            3 => Ok(self.adaptive_max_pool_with_indices(output)?.0),
            2 => self.unsqueeze(0)?.adaptive_max_pool1d(output)?.squeeze(0),
            _ => Err(Error::shape("adaptive_max_pool1d", self.shape(), "expected [n, c, l] or [c, l]")),
        }
    }

    /// The largest of nearly equal windows of `[n, c, h, w]` or `[c, h, w]`; see [`Tensor::adaptive_max_pool2d`].
    pub fn adaptive_max_pool2d(&self, output: impl Into<Spatial>) -> Result<Var> {
        self.images("adaptive_max_pool2d", |x| Ok(x.adaptive_max_pool_with_indices(output)?.0))
    }

    /// The largest of nearly equal windows and its index; see [`Tensor::adaptive_max_pool_with_indices`].
    pub fn adaptive_max_pool_with_indices(&self, output: impl Into<Spatial>) -> Result<(Var, Tensor)> {
        let (y, index) = self.value().adaptive_max_pool_with_indices(output)?;
        let (shape, picks) = (self.shape(), index.clone());
        let y = Var::record1("adaptive_max_pool", y, self, move |g| unpool(g, &picks, shape));
        Ok((y, index))
    }

    /// The largest of each window and its index; see [`Tensor::max_pool_with_indices`].
    pub fn max_pool_with_indices(&self, pool: impl Into<Pool>) -> Result<(Var, Tensor)> {
        let (y, index) = self.value().max_pool_with_indices(pool)?;
        let (shape, picks) = (self.shape(), index.clone());
        let y = Var::record1("max_pool", y, self, move |g| unpool(g, &picks, shape));
        Ok((y, index))
    }

    /// The mean of each window of `[n, c, h, w]` or `[c, h, w]`; see [`Tensor::avg_pool2d`].
    pub fn avg_pool2d(&self, pool: impl Into<Pool>) -> Result<Var> {
        self.images("avg_pool2d", |x| x.avg_pool(pool))
    }

    /// The mean of each window; see [`Tensor::avg_pool`].
    pub fn avg_pool(&self, pool: impl Into<Pool>) -> Result<Var> {
        let pool = pool.into();
        let shape = self.shape();
        Ok(Var::record1("avg_pool", self.value().avg_pool(pool)?, self, move |g| {
            let back = g.value().avg_pool_backward(shape, pool)?;
            Ok(Var::record1("avg_pool_backward", back, g, move |u| u.avg_pool(pool)))
        }))
    }

    /// Means of nearly equal windows of `[n, c, h, w]` or `[c, h, w]`; see [`Tensor::adaptive_avg_pool2d`].
    pub fn adaptive_avg_pool2d(&self, output: impl Into<Spatial>) -> Result<Var> {
        self.images("adaptive_avg_pool2d", |x| x.adaptive_avg_pool(output))
    }

    /// Means of nearly equal windows; see [`Tensor::adaptive_avg_pool`].
    pub fn adaptive_avg_pool(&self, output: impl Into<Spatial>) -> Result<Var> {
        let output = output.into();
        let shape = self.shape();
        Ok(Var::record1("adaptive_avg_pool", self.value().adaptive_avg_pool(output)?, self, move |g| {
            let back = g.value().adaptive_avg_pool_backward(shape)?;
            Ok(Var::record1("adaptive_avg_pool_backward", back, g, move |u| u.adaptive_avg_pool(output)))
        }))
    }

    /// `f` of `[n, c, h, w]`, which `[c, h, w]` becomes for the while.
    fn images(&self, op: &'static str, f: impl FnOnce(&Var) -> Result<Var>) -> Result<Var> {
        match self.rank() {
            4 => f(self),
            3 => f(&self.unsqueeze(0)?)?.squeeze(0),
            _ => Err(Error::shape(op, self.shape(), "expected [n, c, h, w] or [c, h, w]")),
        }
    }
}

/// Each gradient to the place that was the largest.
fn unpool(g: &Var, index: &Tensor, input: Shape) -> Result<Var> {
    let back = g.value().max_pool_backward(index, input)?;
    let index = index.clone();
    Ok(Var::record1("max_pool_backward", back, g, move |u| {
        // Its own gradient picks the places again: planes as one dim.
        let (n, c) = (index.dims()[0], index.dims()[1]);
        let plane = |s: Shape| s.dims()[2..].iter().product::<usize>();
        let flat = u.reshape([n, c, plane(input)])?;
        flat.gather(2, &index.reshape([n, c, plane(index.shape())])?)?.reshape(index.shape())
    }))
}
