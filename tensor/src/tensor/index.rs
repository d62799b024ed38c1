//! Gathering and scattering by index, joining, padding. Indices are `int64`, checked, and do not wrap.

use super::Tensor;
use crate::backend::ScatterMode;
use crate::{DType, Error, ErrorKind, Layout, Number, Result, Shape};

impl Tensor {
    fn check_index(&self, op: &'static str, index: &Tensor) -> Result<()> {
        self.check_device(op, index)?;
        match index.dtype() {
            DType::I64 => Ok(()),
            dtype => Err(Error::dtype(op, dtype, "int64 indices")),
        }
    }

    /// Errors unless `index` has this rank and is no larger than `bound` outside of `dim`.
    fn check_picks(&self, op: &'static str, dim: usize, index: &Tensor) -> Result<()> {
        self.check_index(op, index)?;
        let fits = |d: usize| d == dim || index.dims()[d] <= self.dims()[d];
        match index.rank() == self.rank() && (0..self.rank()).all(fits) {
            true => Ok(()),
            false => Err(Error::shapes(op, self.shape(), index.shape())
                .hint("the index has as many dims and is no larger except along the dim")),
        }
    }

    /// `out[i, j] = x[index[i, j], j]` for `dim` 0, and so on: one element for each element of `index`.
    ///
    /// # Errors
    /// An index out of range; an `index` larger than this tensor in another dim.
    pub fn gather(&self, dim: isize, index: &Tensor) -> Result<Tensor> {
        let at = self.shape().dim("gather", dim)?;
        self.check_picks("gather", at, index)?;
        let x = self.cropped_to(at, index.shape())?;
        self.backend().gather(&x, at, index)
    }

    /// The part of this tensor that has the extents of `shape` in every dim but `dim`.
    fn cropped_to(&self, dim: usize, shape: Shape) -> Result<Tensor> {
        let mut x = self.clone();
        for d in (0..self.rank()).filter(|&d| d != dim && shape.dims()[d] != self.dims()[d]) {
            x = x.narrow(d as isize, 0, shape.dims()[d])?;
        }
        Ok(x)
    }

    fn scatter_mode(
        &self,
        op: &'static str,
        dim: isize,
        index: &Tensor,
        src: &Tensor,
        mode: ScatterMode,
    ) -> Result<Tensor> {
        let at = self.shape().dim(op, dim)?;
        self.check_same(op, src)?;
        self.check_picks(op, at, index)?;
        if src.rank() != index.rank() || index.dims().iter().zip(src.dims()).any(|(i, s)| i > s) {
            return Err(Error::shapes(op, index.shape(), src.shape())
                .hint("the source is at least as large as the index"));
        }
        let mut src = src.clone();
        for (d, &n) in index.dims().iter().enumerate() {
            src = src.narrow(d as isize, 0, n)?;
        }
        self.backend().scatter(self, at, index, &src, mode)
    }

    /// This tensor with `out[index[i, j], j] = src[i, j]` for `dim` 0, and so on. Of several writes to one place the
    /// last in row-major order stays.
    pub fn scatter(&self, dim: isize, index: &Tensor, src: &Tensor) -> Result<Tensor> {
        self.scatter_mode("scatter", dim, index, src, ScatterMode::Set)
    }

    /// As [`scatter`](Self::scatter), but adds; repeated indices accumulate, in row-major order.
    pub fn scatter_add(&self, dim: isize, index: &Tensor, src: &Tensor) -> Result<Tensor> {
        self.scatter_mode("scatter_add", dim, index, src, ScatterMode::Add)
    }

    /// The slices of `dim` that `index` (`[k]`) names, in its order.
    pub fn index_select(&self, dim: isize, index: &Tensor) -> Result<Tensor> {
        let at = self.shape().dim("index_select", dim)?;
        self.check_index("index_select", index)?;
        if index.rank() != 1 {
            return Err(Error::shape("index_select", index.shape(), "expected an index of one dim"));
        }
        self.backend().index_select(self, at, index)
    }

    /// This tensor with slice `j` of `src` added to slice `index[j]` of `dim`.
    pub fn index_add(&self, dim: isize, index: &Tensor, src: &Tensor) -> Result<Tensor> {
        let at = self.shape().dim("index_add", dim)?;
        self.check_same("index_add", src)?;
        self.check_index("index_add", index)?;
        if index.rank() != 1 || src.shape() != self.shape().with_dim(at, index.numel()) {
            return Err(Error::shapes("index_add", self.shape(), src.shape())
                .hint("the source has the shape of the tensor, but one slice for each index"));
        }
        self.backend().index_add(self, at, index, src)
    }

    /// Row `index[…]` of this `[v, d]` table for each index: `[…] -> […, d]`.
    pub fn embedding(&self, index: &Tensor) -> Result<Tensor> {
        self.check_index("embedding", index)?;
        let &[_, d] = self.dims() else {
            return Err(Error::shape("embedding", self.shape(), "expected a table of [v, d]"));
        };
        let rows = self.index_select(0, &index.reshape([index.numel()])?)?;
        rows.reshape([index.dims(), &[d]].concat())
    }

    /// Positions of the elements that are not 0 in row-major order: `int64` `[count, rank]`.
    pub fn nonzero(&self) -> Result<Tensor> {
        self.backend().nonzero(self)
    }

    /// The elements where `mask` (bool, broadcasts with this tensor) is true, `[count]`.
    pub fn masked_select(&self, mask: &Tensor) -> Result<Tensor> {
        self.check_device("masked_select", mask)?;
        mask.check_dtype("masked_select", DType::Bool)?;
        let shape = self.shape().broadcast(&mask.shape());
        let shape = shape.ok_or_else(|| Error::shapes("masked_select", self.shape(), mask.shape()))?;
        let at = mask.broadcast_to(shape)?.reshape([shape.numel()])?.nonzero()?.reshape_flat()?;
        self.broadcast_to(shape)?.reshape([shape.numel()])?.index_select(0, &at)
    }

    fn reshape_flat(&self) -> Result<Tensor> {
        self.reshape([self.numel()])
    }

    /// For each class index a vector with a 1 at its place: `[…] -> […, num_classes]`, `int64`.
    pub fn one_hot(&self, num_classes: usize) -> Result<Tensor> {
        self.check_index("one_hot", self)?;
        let classes = Tensor::arange(0, num_classes, 1, (DType::I64, self.device()))?;
        let bad = self.lt(&self.zeros_like()?)?.logical_or(&self.ge(&self.full_like(num_classes)?)?)?;
        if bad.any(.., false)?.item()? != 0.0 {
            let found = self.masked_select(&bad)?.to_vec::<i64>()?;
            return Err(Error::index("one_hot", found[0], num_classes));
        }
        self.unsqueeze(-1)?.eq(&classes)?.to_dtype(DType::I64)
    }

    /// Joins tensors along a dim they have; other extents are equal.
    ///
    /// # Errors
    /// No tensors; different ranks, dtypes, devices, or extents outside of `dim`.
    pub fn cat(tensors: &[Tensor], dim: isize) -> Result<Tensor> {
        let first = tensors.first().ok_or_else(|| Error::argument("cat", "there is nothing to join"))?;
        let at = first.shape().dim("cat", dim)?;
        let mut total = 0usize;
        for t in tensors {
            first.check_same("cat", t)?;
            if t.rank() != first.rank() || t.shape().with_dim(at, 0) != first.shape().with_dim(at, 0) {
                return Err(Error::shapes("cat", first.shape(), t.shape())
                    .hint(format!("only dim {at} may differ between tensors that are joined along it")));
            }
            total = total.saturating_add(t.dims()[at]);
        }
        if tensors.len() == 1 {
            return Ok(first.clone());
        }
        let shape = first.shape().with_dim(at, total).checked("cat")?;
        first.backend().cat(tensors, at, shape)
    }

    /// Joins tensors of one shape along a new dim.
    pub fn stack(tensors: &[Tensor], dim: isize) -> Result<Tensor> {
        let with_dim = tensors.iter().map(|t| t.unsqueeze(dim)).collect::<Result<Vec<_>>>()?;
        Tensor::cat(&with_dim, dim)
    }

    /// Adds `before` and `after` elements of `value` to dims, counted from the last: `pads` is
    /// `[last_before, last_after, previous_before, …]`, as in PyTorch; negative numbers crop.
    ///
    /// ```
    /// use gradus_tensor::{Device, Tensor};
    /// # fn main() -> gradus_tensor::Result<()> {
    /// let x = Tensor::ones([1, 2], &Device::cpu())?.pad(&[1, 0, 0, 1], 0.0)?;
    /// assert_eq!((x.dims(), x.to_vec::<f32>()?), (&[2, 3][..], vec![0., 1., 1., 0., 0., 0.]));
    /// # Ok(()) }
    /// ```
    pub fn pad(&self, pads: &[isize], value: impl Into<Number>) -> Result<Tensor> {
        let bad = |why: &str| Error::argument("pad", format!("{pads:?} for shape {}: {why}", self.shape()));
        if !pads.len().is_multiple_of(2) || pads.len() / 2 > self.rank() {
            return Err(bad("expected a pair for each of the last dims"));
        }
        let mut x = self.clone();
        let mut shape = self.shape();
        let mut starts = vec![0usize; self.rank()];
        for (i, pair) in pads.chunks_exact(2).enumerate() {
            let dim = self.rank() - 1 - i;
            let size = self.dims()[dim];
            let crop = |p: isize| (-p).max(0) as usize;
            let keep = size.checked_sub(crop(pair[0])).and_then(|n| n.checked_sub(crop(pair[1])));
            let keep = keep.ok_or_else(|| bad("more is cropped than there is"))?;
            x = x.narrow(dim as isize, crop(pair[0]), keep)?;
            let grow = |p: isize| p.max(0) as usize;
            starts[dim] = grow(pair[0]);
            shape = shape.with_dim(dim, keep.saturating_add(grow(pair[0])).saturating_add(grow(pair[1])));
        }
        let shape = shape.checked("pad")?;
        if shape == x.shape() {
            return Ok(x);
        }
        let out = self.backend().full(shape, self.dtype(), value.into())?;
        self.backend().write(out, &region(shape, &starts, x.shape()), &x)
    }

    /// This tensor with `src` written over its part from `start` along `dim`.
    pub fn slice_scatter(&self, dim: isize, start: usize, src: &Tensor) -> Result<Tensor> {
        let at = self.shape().dim("slice_scatter", dim)?;
        self.check_same("slice_scatter", src)?;
        let fits = src.rank() == self.rank()
            && src.shape().with_dim(at, 0) == self.shape().with_dim(at, 0)
            && start.saturating_add(src.dims()[at]) <= self.dims()[at];
        if !fits {
            return Err(Error::shapes("slice_scatter", self.shape(), src.shape()));
        }
        let at = Layout::contiguous(self.shape()).slice(at, start, src.dims()[at], 1);
        self.backend().write(self.copy()?, &at, src)
    }

    /// Tiles: `repeats` copies along each dim, which may be more dims than there are.
    pub fn repeat(&self, repeats: &[usize]) -> Result<Tensor> {
        if repeats.len() < self.rank() {
            let message = format!("{repeats:?} has fewer entries than shape {} has dims", self.shape());
            return Err(Error::argument("repeat", message));
        }
        let mut x = self.clone();
        for _ in self.rank()..repeats.len() {
            x = x.unsqueeze(0)?;
        }
        // Each dim becomes a stretched dim and itself; flattening the pairs is the only copy.
        let mut stretched = vec![];
        let mut merged = vec![];
        for (&r, &d) in repeats.iter().zip(x.dims()) {
            stretched.extend([r, d]);
            merged.push(r.saturating_mul(d));
        }
        match stretched.len() > crate::shape::MAX_RANK {
            false => {
                let ones: Vec<usize> = x.dims().iter().flat_map(|&d| [1, d]).collect();
                x.reshape(ones)?.broadcast_to(stretched)?.reshape(merged)
            }
            true => repeats.iter().enumerate().try_fold(x, |x, (d, &r)| match r {
                0 => x.narrow(d as isize, 0, 0),
                r => Tensor::cat(&vec![x; r], d as isize),
            }),
        }
    }

    /// Rotates the elements along dims by `shifts` places; what leaves at the end comes in at the start.
    pub fn roll(&self, shifts: &[isize], dims: &[isize]) -> Result<Tensor> {
        if shifts.len() != dims.len() {
            let message = format!("{} shifts for {} dims", shifts.len(), dims.len());
            return Err(ErrorKind::Argument { op: "roll", message }.into());
        }
        shifts.iter().zip(dims).try_fold(self.clone(), |x, (&shift, &dim)| {
            let n = x.size(dim)? as isize;
            if n == 0 || shift.rem_euclid(n) == 0 {
                return Ok(x);
            }
            let tail = shift.rem_euclid(n) as usize;
            let head = n as usize - tail;
            Tensor::cat(&[x.narrow(dim, head, tail)?, x.narrow(dim, 0, head)?], dim)
        })
    }
}

/// The part of a row-major tensor of `shape` that starts at `starts` and has the extents of `part`.
fn region(shape: Shape, starts: &[usize], part: Shape) -> Layout {
    let whole = Layout::contiguous(shape);
    (0..shape.rank()).fold(whole, |l, d| l.slice(d, starts[d], part.dims()[d], 1))
}
