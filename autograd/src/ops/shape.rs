//! Views, copies and joins: gradients go back the way the elements came.

use crate::Var;
use tensor::{DType, Device, Dims, Number, Result, Shape};

impl Var {
    /// Another shape for the same elements; see [`Tensor::reshape`](tensor::Tensor::reshape).
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Var> {
        let from = self.shape();
        let y = self.value().reshape(shape)?;
        if y.shape() == from {
            return Ok(self.clone());
        }
        Ok(Var::record1("reshape", y, self, move |g| g.reshape(from)))
    }

    /// As [`reshape`](Self::reshape), with at most one extent given as -1: whatever is left.
    pub fn view(&self, dims: impl AsRef<[isize]>) -> Result<Var> {
        let shape = self.value().view(dims)?.shape();
        self.reshape(shape)
    }

    /// One dim in place of the dims from `start_dim` on; see [`Tensor::flatten`](tensor::Tensor::flatten).
    pub fn flatten(&self, start_dim: isize) -> Result<Var> {
        let shape = self.value().flatten(start_dim)?.shape();
        self.reshape(shape)
    }

    /// One dim in place of the dims from `start_dim` to `end_dim`, both included.
    pub fn flatten_range(&self, start_dim: isize, end_dim: isize) -> Result<Var> {
        let shape = self.value().flatten_range(start_dim, end_dim)?.shape();
        self.reshape(shape)
    }

    /// Stretches dims of extent 1, and adds leading ones; see [`Tensor::broadcast_to`](tensor::Tensor::broadcast_to).
    pub fn broadcast_to(&self, shape: impl Into<Shape>) -> Result<Var> {
        let from = self.shape();
        Ok(Var::record1("broadcast_to", self.value().broadcast_to(shape)?, self, move |g| g.sum_to(from)))
    }

    /// As [`broadcast_to`](Self::broadcast_to), where -1 keeps an extent.
    pub fn expand(&self, dims: impl AsRef<[isize]>) -> Result<Var> {
        let shape = self.value().expand(dims)?.shape();
        self.broadcast_to(shape)
    }

    /// Swaps two dims.
    pub fn transpose(&self, dim0: isize, dim1: isize) -> Result<Var> {
        let y = self.value().transpose(dim0, dim1)?;
        Ok(Var::record1("transpose", y, self, move |g| g.transpose(dim0, dim1)))
    }

    /// Swaps the last two dims; a value of fewer dims stays as it is.
    pub fn t(&self) -> Result<Var> {
        if self.rank() < 2 { Ok(self.clone()) } else { self.transpose(-2, -1) }
    }

    /// Reorders the dims; see [`Tensor::permute`](tensor::Tensor::permute).
    pub fn permute(&self, dims: impl AsRef<[isize]>) -> Result<Var> {
        let dims = dims.as_ref();
        let y = self.value().permute(dims)?;
        let rank = dims.len() as isize;
        let mut inverse = vec![0isize; dims.len()];
        dims.iter().enumerate().for_each(|(to, &from)| inverse[from.rem_euclid(rank) as usize] = to as isize);
        Ok(Var::record1("permute", y, self, move |g| g.permute(&inverse)))
    }

    /// Removes a dim of extent 1; a dim of another extent stays.
    pub fn squeeze(&self, dim: isize) -> Result<Var> {
        let shape = self.value().squeeze(dim)?.shape();
        self.reshape(shape)
    }

    /// Removes every dim of extent 1.
    pub fn squeeze_all(&self) -> Result<Var> {
        let shape = self.value().squeeze_all()?.shape();
        self.reshape(shape)
    }

    /// Inserts a dim of extent 1 before `dim`; -1 appends one.
    pub fn unsqueeze(&self, dim: isize) -> Result<Var> {
        let from = self.shape();
        Ok(Var::record1("unsqueeze", self.value().unsqueeze(dim)?, self, move |g| g.reshape(from)))
    }

    /// `length` elements of a dim from `start`.
    pub fn narrow(&self, dim: isize, start: usize, length: usize) -> Result<Var> {
        let y = self.value().narrow(dim, start, length)?;
        let (at, after) = (self.shape().dim("narrow", dim)?, self.size(dim)? - start - length);
        Ok(Var::record1("narrow", y, self, move |g| g.pad_dim(at, start, after)))
    }

    /// Zeros before and after along one dim.
    fn pad_dim(&self, dim: usize, before: usize, after: usize) -> Result<Var> {
        let mut pads = vec![0; 2 * (self.rank() - dim)];
        let end = pads.len();
        pads[end - 2] = before as isize;
        pads[end - 1] = after as isize;
        self.pad(&pads, 0)
    }

    /// Every `step`-th element of a dim, with Python's rules for bounds; see [`Tensor::slice`](tensor::Tensor::slice).
    pub fn slice(&self, dim: isize, start: Option<isize>, end: Option<isize>, step: usize) -> Result<Var> {
        let y = self.value().slice(dim, start, end, step)?;
        let at = self.shape().dim("slice", dim)?;
        let size = self.dims()[at];
        let first = start
            .map_or(0, |s| if s < 0 { s.saturating_add(size as isize) } else { s })
            .clamp(0, size as isize);
        let (first, count) = (first as usize, y.dims()[at]);
        if step == 1 {
            return self.narrow(dim, first, count);
        }
        let rows: Vec<i64> = (0..count).map(|i| (first + i * step) as i64).collect();
        let index = tensor::Tensor::from_slice(&rows, [count], self.device())?;
        self.index_select(dim, &index)
    }

    /// One element of a dim, which is removed; negative counts from the end.
    pub fn select(&self, dim: isize, index: isize) -> Result<Var> {
        let shape = self.value().select(dim, index)?.shape();
        let size = self.size(dim)? as isize;
        let start = if index < 0 { index + size } else { index } as usize;
        self.narrow(dim, start, 1)?.reshape(shape)
    }

    /// Runs dims backwards.
    pub fn flip(&self, dims: impl AsRef<[isize]>) -> Result<Var> {
        let dims = dims.as_ref().to_vec();
        Ok(Var::record1("flip", self.value().flip(&dims)?, self, move |g| g.flip(&dims)))
    }

    /// Pieces of `size` elements along a dim; the last may be shorter.
    pub fn split(&self, size: usize, dim: isize) -> Result<Vec<Var>> {
        let sizes: Vec<usize> =
            self.value().split(size, dim)?.iter().map(|t| t.size(dim)).collect::<Result<_>>()?;
        self.split_sizes(&sizes, dim)
    }

    /// Pieces of the given sizes along a dim, which must add up to its extent.
    pub fn split_sizes(&self, sizes: &[usize], dim: isize) -> Result<Vec<Var>> {
        self.value().split_sizes(sizes, dim)?;
        let mut start = 0;
        let mut pieces = Vec::with_capacity(sizes.len());
        for &size in sizes {
            pieces.push(self.narrow(dim, start, size)?);
            start += size;
        }
        Ok(pieces)
    }

    /// At most `chunks` pieces of equal size along a dim; the last may be shorter.
    pub fn chunk(&self, chunks: usize, dim: isize) -> Result<Vec<Var>> {
        let sizes: Vec<usize> =
            self.value().chunk(chunks, dim)?.iter().map(|t| t.size(dim)).collect::<Result<_>>()?;
        self.split_sizes(&sizes, dim)
    }

    /// Joins values along a dim they have; see [`Tensor::cat`](tensor::Tensor::cat).
    pub fn cat(vars: &[Var], dim: isize) -> Result<Var> {
        let values: Vec<_> = vars.iter().map(|v| v.value().clone()).collect();
        let y = tensor::Tensor::cat(&values, dim)?;
        let sizes: Vec<usize> = values.iter().map(|t| t.size(dim)).collect::<Result<_>>()?;
        Ok(Var::record("cat", y, &vars.iter().collect::<Vec<_>>(), move |b| {
            let mut start = 0;
            let piece = |(i, &size): (usize, &usize)| {
                start += size;
                b.want(i, || b.grad().narrow(dim, start - size, size))
            };
            sizes.iter().enumerate().map(piece).collect()
        }))
    }

    /// Joins values of one shape along a new dim.
    pub fn stack(vars: &[Var], dim: isize) -> Result<Var> {
        let with_dim = vars.iter().map(|v| v.unsqueeze(dim)).collect::<Result<Vec<_>>>()?;
        Var::cat(&with_dim, dim)
    }

    /// Adds elements of `value` around; see [`Tensor::pad`](tensor::Tensor::pad).
    pub fn pad(&self, pads: &[isize], value: impl Into<Number>) -> Result<Var> {
        let y = self.value().pad(pads, value)?;
        let back: Vec<isize> = pads.iter().map(|p| -p).collect();
        Ok(Var::record1("pad", y, self, move |g| g.pad(&back, 0)))
    }

    /// Tiles; see [`Tensor::repeat`](tensor::Tensor::repeat).
    pub fn repeat(&self, repeats: &[usize]) -> Result<Var> {
        let y = self.value().repeat(repeats)?;
        let shape = self.shape();
        let extra = repeats.len() - shape.rank();
        let repeats = repeats.to_vec();
        Ok(Var::record1("repeat", y, self, move |g| {
            // Each dim of the result is a dim of copies and one of elements: the copies are summed one dim at a time.
            let mut g = g.clone();
            for (d, &r) in repeats.iter().enumerate() {
                let size = if d < extra { 1 } else { shape.dims()[d - extra] };
                let mut split = g.dims().to_vec();
                split.splice(d..=d, [r, size]);
                g = g.reshape(split)?.sum(d as isize, false)?;
            }
            g.reshape(shape)
        }))
    }

    /// Rotates elements along dims; see [`Tensor::roll`](tensor::Tensor::roll).
    pub fn roll(&self, shifts: &[isize], dims: &[isize]) -> Result<Var> {
        let y = self.value().roll(shifts, dims)?;
        let (back, dims): (Vec<isize>, _) = (shifts.iter().map(|s| -s).collect(), dims.to_vec());
        Ok(Var::record1("roll", y, self, move |g| g.roll(&back, &dims)))
    }

    /// The lower triangle of the last two dims.
    pub fn tril(&self, diagonal: i64) -> Result<Var> {
        Ok(Var::record1("tril", self.value().tril(diagonal)?, self, move |g| g.tril(diagonal)))
    }

    /// The upper triangle of the last two dims.
    pub fn triu(&self, diagonal: i64) -> Result<Var> {
        Ok(Var::record1("triu", self.value().triu(diagonal)?, self, move |g| g.triu(diagonal)))
    }

    /// With elements of another type. To integers and bools the gradient ends.
    pub fn to_dtype(&self, dtype: DType) -> Result<Var> {
        let from = self.dtype();
        if from == dtype {
            return Ok(self.clone());
        }
        let y = self.value().to_dtype(dtype)?;
        match dtype.is_float() && from.is_float() {
            true => Ok(Var::record1("to_dtype", y, self, move |g| g.to_dtype(from))),
            false => Ok(self.cut("to_dtype", y)),
        }
    }

    /// On another device.
    pub fn to_device(&self, device: &Device) -> Result<Var> {
        if device == self.device() {
            return Ok(self.clone());
        }
        let from = self.device().clone();
        Ok(Var::record1("to_device", self.value().to_device(device)?, self, move |g| g.to_device(&from)))
    }

    /// Row-major.
    pub fn contiguous(&self) -> Result<Var> {
        Ok(Var::record1("contiguous", self.value().contiguous()?, self, |g| Ok(g.clone())))
    }

    /// The mean and the biased variance over `dims`, both kept as 1.
    pub fn mean_var(&self, dims: impl Into<Dims>) -> Result<(Var, Var)> {
        let dims = dims.into();
        let mean = self.mean(dims.clone(), true)?;
        let var = self.sub(&mean)?.square()?.mean(dims, true)?;
        Ok((mean, var))
    }
}
