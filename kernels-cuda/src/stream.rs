//! Queues of work for a GPU.
//!
//! cust's own `Stream::new` drops the flag that makes a stream independent of the legacy stream 0, so these are made
//! by the driver's function.

use std::ptr;

use cust::sys::{self, CUstream, cudaError_enum};

use crate::driver::check_raw;
use crate::{Context, CudaError};

/// `CU_STREAM_NON_BLOCKING`: no waiting for stream 0, nor it for this one.
const NON_BLOCKING: u32 = 1;

/// A queue: what is put into it runs in that order, beside the work of other streams.
#[derive(Debug)]
pub struct Stream {
    context: Context,
    raw: CUstream,
}

// SAFETY: a stream belongs to a context, not to a thread, and the driver's functions may be called from any thread
// that has made that context current, which every method here does first.
unsafe impl Send for Stream {}
// SAFETY: as above; the driver locks its streams, so calls may overlap.
unsafe impl Sync for Stream {}

impl Stream {
    /// A new queue, empty.
    ///
    /// # Errors
    ///
    /// What the driver answered.
    pub fn new(context: Context) -> Result<Self, CudaError> {
        context.make_current()?;
        let mut raw = ptr::null_mut();
        // SAFETY: a context is current; `raw` is written.
        let answer = unsafe { sys::cuStreamCreate(&raw mut raw, NON_BLOCKING) };
        check_raw("cuStreamCreate", answer)?;
        Ok(Self { context, raw })
    }

    /// The GPU that it is for.
    pub fn context(&self) -> Context {
        self.context
    }

    /// The driver's handle, valid as long as `self`.
    pub fn as_raw(&self) -> CUstream {
        self.raw
    }

    /// Whether all that was put into the queue is done.
    ///
    /// # Errors
    ///
    /// What the driver answered, which may be the failure of earlier work.
    pub fn is_done(&self) -> Result<bool, CudaError> {
        self.context.make_current()?;
        // SAFETY: the stream lives as long as `self`.
        match unsafe { sys::cuStreamQuery(self.raw) } {
            cudaError_enum::CUDA_ERROR_NOT_READY => Ok(false),
            answer => check_raw("cuStreamQuery", answer).map(|()| true),
        }
    }

    /// Waits until all that was put into the queue is done.
    ///
    /// # Errors
    ///
    /// What the driver answered, which may be the failure of earlier work.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.context.make_current()?;
        // SAFETY: the stream lives as long as `self`.
        check_raw("cuStreamSynchronize", unsafe { sys::cuStreamSynchronize(self.raw) })
    }
}

impl Drop for Stream {
    /// Gives the handle back; work still in the queue is done all the same.
    fn drop(&mut self) {
        // Nobody can be told of a failure here, and it takes no memory with it but the stream's own.
        if self.context.make_current().is_ok() {
            // SAFETY: created by `new`, destroyed only here.
            let _ = unsafe { sys::cuStreamDestroy_v2(self.raw) };
        }
    }
}
