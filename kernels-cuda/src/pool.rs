//! The caching allocator of a GPU: blocks are cut from slabs of 2 MiB and more, and used again in the order of the stream.
//!
//! There is one stream for each GPU, and all its work is put there: a block that is given back may be taken at once, as what is
//! done with it next comes later in that order. So neither taking nor giving waits for the GPU.
//!
//! In the emulator each block is an allocation of its own, of the exact size, so that a step over its end is found.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tensor::MemoryStats;

use crate::slabs::Slabs;
use crate::{Context, CudaError, emulator, memory::Memory};

/// What a slab has at least, and multiples of which larger ones have. Tensors in TMA descriptors want so much mapped memory.
const SLAB: usize = 2 << 20;

/// Blocks up to this size share slabs.
const SMALL: usize = SLAB / 2;

/// What small blocks have multiples of.
const GRAIN: usize = 512;

pub(crate) struct Pool {
    context: Context,
    state: Mutex<State>,
}

struct State {
    small: Slabs,
    large: Slabs,
    /// The driver's allocations behind the slabs, by address.
    slabs: BTreeMap<u64, Memory>,
    /// Blocks that have an allocation of their own.
    exact: BTreeMap<u64, Memory>,
    stats: MemoryStats,
    held: usize,
}

impl Pool {
    pub(crate) fn new(context: Context) -> Pool {
        let stats = MemoryStats { live_bytes: 0, peak_bytes: 0, cached_bytes: 0, system_allocations: 0 };
        let (small, large) = (Slabs::new(GRAIN), Slabs::new(SLAB));
        let (slabs, exact) = (BTreeMap::new(), BTreeMap::new());
        Pool { context, state: Mutex::new(State { small, large, slabs, exact, stats, held: 0 }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address of a block of at least `bytes` bytes, which are not 0.
    ///
    /// # Errors
    ///
    /// [`CudaError::OutOfMemory`] if they do not fit even after the cache was emptied.
    pub(crate) fn take(&self, bytes: usize) -> Result<u64, CudaError> {
        let mut state = self.state();
        match state.take(self.context, bytes) {
            Err(CudaError::OutOfMemory { .. }) => {
                state.empty_cache();
                state.take(self.context, bytes)
            }
            taken => taken,
        }
    }

    /// Takes a block back that [`take`](Self::take) gave for so many bytes.
    pub(crate) fn give(&self, address: u64, bytes: usize) {
        self.state().give(address, bytes);
    }

    /// Gives slabs without a block in use back to the driver, which waits for the GPU.
    pub(crate) fn empty_cache(&self) {
        self.state().empty_cache();
    }

    pub(crate) fn stats(&self) -> MemoryStats {
        let state = self.state();
        let mut stats = state.stats;
        stats.cached_bytes = state.held.saturating_sub(stats.live_bytes);
        stats
    }
}

impl State {
    fn take(&mut self, context: Context, bytes: usize) -> Result<u64, CudaError> {
        if emulator::installed() && !emulator::caches() {
            let memory = Memory::new(context, bytes)?;
            let address = memory.address();
            self.exact.insert(address, memory);
            self.held += bytes;
            self.took(bytes);
            self.stats.system_allocations += 1;
            return Ok(address);
        }
        let slabs = if bytes <= SMALL { &mut self.small } else { &mut self.large };
        let size = slabs.size_of_block(bytes);
        let address = match slabs.take(bytes) {
            Some(address) => address,
            None => {
                let memory = Memory::new(context, size.next_multiple_of(SLAB))?;
                slabs.add(memory.address(), memory.len());
                self.held += memory.len();
                self.slabs.insert(memory.address(), memory);
                self.stats.system_allocations += 1;
                slabs.take(bytes).expect("the new slab is long enough")
            }
        };
        self.took(size);
        Ok(address)
    }

    fn took(&mut self, bytes: usize) {
        self.stats.live_bytes += bytes;
        self.stats.peak_bytes = self.stats.peak_bytes.max(self.stats.live_bytes);
    }

    fn give(&mut self, address: u64, bytes: usize) {
        if let Some(memory) = self.exact.remove(&address) {
            self.held -= memory.len();
            self.stats.live_bytes -= memory.len();
            return;
        }
        let slabs = if bytes <= SMALL { &mut self.small } else { &mut self.large };
        self.stats.live_bytes -= slabs.give(address);
    }

    fn empty_cache(&mut self) {
        for address in self.small.drop_unused().into_iter().chain(self.large.drop_unused()) {
            let memory = self.slabs.remove(&address).expect("each slab has its memory");
            self.held -= memory.len();
        }
    }
}
