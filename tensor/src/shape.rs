//! The extent of each dim of a tensor.

use crate::{Error, Result};
use std::fmt;

/// The largest number of dims a tensor may have.
pub const MAX_RANK: usize = 8;

/// The largest number of elements a shape may describe: any element type fits in the address space.
const MAX_NUMEL: usize = isize::MAX as usize / 8;

/// The extent of each dim, outermost first. `Copy`, because every op makes one.
///
/// A slice of more than [`MAX_RANK`] dims still converts, so that the conversion cannot fail; every function that
/// makes a tensor of such a shape returns an error that says so.
///
/// ```
/// use gradus_tensor::Shape;
/// let s = Shape::from([2, 3]);
/// assert_eq!((s.rank(), s.numel()), (2, 6));
/// assert_eq!(s.broadcast(&Shape::from([4, 1, 3])), Some(Shape::from([4, 2, 3])));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: u8,
}

impl Shape {
    /// The shape `[]` of a single number.
    pub const SCALAR: Shape = Shape { dims: [1; MAX_RANK], rank: 0 };

    /// As many dims of extent 1.
    pub(crate) fn ones(rank: usize) -> Shape {
        Shape { dims: [1; MAX_RANK], rank: rank as u8 }
    }

    /// The extents.
    #[inline]
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank().min(MAX_RANK)]
    }

    /// How many dims there are.
    #[inline]
    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    /// How many elements there are; 1 for `[]`. Saturates where a product overflows.
    #[inline]
    pub fn numel(&self) -> usize {
        self.dims().iter().fold(1, |n: usize, &d| n.saturating_mul(d))
    }

    /// This shape, or an error that names `op` when it has too many dims or elements to exist.
    pub fn checked(self, op: &'static str) -> Result<Shape> {
        if self.rank() > MAX_RANK {
            return Err(Error::argument(
                op,
                format!("a tensor has at most {MAX_RANK} dims, got {}", self.rank()),
            ));
        }
        // Zero extents count as one here: strides are products of the other extents and must not overflow either.
        let reach = self.dims().iter().fold(1, |n: usize, &d| n.saturating_mul(d.max(1)));
        if reach > MAX_NUMEL {
            return Err(Error::argument(
                op,
                format!("shape {self} has more elements than memory can address"),
            ));
        }
        Ok(self)
    }

    /// The common shape of two tensors by NumPy's rules, or `None` when an extent disagrees.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let mut out = Shape { dims: [1; MAX_RANK], rank: rank as u8 };
        for i in 0..rank.min(MAX_RANK) {
            let at = |s: &Shape| (i + s.rank()).checked_sub(rank).map_or(1, |j| s.dims[j]);
            out.dims[i] = match (at(self), at(other)) {
                (a, b) if a == b => a,
                (1, n) | (n, 1) => n,
                _ => return None,
            };
        }
        Some(out)
    }

    /// Resolves a dim that may count from the end: `-1` is the last one.
    pub fn dim(&self, op: &'static str, dim: isize) -> Result<usize> {
        resolve_dim(op, dim, self.rank())
    }

    /// The extents, to be changed.
    pub(crate) fn dims_mut(&mut self) -> &mut [usize] {
        let rank = self.rank().min(MAX_RANK);
        &mut self.dims[..rank]
    }

    /// This shape with the extent of one dim replaced.
    pub fn with_dim(mut self, dim: usize, extent: usize) -> Shape {
        self.dims[dim] = extent;
        self
    }

    /// This shape with a dim inserted before `dim`; one too many dims is caught by [`Shape::checked`].
    pub fn inserted(&self, dim: usize, extent: usize) -> Shape {
        let mut out = Shape { rank: self.rank.saturating_add(1), ..*self };
        if dim < MAX_RANK {
            out.dims.copy_within(dim..MAX_RANK - 1, dim + 1);
            out.dims[dim] = extent;
        }
        out
    }

    /// This shape without the dim.
    pub fn removed(&self, dim: usize) -> Shape {
        let mut out = *self;
        out.remove(dim);
        out
    }

    /// As [`removed`](Self::removed), in place.
    pub(crate) fn remove(&mut self, dim: usize) {
        self.dims.copy_within(dim + 1.., dim);
        self.dims[MAX_RANK - 1] = 1;
        self.rank -= 1;
    }
}

/// Resolves a dim that may count from the end, for a tensor of `rank` dims.
pub(crate) fn resolve_dim(op: &'static str, dim: isize, rank: usize) -> Result<usize> {
    let at = if dim < 0 { dim + rank as isize } else { dim };
    if at < 0 || at >= rank as isize { Err(Error::dim(op, dim, rank)) } else { Ok(at as usize) }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl From<&[usize]> for Shape {
    fn from(extents: &[usize]) -> Self {
        let mut dims = [1; MAX_RANK];
        let kept = extents.len().min(MAX_RANK);
        dims[..kept].copy_from_slice(&extents[..kept]);
        Shape { dims, rank: extents.len().min(u8::MAX as usize) as u8 }
    }
}

impl From<Vec<usize>> for Shape {
    fn from(extents: Vec<usize>) -> Self {
        extents.as_slice().into()
    }
}

impl From<&Vec<usize>> for Shape {
    fn from(extents: &Vec<usize>) -> Self {
        extents.as_slice().into()
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    #[inline]
    fn from(extents: [usize; N]) -> Self {
        Self::from(&extents)
    }
}

impl<const N: usize> From<&[usize; N]> for Shape {
    #[inline]
    fn from(extents: &[usize; N]) -> Self {
        // A loop of known length, where a slice is a call that copies memory.
        let mut dims = [1; MAX_RANK];
        dims.iter_mut().zip(extents).for_each(|(dim, &extent)| *dim = extent);
        Shape { dims, rank: N.min(u8::MAX as usize) as u8 }
    }
}

impl From<()> for Shape {
    fn from((): ()) -> Self {
        Shape::SCALAR
    }
}

impl From<usize> for Shape {
    fn from(extent: usize) -> Self {
        [extent].into()
    }
}

impl From<&Shape> for Shape {
    fn from(shape: &Shape) -> Self {
        *shape
    }
}

/// Which dims a reduction runs over: one, several, or all (`..`). Negative dims count from the end.
///
/// ```
/// use gradus_tensor::{Device, Tensor};
/// # fn main() -> gradus_tensor::Result<()> {
/// let x = Tensor::ones([2, 3, 4], &Device::cpu())?;
/// assert_eq!(x.sum(-1, false)?.dims(), [2, 3]);
/// assert_eq!(x.sum([0, 2], true)?.dims(), [1, 3, 1]);
/// assert_eq!(x.sum(.., false)?.to_scalar::<f32>()?, 24.0);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dims(Chosen);

/// One dim is the usual case, and takes no memory.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Chosen {
    All,
    One(isize),
    Several(Vec<isize>),
}

impl Dims {
    /// Every dim, whatever the rank.
    pub const ALL: Dims = Dims(Chosen::All);

    /// One flag per dim of a tensor of `rank` dims: whether it is meant.
    ///
    /// # Errors
    /// A dim out of range, or named twice.
    pub fn resolve(&self, op: &'static str, rank: usize) -> Result<[bool; MAX_RANK]> {
        let mut mask = [false; MAX_RANK];
        let dims = match &self.0 {
            Chosen::All => {
                mask[..rank].fill(true);
                return Ok(mask);
            }
            Chosen::One(dim) => std::slice::from_ref(dim),
            Chosen::Several(dims) => dims,
        };
        for &d in dims {
            let at = resolve_dim(op, d, rank)?;
            if mask[at] {
                return Err(Error::argument(op, format!("dim {d} is named twice")));
            }
            mask[at] = true;
        }
        Ok(mask)
    }
}

impl From<std::ops::RangeFull> for Dims {
    fn from(_: std::ops::RangeFull) -> Self {
        Dims::ALL
    }
}

impl From<isize> for Dims {
    fn from(dim: isize) -> Self {
        Dims(Chosen::One(dim))
    }
}

impl<const N: usize> From<[isize; N]> for Dims {
    fn from(dims: [isize; N]) -> Self {
        dims.as_slice().into()
    }
}

impl From<&[isize]> for Dims {
    fn from(dims: &[isize]) -> Self {
        match *dims {
            [dim] => dim.into(),
            _ => Dims(Chosen::Several(dims.to_vec())),
        }
    }
}

impl From<Vec<isize>> for Dims {
    fn from(dims: Vec<isize>) -> Self {
        dims.as_slice().into()
    }
}
