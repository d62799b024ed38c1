//! Gathering and scattering: each is the other's gradient.

use crate::Var;
use tensor::{Error, Result, Tensor};

/// Zeros to add to, of the shape of `x`: one zero, repeated, which costs no pass over memory.
fn zeros(x: &Tensor) -> Result<Var> {
    Ok(Tensor::zeros((), (x.dtype(), x.device()))?.broadcast_to(x.shape())?.into())
}

impl Var {
    /// One element for each index; see [`Tensor::gather`].
    pub fn gather(&self, dim: isize, index: &Tensor) -> Result<Var> {
        let y = self.value().gather(dim, index)?;
        let (x, index) = (self.value().clone(), index.clone());
        Ok(Var::record1("gather", y, self, move |g| zeros(&x)?.scatter_add(dim, &index, g)))
    }

    /// Adds at each index; see [`Tensor::scatter_add`].
    pub fn scatter_add(&self, dim: isize, index: &Tensor, src: &Var) -> Result<Var> {
        let y = self.value().scatter_add(dim, index, src.value())?;
        let (index, shape) = (index.clone(), src.shape());
        Ok(Var::record("scatter_add", y, &[self, src], move |b| {
            let g = b.grad();
            Ok(vec![b.want(0, || Ok(g.clone()))?, b.want(1, || g.gather(dim, &index)?.grown_to(shape))?])
        }))
    }

    /// Overwrites at each index; see [`Tensor::scatter`]. Where indices repeat, the gradient goes to every source that
    /// was written there, as in PyTorch.
    pub fn scatter(&self, dim: isize, index: &Tensor, src: &Var) -> Result<Var> {
        let y = self.value().scatter(dim, index, src.value())?;
        let (index, shape) = (index.clone(), src.shape());
        Ok(Var::record("scatter", y, &[self, src], move |b| {
            let g = b.grad();
            let nothing =
                || Ok::<_, Error>(Var::from(Tensor::zeros(index.shape(), (g.dtype(), g.device()))?));
            Ok(vec![
                b.want(0, || g.scatter(dim, &index, &nothing()?))?,
                b.want(1, || g.gather(dim, &index)?.grown_to(shape))?,
            ])
        }))
    }

    /// Zeros at the end of each dim up to `shape`: the gradient of what an index left aside.
    fn grown_to(&self, shape: tensor::Shape) -> Result<Var> {
        let grow = |d: usize| shape.dims()[d] as isize - self.dims()[d] as isize;
        let pads: Vec<isize> = (0..self.rank()).rev().flat_map(|d| [0, grow(d)]).collect();
        self.pad(&pads, 0)
    }

    /// The slices of `dim` that `index` names; see [`Tensor::index_select`].
    pub fn index_select(&self, dim: isize, index: &Tensor) -> Result<Var> {
        let y = self.value().index_select(dim, index)?;
        let (x, index) = (self.value().clone(), index.clone());
        Ok(Var::record1("index_select", y, self, move |g| zeros(&x)?.index_add(dim, &index, g)))
    }

    /// Adds slices; see [`Tensor::index_add`].
    pub fn index_add(&self, dim: isize, index: &Tensor, src: &Var) -> Result<Var> {
        let y = self.value().index_add(dim, index, src.value())?;
        let index = index.clone();
        Ok(Var::record("index_add", y, &[self, src], move |b| {
            let g = b.grad();
            Ok(vec![b.want(0, || Ok(g.clone()))?, b.want(1, || g.index_select(dim, &index))?])
        }))
    }

    /// Row `index[…]` of this `[v, d]` table for each index: `[…] -> […, d]`. The row `padding_idx`, if given, gets no
    /// gradient.
    pub fn embedding(&self, index: &Tensor, padding_idx: Option<usize>) -> Result<Var> {
        let &[v, d] = self.dims() else {
            return Err(Error::shape("embedding", self.shape(), "expected a table of [v, d]"));
        };
        if padding_idx.is_some_and(|p| p >= v) {
            return Err(Error::argument(
                "embedding",
                format!("padding_idx is out of range for a table of {v} rows"),
            ));
        }
        let y = self.value().embedding(index)?;
        let (table, index) = (self.value().clone(), index.clone());
        Ok(Var::record1("embedding", y, self, move |g| {
            let flat = index.reshape([index.numel()])?;
            let mut g = g.reshape([index.numel(), d])?;
            if let Some(padding) = padding_idx {
                let pad = flat.compare_scalar(tensor::op::CompareOp::Eq, padding)?;
                g = g.masked_fill(&pad.unsqueeze(1)?, 0.0)?;
            }
            zeros(&table)?.index_add(0, &flat, &g)
        }))
    }

    /// The elements where `mask` (bool, broadcasts with the value) is true, `[count]`; see [`Tensor::masked_select`].
    pub fn masked_select(&self, mask: &Tensor) -> Result<Var> {
        let shape = self.shape().broadcast(&mask.shape());
        let shape = shape.ok_or_else(|| Error::shapes("masked_select", self.shape(), mask.shape()))?;
        let picks = mask.broadcast_to(shape)?.reshape([shape.numel()])?.nonzero()?;
        let picks = picks.reshape([picks.numel()])?;
        self.broadcast_to(shape)?.reshape([shape.numel()])?.index_select(0, &picks)
    }

    /// The elements along `dim` in order, and where each came from; see [`Tensor::sort`].
    pub fn sort(&self, dim: isize, descending: bool) -> Result<(Var, Tensor)> {
        let index = self.value().argsort(dim, descending)?;
        Ok((self.gather(dim, &index)?, index))
    }

    /// The `k` largest or smallest along `dim` and their indices; see [`Tensor::topk`].
    pub fn topk(&self, k: usize, dim: isize, largest: bool) -> Result<(Var, Tensor)> {
        let (_, index) = self.value().topk(k, dim, largest)?;
        Ok((self.gather(dim, &index)?, index))
    }
}
