//! Memory of a GPU, and copies between it and the host.
//!
//! Each block is an allocation of the driver's own, which costs microseconds and waits for the GPU when freed: good
//! for data that lives long. Tensors share slabs of them.

use std::ffi::c_void;

use cust::sys::{self, CUdeviceptr, cudaError_enum};

use crate::driver::check_raw;
use crate::{Context, CudaError, stream::Stream};

/// A block of a GPU's memory, aligned to 256 bytes at least; of unspecified content until written.
#[derive(Debug)]
pub struct Memory {
    context: Context,
    address: CUdeviceptr,
    bytes: usize,
}

impl Memory {
    /// A block of `bytes` bytes. None at all are allocated for 0.
    ///
    /// # Errors
    ///
    /// [`CudaError::OutOfMemory`] if they do not fit, or what the driver answered.
    pub fn new(context: Context, bytes: usize) -> Result<Self, CudaError> {
        let mut memory = Self { context, address: 0, bytes };
        if bytes == 0 {
            return Ok(memory);
        }
        context.make_current()?;
        // SAFETY: a context is current; the address is written on success only, and stays 0 otherwise.
        match unsafe { sys::cuMemAlloc_v2(&raw mut memory.address, bytes) } {
            cudaError_enum::CUDA_ERROR_OUT_OF_MEMORY => Err(out_of_memory(context, bytes)),
            answer => check_raw("cuMemAlloc_v2", answer).map(|()| memory),
        }
    }

    /// The GPU that it belongs to.
    pub fn context(&self) -> Context {
        self.context
    }

    /// Where it begins in the GPU's address space; 0 if it is empty.
    pub fn address(&self) -> CUdeviceptr {
        self.address
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Copies `host` to the beginning of this block, after the work in `stream`; returns when that is done.
    ///
    /// # Errors
    ///
    /// What the driver answered.
    ///
    /// # Panics
    ///
    /// If the block is shorter than `host` or belongs to another GPU than `stream`.
    pub fn write(&mut self, host: &[u8], stream: &Stream) -> Result<(), CudaError> {
        self.assert_holds(host.len(), stream);
        if host.is_empty() {
            return Ok(());
        }
        self.context.make_current()?;
        let from = host.as_ptr().cast::<c_void>();
        // SAFETY: the block holds `host.len()` bytes (asserted above), and `host` outlives the copy, which has ended
        // when `synchronize` returns, be it with an error.
        let answer = unsafe { sys::cuMemcpyHtoDAsync_v2(self.address, from, host.len(), stream.as_raw()) };
        check_raw("cuMemcpyHtoDAsync_v2", answer)?;
        stream.synchronize()
    }

    /// Copies the beginning of this block to `host`, after the work in `stream`; returns when that is done.
    ///
    /// # Errors
    ///
    /// What the driver answered; `host` is then of unspecified content.
    ///
    /// # Panics
    ///
    /// If the block is shorter than `host` or belongs to another GPU than `stream`.
    pub fn read(&self, host: &mut [u8], stream: &Stream) -> Result<(), CudaError> {
        self.assert_holds(host.len(), stream);
        if host.is_empty() {
            return Ok(());
        }
        self.context.make_current()?;
        let to = host.as_mut_ptr().cast::<c_void>();
        // SAFETY: as in `write`; `host` is borrowed mutably until the copy has ended.
        let answer = unsafe { sys::cuMemcpyDtoHAsync_v2(to, self.address, host.len(), stream.as_raw()) };
        check_raw("cuMemcpyDtoHAsync_v2", answer)?;
        stream.synchronize()
    }

    fn assert_holds(&self, bytes: usize, stream: &Stream) {
        assert!(bytes <= self.bytes, "{bytes} bytes do not fit a block of {}", self.bytes);
        assert!(self.context == stream.context(), "a stream of one GPU and memory of another");
    }
}

impl Drop for Memory {
    /// Frees it, after all work of the GPU that may use it.
    fn drop(&mut self) {
        // Nobody can be told of a failure here. If the context fails, so has everything in it.
        if self.address != 0 && self.context.make_current().is_ok() {
            // SAFETY: allocated by `new`, freed only here; `cuMemFree` waits for work that uses it.
            let _ = unsafe { sys::cuMemFree_v2(self.address) };
        }
    }
}

/// How many bytes of a GPU are free, and how many it has.
pub(crate) fn free_and_total(context: Context) -> Result<(usize, usize), CudaError> {
    context.make_current()?;
    let (mut free, mut total) = (0, 0);
    // SAFETY: a context is current; both are written.
    check_raw("cuMemGetInfo_v2", unsafe { sys::cuMemGetInfo_v2(&raw mut free, &raw mut total) })?;
    Ok((free, total))
}

fn out_of_memory(context: Context, requested: usize) -> CudaError {
    // Without an answer 0 bytes are free, which is near the truth.
    let (free, total) = free_and_total(context).unwrap_or((0, context.info().total_memory));
    CudaError::OutOfMemory { index: context.info().index, requested, free, total }
}
