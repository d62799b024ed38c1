//! The CPU's memory behind a tensor, and the two ways kernels see it.

use crate::cpu::derived::{Derived, Purpose};
use crate::cpu::memory::{Memory, OutOfMemory};
use crate::storage::Storage;
use crate::{DType, Device, Error, ErrorKind, Layout, Result, Scalar, Shape, Tensor};
use bytemuck::{cast_slice, cast_slice_mut};
use std::any::Any;
use std::ptr::NonNull;
use std::sync::Arc;

/// The memory of a tensor, and what kernels made of it.
#[derive(Debug)]
pub(crate) struct CpuStorage {
    memory: Home,
    derived: Derived,
}

/// Where the bytes are.
#[derive(Debug)]
enum Home {
    /// So few that they lie beside the layout: an op on them asks no allocator.
    Here(Few, u8),
    /// In a block from the caching allocator.
    Block(Memory),
}

/// Bytes as aligned as any element.
#[derive(Debug)]
#[repr(align(16))]
struct Few([u8; 64]);

impl Home {
    /// Room for this many bytes, of unspecified value.
    #[inline]
    fn new(bytes: usize) -> Result<Home> {
        match u8::try_from(bytes) {
            Ok(few) if bytes <= size_of::<Few>() => Ok(Home::Here(Few([0; _]), few)),
            _ => Ok(Home::Block(Memory::new(bytes)?)),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Home::Here(_, bytes) => (*bytes).into(),
            Home::Block(memory) => memory.bytes(),
        }
    }

    #[inline]
    fn as_slice<T: Scalar>(&self) -> &[T] {
        match self {
            Home::Here(few, bytes) => cast_slice(&few.0[..usize::from(*bytes)]),
            Home::Block(memory) => memory.as_slice(),
        }
    }

    #[inline]
    fn as_mut_slice<T: Scalar>(&mut self) -> &mut [T] {
        match self {
            Home::Here(few, bytes) => cast_slice_mut(&mut few.0[..usize::from(*bytes)]),
            Home::Block(memory) => memory.as_mut_slice(),
        }
    }
}

impl Storage for CpuStorage {
    fn device(&self) -> &Device {
        Device::cpu_ref()
    }

    fn bytes(&self) -> usize {
        self.memory.bytes()
    }
}

impl From<OutOfMemory> for Error {
    fn from(error: OutOfMemory) -> Error {
        ErrorKind::OutOfMemory { device: "cpu".to_string(), bytes: error.bytes }.into()
    }
}

/// All of the memory behind a tensor, to be indexed by its layout.
pub(crate) fn memory<T: Scalar>(x: &Tensor) -> &[T] {
    debug_assert_eq!(x.dtype(), T::DTYPE);
    x.storage().downcast::<CpuStorage>().memory.as_slice()
}

/// The elements of a contiguous tensor.
pub(crate) fn elements<T: Scalar>(x: &Tensor) -> &[T] {
    debug_assert!(x.layout().is_contiguous());
    // The offset of a view without elements may lie behind the end.
    memory(x).get(x.layout().offset()..).map_or(&[], |rest| &rest[..x.numel()])
}

/// The memory behind a tensor that nobody else sees, to write to.
pub(crate) fn memory_mut<T: Scalar>(x: &mut Tensor) -> Option<&mut [T]> {
    debug_assert_eq!(x.dtype(), T::DTYPE);
    home_mut(x).map(Home::as_mut_slice)
}

/// As [`memory_mut`], for any type of elements.
fn home_mut(x: &mut Tensor) -> Option<&mut Home> {
    let storage = x.storage_mut()?.downcast_mut::<CpuStorage>();
    storage.derived.clear();
    Some(&mut storage.memory)
}

/// What was made of a view of a tensor's memory for a purpose, from the second use on until the memory changes: see
/// [`Derived::value`].
pub(crate) fn derived<V: Any + Send + Sync>(
    x: &Tensor,
    what: &'static str,
    view: &Layout,
    make: impl FnOnce() -> Result<V>,
) -> Option<Arc<V>> {
    x.storage().downcast::<CpuStorage>().derived.value(Purpose::new(what, view), make)
}

/// A new tensor of a dense layout from the start of its memory, filled by `fill`, which gets its elements in memory order.
pub(crate) fn filled<T: Scalar>(layout: Layout, fill: impl FnOnce(&mut [T]) -> Result<()>) -> Result<Tensor> {
    filled_like(&layout, fill)
}

/// As [`filled`], but for the offset of `layout`, which is that of another tensor.
pub(crate) fn filled_like<T: Scalar>(
    layout: &Layout,
    fill: impl FnOnce(&mut [T]) -> Result<()>,
) -> Result<Tensor> {
    let (y, mut home) = unfilled(layout, T::DTYPE)?;
    // SAFETY: the home lives as long as `y`, which was made just now and is given to nobody before `fill` is done.
    fill(unsafe { home.as_mut() }.as_mut_slice())?;
    Ok(y)
}

/// A tensor of unspecified values, with the dense layout of another, and its bytes.
fn unfilled(layout: &Layout, dtype: DType) -> Result<(Tensor, NonNull<Home>)> {
    let memory = Home::new(layout.numel() * dtype.size())?;
    let (y, storage) = Tensor::filling(CpuStorage { memory, derived: Derived::default() }, dtype, layout);
    // SAFETY: the storage is there; this only says where in it the memory is.
    Ok((y, unsafe { NonNull::new_unchecked(&raw mut (*storage.as_ptr()).memory) }))
}

/// A new row-major tensor, filled by `fill`.
pub(crate) fn filled_shape<T: Scalar>(
    shape: Shape,
    fill: impl FnOnce(&mut [T]) -> Result<()>,
) -> Result<Tensor> {
    filled(Layout::contiguous(shape), fill)
}
