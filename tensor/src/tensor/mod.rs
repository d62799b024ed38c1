//! [`Tensor`]: an immutable n-dimensional array on one device.

mod conv;
mod create;
mod display;
mod handle;
mod index;
mod math;
mod matmul;
mod nn;
pub(crate) mod pool;
mod reduce;
pub(crate) mod rnn;
mod sort;
mod view;

use crate::storage::Storage;
use crate::{Backend, DType, Device, Element, Error, ErrorKind, Layout, Result, Scalar, Shape};
use handle::Handle;
use std::ptr::NonNull;

/// An immutable n-dimensional array on one device. Cloning is cheap, views never copy.
///
/// Every op takes every layout: transposed, sliced, broadcast, flipped, empty. Binary ops broadcast as NumPy does.
///
/// ```
/// use gradus_tensor::{Device, Tensor};
/// # fn main() -> gradus_tensor::Result<()> {
/// let x = Tensor::from_slice(&[1f32, 2., 3., 4., 5., 6.], [2, 3], &Device::cpu())?;
/// let y = (&x.t()?.matmul(&x)? + &x.sum(0, true)?)?;
/// assert_eq!(y.to_vec::<f32>()?, [22., 29., 36., 27., 36., 45., 32., 43., 54.]);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Tensor(Handle);

/// What a tensor is, behind one pointer: tensors are moved and cloned far more often than they are made. A result has its
/// memory's owner in the same block, a view has [`Elsewhere`] there.
struct View<S: ?Sized = dyn Storage> {
    layout: Layout,
    dtype: DType,
    /// Whether the storage is an `Elsewhere`.
    borrows: bool,
    storage: S,
}

/// In place of a view's own memory: the tensor whose memory it looks at, which is no view itself.
struct Elsewhere(Tensor);

impl Storage for Elsewhere {
    fn device(&self) -> &Device {
        self.0.device()
    }

    fn bytes(&self) -> usize {
        self.0.storage().bytes()
    }
}

impl std::fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.storage().fmt(f)
    }
}

impl Tensor {
    /// A tensor over a backend's memory: what backends end with.
    ///
    /// # Errors
    /// When the layout reaches past the end of the memory.
    pub fn from_storage(storage: impl Storage, dtype: DType, layout: Layout) -> Result<Tensor> {
        let needed = layout.bounds().map_or(0, |(_, high)| (high + 1).saturating_mul(dtype.size()));
        if needed > storage.bytes() {
            return Err(Error::argument(
                "from_storage",
                format!("the layout reaches over {needed} bytes, the memory has {}", storage.bytes()),
            ));
        }
        Ok(Tensor(Handle::new(&layout, dtype, false, storage)))
    }

    /// A tensor that fills new memory: its layout is dense, and lies in it from its start. With it comes the memory, to write to
    /// until another tensor sees it.
    pub(crate) fn filling<S: Storage>(storage: S, dtype: DType, layout: &Layout) -> (Tensor, NonNull<S>) {
        debug_assert!(
            layout.at_start().bounds().is_none_or(|(_, high)| (high + 1) * dtype.size() <= storage.bytes())
        );
        let (handle, storage) = Handle::filling(layout, dtype, storage);
        (Tensor(handle), storage)
    }

    /// The tensor that has the memory: this one, or the one it is a view of.
    #[inline]
    fn owner(&self) -> &Tensor {
        if self.0.borrows { &self.0.storage.downcast::<Elsewhere>().0 } else { self }
    }

    /// The memory, for backends.
    #[inline]
    pub fn storage(&self) -> &dyn Storage {
        &self.owner().0.storage
    }

    /// The memory to write to, if no other tensor sees it: for backends.
    pub fn storage_mut(&mut self) -> Option<&mut dyn Storage> {
        let view = self.0.get_mut()?;
        match view.borrows {
            true => view.storage.downcast_mut::<Elsewhere>().0.storage_mut(),
            false => Some(&mut view.storage),
        }
    }

    /// Whether two tensors view the same memory.
    pub fn shares_memory_with(&self, other: &Tensor) -> bool {
        self.owner().0.same(&other.owner().0)
    }

    /// A view of the same memory.
    #[inline]
    pub(crate) fn with_layout(&self, layout: Layout) -> Tensor {
        Tensor(Handle::new(&layout, self.0.dtype, true, Elsewhere(self.owner().clone())))
    }

    /// A view of the same memory by a layout that `change` makes of this one, in place.
    #[inline]
    pub(crate) fn view_by(&self, change: impl FnOnce(&mut Layout)) -> Tensor {
        let mut handle = Handle::new(self.layout(), self.0.dtype, true, Elsewhere(self.owner().clone()));
        if let Some(view) = handle.get_mut() {
            change(&mut view.layout);
        }
        Tensor(handle)
    }

    /// As [`with_layout`](Self::with_layout), for a tensor that is given up: if nobody else holds it, it changes its layout.
    pub(crate) fn into_layout(mut self, layout: Layout) -> Tensor {
        match self.0.get_mut() {
            Some(view) => {
                view.layout = layout;
                self
            }
            None => self.with_layout(layout),
        }
    }

    /// As [`view_by`](Self::view_by), for a tensor that is given up.
    pub(crate) fn into_view_by(mut self, change: impl FnOnce(&mut Layout)) -> Tensor {
        match self.0.get_mut() {
            Some(view) => {
                change(&mut view.layout);
                self
            }
            None => self.view_by(change),
        }
    }

    /// How the shape maps to memory.
    #[inline]
    pub fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// The shape.
    #[inline]
    pub fn shape(&self) -> Shape {
        self.layout().shape()
    }

    /// The extents.
    #[inline]
    pub fn dims(&self) -> &[usize] {
        self.layout().dims()
    }

    /// How many dims there are.
    #[inline]
    pub fn rank(&self) -> usize {
        self.layout().rank()
    }

    /// How many elements there are.
    #[inline]
    pub fn numel(&self) -> usize {
        self.layout().numel()
    }

    /// The extent of a dim, which may count from the end.
    pub fn size(&self, dim: isize) -> Result<usize> {
        Ok(self.dims()[self.shape().dim("size", dim)?])
    }

    /// The type of the elements.
    #[inline]
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// Where it lives.
    #[inline]
    pub fn device(&self) -> &Device {
        self.0.storage.device()
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        self.device().backend()
    }

    /// The elements in row-major order.
    ///
    /// # Errors
    /// When `T` is not the type of the elements.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        if T::Storage::DTYPE != self.dtype() {
            return Err(
                ErrorKind::DTypeMismatch { op: "to_vec", lhs: self.dtype(), rhs: T::Storage::DTYPE }.into()
            );
        }
        let bytes = self.backend().download(self)?;
        Ok(bytes
            .chunks_exact(size_of::<T::Storage>())
            .map(|b| T::load(bytemuck::pod_read_unaligned(b)))
            .collect())
    }

    /// The only element of a tensor that has one.
    ///
    /// # Errors
    /// When there are more or fewer, or `T` is not their type.
    pub fn to_scalar<T: Element>(&self) -> Result<T> {
        match self.to_vec::<T>()?.as_slice() {
            [x] => Ok(*x),
            _ => Err(Error::shape("to_scalar", self.shape(), "expected exactly one element")),
        }
    }

    /// The only element as a double, whatever its type.
    pub fn item(&self) -> Result<f64> {
        if self.numel() != 1 {
            return Err(Error::shape("item", self.shape(), "expected exactly one element"));
        }
        self.to_dtype(DType::F64)?.to_scalar()
    }

    /// On another device; itself if it is there already.
    pub fn to_device(&self, device: &Device) -> Result<Tensor> {
        if device == self.device() {
            return Ok(self.clone());
        }
        device.backend().upload(&self.backend().download(self)?, self.dtype(), self.shape())
    }

    /// With elements of another type; itself if they are of it already. Floats become integers by truncation.
    pub fn to_dtype(&self, dtype: DType) -> Result<Tensor> {
        if dtype == self.dtype() { Ok(self.clone()) } else { self.backend().copy(self, dtype) }
    }

    /// Row-major; itself if it is already.
    pub fn contiguous(&self) -> Result<Tensor> {
        if self.layout().is_contiguous() { Ok(self.clone()) } else { self.backend().copy(self, self.dtype()) }
    }

    /// A row-major copy that shares memory with nothing.
    pub fn copy(&self) -> Result<Tensor> {
        self.backend().copy(self, self.dtype())
    }

    /// Errors unless both have one dtype and one device.
    pub(crate) fn check_same(&self, op: &'static str, rhs: &Tensor) -> Result<()> {
        if self.dtype() != rhs.dtype() {
            return Err(ErrorKind::DTypeMismatch { op, lhs: self.dtype(), rhs: rhs.dtype() }.into());
        }
        self.check_device(op, rhs)
    }

    pub(crate) fn check_device(&self, op: &'static str, rhs: &Tensor) -> Result<()> {
        // Tensors of one device have one device: the comparison of two handles is all there is to it.
        if self.device() != rhs.device() {
            let (lhs, rhs) = (self.device().name().to_string(), rhs.device().name().to_string());
            return Err(ErrorKind::DeviceMismatch { op, lhs, rhs }.into());
        }
        Ok(())
    }

    pub(crate) fn check_dtype(&self, op: &'static str, dtype: DType) -> Result<()> {
        match dtype == self.dtype() {
            true => Ok(()),
            false => Err(ErrorKind::DTypeMismatch { op, lhs: self.dtype(), rhs: dtype }.into()),
        }
    }

    pub(crate) fn check_float(&self, op: &'static str) -> Result<()> {
        if self.dtype().is_float() { Ok(()) } else { Err(Error::dtype(op, self.dtype(), "floats")) }
    }
}
