//! The CPU's memory behind a tensor, and the two ways kernels see it.

use crate::cpu::derived::{Derived, Purpose};
use crate::cpu::memory::{Memory, OutOfMemory};
use crate::storage::Storage;
use crate::{Device, Error, ErrorKind, Layout, Result, Scalar, Shape, Tensor};
use std::any::Any;
use std::sync::Arc;

/// Memory from the caching allocator, and what kernels made of it.
#[derive(Debug)]
pub(crate) struct CpuStorage {
    memory: Memory,
    derived: Derived,
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
    let memory = &x.storage().downcast::<CpuStorage>().memory;
    // Blocks are of whole size classes: drop what does not fill an element.
    memory.as_slice()
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
    let storage = x.storage_mut()?.downcast_mut::<CpuStorage>();
    storage.derived.clear();
    Some(storage.memory.as_mut_slice())
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
    let n = layout.numel();
    let mut memory = Memory::new(n * size_of::<T>())?;
    fill(&mut memory.as_mut_slice::<T>()[..n])?;
    Ok(Tensor::filling(CpuStorage { memory, derived: Derived::default() }, T::DTYPE, layout))
}

/// A new row-major tensor, filled by `fill`.
pub(crate) fn filled_shape<T: Scalar>(
    shape: Shape,
    fill: impl FnOnce(&mut [T]) -> Result<()>,
) -> Result<Tensor> {
    filled(Layout::contiguous(shape), fill)
}
