//! The GPU's memory behind a tensor, and where its elements begin.

use std::fmt;

use tensor::storage::Storage;
use tensor::{DType, Device, Layout, Result, Shape, Tensor};

use super::walk::Operand;
use crate::gpu::{Block, Gpu};
use crate::launch::Pointer;

pub(crate) struct CudaStorage(Block);

impl Storage for CudaStorage {
    fn device(&self) -> &Device {
        self.0.gpu().device.get().expect("a GPU has its device before it has tensors")
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

impl fmt::Debug for CudaStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of {} at {:#x}", self.0.bytes(), self.0.gpu().name, self.0.address())
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
        Tensor::from_storage(CudaStorage(self.block), self.dtype, self.layout)
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
    Tensor::from_storage(CudaStorage(Block::lent(gpu, address, bytes)), dtype, layout)
}

/// The memory behind a tensor, and where its first element lies in it, in bytes.
pub(crate) fn memory(x: &Tensor) -> (&Block, usize) {
    (&x.storage().downcast::<CudaStorage>().0, x.layout().offset() * x.dtype().size())
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
