//! Marks in a queue of work, which the host can wait for.

use std::ptr;

use cust::sys::{self, CUevent};

use crate::driver::check_raw;
use crate::{Context, CudaError, stream::Stream};

/// `CU_EVENT_DISABLE_TIMING`: cheaper, and all that waiting needs.
const WITHOUT_TIMING: u32 = 2;

/// A mark: done when all that was in the queue before it is done.
#[derive(Debug)]
pub struct Event {
    context: Context,
    raw: CUevent,
}

// SAFETY: an event belongs to a context, not to a thread, and the driver's functions may be called from any thread
// that has made that context current, which every method here does first.
unsafe impl Send for Event {}
// SAFETY: as above; the driver locks its events, so calls may overlap.
unsafe impl Sync for Event {}

impl Event {
    /// A mark that is nowhere yet, and counts as done.
    ///
    /// # Errors
    ///
    /// What the driver answered.
    pub fn new(context: Context) -> Result<Self, CudaError> {
        context.make_current()?;
        let mut raw = ptr::null_mut();
        // SAFETY: a context is current; `raw` is written.
        check_raw("cuEventCreate", unsafe { sys::cuEventCreate(&raw mut raw, WITHOUT_TIMING) })?;
        Ok(Self { context, raw })
    }

    /// Puts the mark at the end of the queue, and takes it away from where it was.
    ///
    /// # Errors
    ///
    /// What the driver answered.
    pub fn record(&self, stream: &Stream) -> Result<(), CudaError> {
        self.context.make_current()?;
        // SAFETY: the event lives as long as `self`, and the stream is borrowed.
        check_raw("cuEventRecord", unsafe { sys::cuEventRecord(self.raw, stream.as_raw()) })
    }

    /// Waits until all before the mark is done.
    ///
    /// # Errors
    ///
    /// What the driver answered, which may be the failure of earlier work.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.context.make_current()?;
        // SAFETY: the event lives as long as `self`.
        check_raw("cuEventSynchronize", unsafe { sys::cuEventSynchronize(self.raw) })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // Nobody can be told of a failure here.
        if self.context.make_current().is_ok() {
            // SAFETY: created by `new`, destroyed only here.
            let _ = unsafe { sys::cuEventDestroy_v2(self.raw) };
        }
    }
}
