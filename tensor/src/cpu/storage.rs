//! The CPU's memory behind a tensor, and the two ways kernels see it.

use crate::cpu::memory::{Memory, OutOfMemory};
use crate::storage::Storage;
use crate::{Device, Error, ErrorKind, Layout, Result, Scalar, Shape, Tensor};

/// Memory from the caching allocator.
#[derive(Debug)]
pub(crate) struct CpuStorage(Memory);

impl Storage for CpuStorage {
    fn device(&self) -> &Device {
        Device::cpu_ref()
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
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
    let memory = &x.storage().downcast::<CpuStorage>().0;
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
    Some(x.storage_mut()?.downcast_mut::<CpuStorage>().0.as_mut_slice())
}

/// A new tensor of a dense layout from the start of its memory, filled by `fill`, which gets its elements in memory order.
pub(crate) fn filled<T: Scalar>(layout: Layout, fill: impl FnOnce(&mut [T]) -> Result<()>) -> Result<Tensor> {
    let n = layout.shape().numel();
    let mut memory = Memory::new(n * size_of::<T>())?;
    fill(&mut memory.as_mut_slice::<T>()[..n])?;
    Ok(Tensor::filling(CpuStorage(memory), T::DTYPE, layout))
}

/// A new row-major tensor, filled by `fill`.
pub(crate) fn filled_shape<T: Scalar>(
    shape: Shape,
    fill: impl FnOnce(&mut [T]) -> Result<()>,
) -> Result<Tensor> {
    filled(Layout::contiguous(shape), fill)
}
