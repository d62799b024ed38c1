//! Transfers through pinned memory: the GPU copies from and to it by itself, while the host fills or empties the other half.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use cust::sys;

use crate::driver::check_raw;
use crate::{Context, CudaError, event::Event, stream::Stream};

/// Bytes of a half: large enough for the bus, small enough to stay in a cache.
const HALF: usize = 4 << 20;

/// Two blocks of pinned host memory, each with a mark for the copy that uses it.
pub(crate) struct Staging {
    halves: [Half; 2],
}

struct Half {
    memory: Pinned,
    done: Event,
}

impl Staging {
    pub(crate) fn new(context: Context) -> Result<Staging, CudaError> {
        let half = || Ok(Half { memory: Pinned::new(context, HALF)?, done: Event::new(context)? });
        Ok(Staging { halves: [half()?, half()?] })
    }

    /// Copies `host` to the GPU's memory at `to`, after the work in `stream`. Returns when `host` has been read.
    ///
    /// # Safety
    ///
    /// The GPU's memory is as long as `host`, and nobody else touches it before the stream comes to the end of the copy.
    pub(crate) unsafe fn upload(&mut self, to: u64, host: &[u8], stream: &Stream) -> Result<(), CudaError> {
        stream.context().make_current()?;
        for (i, part) in host.chunks(HALF).enumerate() {
            let half = &mut self.halves[i % 2];
            half.done.synchronize()?;
            half.memory.as_mut_slice()[..part.len()].copy_from_slice(part);
            let (to, from) = (to + (i * HALF) as u64, half.memory.address());
            // SAFETY: the caller vouches for `to`; the pinned block is not written before its mark is done.
            let answer = unsafe { sys::cuMemcpyHtoDAsync_v2(to, from, part.len(), stream.as_raw()) };
            check_raw("cuMemcpyHtoDAsync_v2", answer)?;
            half.done.record(stream)?;
        }
        Ok(())
    }

    /// Copies the GPU's memory at `from` to `host`, after the work in `stream`; returns when that is done.
    ///
    /// # Safety
    ///
    /// The GPU's memory is as long as `host`, and nobody writes it before this returns.
    pub(crate) unsafe fn download(
        &mut self,
        from: u64,
        host: &mut [u8],
        stream: &Stream,
    ) -> Result<(), CudaError> {
        stream.context().make_current()?;
        let mut parts = host.chunks_mut(HALF).enumerate();
        let mut before: Option<(usize, &mut [u8])> = None;
        loop {
            let next = parts.next();
            if let Some((i, part)) = &next {
                let half = &mut self.halves[i % 2];
                half.done.synchronize()?;
                let (from, to) = (from + (i * HALF) as u64, half.memory.address_mut());
                // SAFETY: the caller vouches for `from`; the pinned block is neither read nor written before its mark is done.
                let answer = unsafe { sys::cuMemcpyDtoHAsync_v2(to, from, part.len(), stream.as_raw()) };
                check_raw("cuMemcpyDtoHAsync_v2", answer)?;
                half.done.record(stream)?;
            }
            if let Some((i, part)) = before {
                let half = &mut self.halves[i % 2];
                half.done.synchronize()?;
                part.copy_from_slice(&half.memory.as_mut_slice()[..part.len()]);
            }
            if next.is_none() {
                return Ok(());
            }
            before = next;
        }
    }
}

/// Host memory that stays where it is, so that the GPU can reach it.
struct Pinned {
    context: Context,
    memory: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a block of memory with one owner; the driver's functions may be called from any thread that has made the context current.
unsafe impl Send for Pinned {}

impl Pinned {
    fn new(context: Context, bytes: usize) -> Result<Pinned, CudaError> {
        context.make_current()?;
        let mut memory: *mut c_void = ptr::null_mut();
        // SAFETY: a context is current; `memory` is written.
        check_raw("cuMemHostAlloc", unsafe { sys::cuMemHostAlloc(&raw mut memory, bytes, 0) })?;
        let memory = NonNull::new(memory.cast::<u8>()).expect("the driver answered success");
        // SAFETY: the block has this size; from here on it is initialised.
        unsafe { memory.write_bytes(0, bytes) };
        Ok(Pinned { context, memory, bytes })
    }

    fn address(&self) -> *const c_void {
        self.memory.as_ptr().cast()
    }

    fn address_mut(&mut self) -> *mut c_void {
        self.memory.as_ptr().cast()
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: the block has this size, is initialised, and belongs to `self`, of whose copies the callers await the end.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Nobody can be told of a failure here.
        if self.context.make_current().is_ok() {
            // SAFETY: allocated by `new`, freed only here.
            let _ = unsafe { sys::cuMemFreeHost(self.memory.as_ptr().cast()) };
        }
    }
}
