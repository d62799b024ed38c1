//! The GPU's memory behind a tensor, and where its elements begin.

use std::fmt;

use tensor::storage::Storage;
use tensor::{DType, Device, Layout, Result, Shape, Tensor};

use super::derived::{Derived, Purpose};
use super::walk::Operand;
use crate::gpu::{Block, Gpu};
use crate::launch::Pointer;

pub(crate) struct CudaStorage {
    block: Block,
    derived: Derived,
}

impl Storage for CudaStorage {
    fn device(&self) -> &Device {
        self.block.gpu().device.get().expect("a GPU has its device before it has tensors")
    }

    fn bytes(&self) -> usize {
        self.block.bytes()
    }
}

impl fmt::Debug for CudaStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of {} at {:#x}", self.block.bytes(), self.block.gpu().name, self.block.address())
    }
}

/// New memory for a tensor of a dense layout that begins at its start.
pub(crate) struct New {
    block: Block,
    layout: Layout,
    dtype: DType,
}

impl New {
    /// Memory for `layout`.
    pub(crate) fn of(gpu: &'static Gpu, layout: Layout, dtype: DType) -> Result<New> {
        Ok(New { block: Block::new(gpu, layout.shape().numel() * dtype.size())?, layout, dtype })
    }

    /// Memory for a row-major tensor.
    pub(crate) fn contiguous(gpu: &'static Gpu, shape: impl Into<Shape>, dtype: DType) -> Result<New> {
        New::of(gpu, Layout::contiguous(shape.into()), dtype)
    }

    pub(crate) fn block(&mut self) -> &mut Block {
        &mut self.block
    }

    /// Where it begins.
    pub(crate) fn at(&self) -> Pointer {
        Pointer(self.block.address())
    }

    pub(crate) fn operand(&self) -> Operand {
        Operand { layout: self.layout, at: self.at(), size: self.dtype.size() }
    }

    /// The tensor that fills it.
    pub(crate) fn tensor(self) -> Result<Tensor> {
        let storage = CudaStorage { block: self.block, derived: Derived::default() };
        Tensor::from_storage(storage, self.dtype, self.layout)
    }
}

/// A tensor over memory that somebody else has allocated, and frees.
pub(crate) fn lent(
    gpu: &'static Gpu,
    address: u64,
    bytes: usize,
    dtype: DType,
    layout: Layout,
) -> Result<Tensor> {
    let storage = CudaStorage { block: Block::lent(gpu, address, bytes), derived: Derived::never() };
    Tensor::from_storage(storage, dtype, layout)
}

fn storage(x: &Tensor) -> &CudaStorage {
    x.storage().downcast()
}

/// The memory of a tensor changes in place: what was derived from it ends.
pub(crate) fn changes(x: &Tensor) {
    storage(x).derived.clear();
}

/// From now on others may write to the memory of a tensor.
pub(crate) fn is_exposed(x: &Tensor) {
    storage(x).derived.end();
}

/// A copy of a tensor in new memory, filled up to so many channels: that of the last call, if the memory has not changed since then.
pub(crate) fn derived(x: &Tensor, channels: usize, make: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
    let CudaStorage { block, derived } = storage(x);
    derived.copy(block.gpu(), Purpose { view: *x.layout(), dtype: x.dtype(), channels }, make)
}

/// The memory behind a tensor, and where its first element lies in it, in bytes.
pub(crate) fn memory(x: &Tensor) -> (&Block, usize) {
    (&storage(x).block, x.layout().offset() * x.dtype().size())
}

/// Where the first element of a tensor lies.
pub(crate) fn at(x: &Tensor) -> Pointer {
    let (block, start) = memory(x);
    Pointer(block.address() + start as u64)
}

pub(crate) fn operand(x: &Tensor) -> Operand {
    Operand { layout: *x.layout(), at: at(x), size: x.dtype().size() }
}

/// As an operand of another shape: the caller has made its layout.
pub(crate) fn operand_as(x: &Tensor, layout: Layout) -> Operand {
    let start = (layout.offset() * x.dtype().size()) as u64;
    Operand { layout, at: Pointer(memory(x).0.address() + start), size: x.dtype().size() }
}
