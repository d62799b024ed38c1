//! Views: new layouts on the same memory. None of them copies, except `reshape` where it must.

use super::Tensor;
use crate::shape::{MAX_RANK, resolve_dim};
use crate::{Error, Layout, Result, Shape};

impl Tensor {
    /// Another shape for the same elements in row-major order: a view where the layout allows it, else a copy.
    ///
    /// # Errors
    /// When the shape has another number of elements.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into();
        let numel = shape.numel();
        // A shape of as many elements as there are, and not of none, is not too large.
        if numel != self.numel() || numel == 0 || shape.rank() > MAX_RANK {
            shape.checked("reshape")?;
        }
        if numel != self.numel() {
            return Err(Error::shapes("reshape", self.shape(), shape)
                .hint(format!("{} elements do not fill a shape of {numel}", self.numel())));
        }
        if self.layout().is_contiguous() {
            return Ok(self.view_by(|layout| layout.cut_anew(&shape)));
        }
        match self.layout().reshape(shape) {
            Some(layout) => Ok(self.with_layout(layout)),
            None => Ok(self.contiguous()?.into_layout(Layout::contiguous(shape))),
        }
    }

    /// As [`reshape`](Self::reshape), with at most one extent given as -1: whatever is left.
    ///
    /// ```
    /// use gradus_tensor::{Device, Tensor};
    /// # fn main() -> gradus_tensor::Result<()> {
    /// assert_eq!(Tensor::ones([4, 6], &Device::cpu())?.view([2, -1, 3])?.dims(), [2, 4, 3]);
    /// # Ok(()) }
    /// ```
    pub fn view(&self, dims: impl AsRef<[isize]>) -> Result<Tensor> {
        let dims = dims.as_ref();
        let known: usize = dims.iter().filter(|&&d| d >= 0).fold(1, |n, &d| n.saturating_mul(d as usize));
        let open = dims.iter().filter(|&&d| d < 0).count();
        if dims.iter().any(|&d| d < -1)
            || open > 1
            || (open == 1 && (known == 0 || !self.numel().is_multiple_of(known)))
        {
            return Err(Error::argument(
                "view",
                format!("{} elements cannot be viewed as {dims:?}", self.numel()),
            ));
        }
        let fill = |&d: &isize| if d < 0 { self.numel() / known } else { d as usize };
        self.reshape(dims.iter().map(fill).collect::<Vec<_>>())
    }

    /// One dim in place of the dims from `start_dim` to the last one.
    pub fn flatten(&self, start_dim: isize) -> Result<Tensor> {
        self.flatten_range(start_dim, -1)
    }

    /// One dim in place of the dims from `start_dim` to `end_dim`, both included; a scalar becomes `[1]`.
    pub fn flatten_range(&self, start_dim: isize, end_dim: isize) -> Result<Tensor> {
        if self.rank() == 0 {
            return self.reshape([1]);
        }
        let (start, end) = (self.shape().dim("flatten", start_dim)?, self.shape().dim("flatten", end_dim)?);
        if start > end {
            return Err(Error::argument("flatten", format!("dim {start_dim} is behind dim {end_dim}")));
        }
        let (dims, mut shape) = (self.dims(), [1; MAX_RANK]);
        shape[..start].copy_from_slice(&dims[..start]);
        shape[start] = dims[start..=end].iter().product();
        let rest = &dims[end + 1..];
        shape[start + 1..][..rest.len()].copy_from_slice(rest);
        self.reshape(&shape[..start + 1 + rest.len()])
    }

    /// Splits a dim into several, whose extents multiply to its own.
    pub fn unflatten(&self, dim: isize, sizes: &[usize]) -> Result<Tensor> {
        let at = self.shape().dim("unflatten", dim)?;
        let dims = self.dims();
        self.reshape([&dims[..at], sizes, &dims[at + 1..]].concat())
    }

    /// Stretches dims of extent 1, and adds leading dims, without copying.
    ///
    /// # Errors
    /// When another extent disagrees.
    pub fn broadcast_to(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into().checked("broadcast_to")?;
        if shape == self.shape() {
            return Ok(self.clone());
        }
        match self.layout().stretches_to(&shape) {
            true => Ok(self.view_by(|layout| layout.stretch(&shape))),
            false => Err(Error::shapes("broadcast_to", self.shape(), shape)
                .hint("only dims of extent 1 can be stretched, and new ones are added in front")),
        }
    }

    /// As [`broadcast_to`](Self::broadcast_to), where -1 keeps an extent.
    pub fn expand(&self, dims: impl AsRef<[isize]>) -> Result<Tensor> {
        let dims = dims.as_ref();
        let shift = dims.len().checked_sub(self.rank()).ok_or_else(|| {
            Error::argument("expand", format!("{dims:?} has fewer dims than shape {}", self.shape()))
        })?;
        let mut out = vec![];
        for (i, &d) in dims.iter().enumerate() {
            out.push(match d {
                -1 if i >= shift => self.dims()[i - shift],
                d if d >= 0 => d as usize,
                _ => {
                    return Err(Error::argument(
                        "expand",
                        format!("extent {d} makes no sense for a new dim"),
                    ));
                }
            });
        }
        self.broadcast_to(out)
    }

    /// Swaps two dims.
    pub fn transpose(&self, dim0: isize, dim1: isize) -> Result<Tensor> {
        let rank = self.rank();
        let (a, b) = (resolve_dim("transpose", dim0, rank)?, resolve_dim("transpose", dim1, rank)?);
        Ok(self.view_by(|layout| layout.swap(a, b)))
    }

    /// Swaps the last two dims; a tensor of fewer dims stays as it is.
    pub fn t(&self) -> Result<Tensor> {
        if self.rank() < 2 { Ok(self.clone()) } else { self.transpose(-2, -1) }
    }

    /// Reorders the dims: dim `i` of the result is dim `dims[i]` of this.
    pub fn permute(&self, dims: impl AsRef<[isize]>) -> Result<Tensor> {
        let dims = dims.as_ref();
        let rank = self.rank();
        let (mut order, mut seen) = ([0; MAX_RANK], 0u32);
        for (i, &d) in dims.iter().enumerate() {
            let from = resolve_dim("permute", d, rank)?;
            seen |= 1 << from;
            // What is too long is refused below.
            order[i.min(MAX_RANK - 1)] = from;
        }
        if dims.len() != rank || seen.count_ones() as usize != rank {
            return Err(Error::argument(
                "permute",
                format!("{dims:?} does not name each of the {rank} dims once"),
            ));
        }
        Ok(self.view_by(|layout| layout.reorder(&order[..rank])))
    }

    /// Moves a dim to another place.
    pub fn movedim(&self, from: isize, to: isize) -> Result<Tensor> {
        let (from, to) = (self.shape().dim("movedim", from)?, self.shape().dim("movedim", to)?);
        let mut order: Vec<usize> = (0..self.rank()).filter(|&d| d != from).collect();
        order.insert(to, from);
        Ok(self.with_layout(self.layout().permute(&order)))
    }

    /// Removes a dim of extent 1; a dim of another extent stays.
    pub fn squeeze(&self, dim: isize) -> Result<Tensor> {
        let at = resolve_dim("squeeze", dim, self.rank())?;
        Ok(if self.dims()[at] == 1 { self.view_by(|layout| layout.remove(at)) } else { self.clone() })
    }

    /// Removes every dim of extent 1.
    pub fn squeeze_all(&self) -> Result<Tensor> {
        (0..self.rank()).rev().try_fold(self.clone(), |t, d| t.squeeze(d as isize))
    }

    /// Inserts a dim of extent 1 before `dim`; -1 appends one.
    pub fn unsqueeze(&self, dim: isize) -> Result<Tensor> {
        let at = resolve_dim("unsqueeze", dim, self.rank() + 1)?;
        if self.rank() == MAX_RANK {
            self.shape().inserted(at, 1).checked("unsqueeze")?;
        }
        Ok(self.view_by(|layout| layout.insert(at)))
    }

    /// `length` elements of a dim from `start`.
    pub fn narrow(&self, dim: isize, start: usize, length: usize) -> Result<Tensor> {
        let at = resolve_dim("narrow", dim, self.rank())?;
        let size = self.dims()[at];
        if start.checked_add(length).is_none_or(|end| end > size) {
            return Err(Error::argument(
                "narrow",
                format!("{length} elements from {start} do not exist in dim {dim} of shape {}", self.shape()),
            ));
        }
        Ok(self.view_by(|layout| layout.cut(at, start, length, 1)))
    }

    /// Every `step`-th element of a dim from `start` up to and without `end`; bounds count from the end when negative
    /// and are clamped, as in Python.
    pub fn slice(&self, dim: isize, start: Option<isize>, end: Option<isize>, step: usize) -> Result<Tensor> {
        let at = resolve_dim("slice", dim, self.rank())?;
        if step == 0 {
            return Err(Error::argument("slice", "the step is at least 1"));
        }
        let size = self.dims()[at] as isize;
        let clamp = |i: isize| (if i < 0 { i.saturating_add(size) } else { i }).clamp(0, size);
        let (start, end) = (start.map_or(0, clamp), end.map_or(size, clamp));
        let len = ((end - start).max(0) as usize).div_ceil(step);
        Ok(self.view_by(|layout| layout.cut(at, start as usize, len, step)))
    }

    /// One element of a dim, which is removed; negative counts from the end.
    pub fn select(&self, dim: isize, index: isize) -> Result<Tensor> {
        let at = resolve_dim("select", dim, self.rank())?;
        let size = self.dims()[at];
        let i = if index < 0 { index + size as isize } else { index };
        if i < 0 || i >= size as isize {
            return Err(Error::index("select", index as i64, size));
        }
        Ok(self.view_by(|layout| {
            layout.cut(at, i as usize, 1, 1);
            layout.remove(at);
        }))
    }

    /// Runs dims backwards.
    pub fn flip(&self, dims: impl AsRef<[isize]>) -> Result<Tensor> {
        let mask = crate::Dims::from(dims.as_ref()).resolve("flip", self.rank())?;
        let layout = (0..self.rank()).filter(|&d| mask[d]).fold(*self.layout(), |l, d| l.flip(d));
        Ok(self.with_layout(layout))
    }

    /// Pieces of `size` elements along a dim; the last may be shorter.
    pub fn split(&self, size: usize, dim: isize) -> Result<Vec<Tensor>> {
        let n = self.size(dim)?;
        if size == 0 && n > 0 {
            return Err(Error::argument("split", "the size of a piece is at least 1"));
        }
        let starts = if n == 0 { vec![0] } else { (0..n).step_by(size).collect() };
        starts.into_iter().map(|i| self.narrow(dim, i, size.min(n - i))).collect()
    }

    /// Pieces of the given sizes along a dim, which must add up to its extent.
    pub fn split_sizes(&self, sizes: &[usize], dim: isize) -> Result<Vec<Tensor>> {
        let n = self.size(dim)?;
        if sizes.iter().try_fold(0usize, |a, &b| a.checked_add(b)) != Some(n) {
            return Err(Error::argument("split", format!("sizes {sizes:?} do not add up to {n}")));
        }
        let mut at = 0;
        let mut piece = |size: usize| {
            at += size;
            self.narrow(dim, at - size, size)
        };
        sizes.iter().map(|&s| piece(s)).collect()
    }

    /// At most `chunks` pieces of equal size along a dim; the last may be shorter.
    pub fn chunk(&self, chunks: usize, dim: isize) -> Result<Vec<Tensor>> {
        if chunks == 0 {
            return Err(Error::argument("chunk", "there is at least 1 piece"));
        }
        self.split(self.size(dim)?.div_ceil(chunks).max(1), dim)
    }

    /// A view with given strides and offset, in elements of this tensor's memory.
    ///
    /// # Errors
    /// When an element would lie outside of it.
    pub fn as_strided(&self, shape: impl Into<Shape>, strides: &[isize], offset: usize) -> Result<Tensor> {
        let layout = Layout::strided(shape, strides, offset)?;
        if layout
            .bounds()
            .is_some_and(|(_, high)| (high + 1).saturating_mul(self.dtype().size()) > self.storage().bytes())
        {
            return Err(Error::argument("as_strided", "an element would lie outside of the memory"));
        }
        Ok(self.with_layout(layout))
    }

    /// Windows of `size` along a dim, `step` apart, as a new last dim: a view.
    pub fn unfold(&self, dim: isize, size: usize, step: usize) -> Result<Tensor> {
        let at = self.shape().dim("unfold", dim)?;
        let n = self.dims()[at];
        if size > n || step == 0 {
            return Err(Error::argument(
                "unfold",
                format!("no windows of {size}, {step} apart, in an extent of {n}"),
            ));
        }
        self.shape().inserted(self.rank(), size).checked("unfold")?;
        let windows = (n - size) / step + 1;
        let mut shape = self.dims().to_vec();
        shape[at] = windows;
        shape.push(size);
        let mut strides = self.layout().strides().to_vec();
        strides.push(strides[at]);
        if windows > 1 {
            // Between windows there are fewer than `n` elements, so this cannot overflow; a lone window may be any step.
            strides[at] *= step as isize;
        }
        Ok(self.with_layout(Layout::strided(shape, &strides, self.layout().offset())?))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Device, Result, Tensor};

    #[test]
    fn empty_views_can_be_moved_and_read() -> Result<()> {
        let x = Tensor::zeros([0, 3], &Device::cpu())?;
        let moved = [x.narrow(1, 2, 1)?, x.select(1, 2)?, x.flip([1])?, x.as_strided([0], &[isize::MIN], 9)?];
        for view in moved {
            assert_eq!(view.flip([0])?.to_vec::<f32>()?, []);
            assert_eq!(view.exp()?.sum_all()?.item()?, 0.0);
        }
        Ok(())
    }

    #[test]
    fn windows_may_be_empty_and_any_distance_apart() -> Result<()> {
        let x = Tensor::arange(0, 6, 1, &Device::cpu())?.slice(0, None, None, 2)?;
        assert_eq!(x.unfold(0, 0, 1)?.dims(), [4, 0]);
        assert_eq!(x.unfold(0, 2, usize::MAX)?.to_vec::<f32>()?, [0.0, 2.0]);
        assert_eq!(x.unfold(0, 1, usize::MAX / 2)?.flip([0, 1])?.to_vec::<f32>()?, [0.0]);
        Ok(())
    }
}
