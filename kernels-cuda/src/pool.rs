//! The caching allocator of a GPU: blocks are cut from slabs of 2 MiB and more, and used again in the order of the stream.
//!
//! There is one stream for each GPU, and all its work is put there: a block that is given back may be taken at once, as what is
//! done with it next comes later in that order. So neither taking nor giving waits for the GPU.
//!
//! A graph has memory of its own: what is taken while its work is recorded comes from slabs that nobody else takes from, and whatever
//! was taken before, and may be read by a replay, is not used again before the graph is gone.
//!
//! In the emulator each block is an allocation of its own, of the exact size, so that a step over its end is found.

use std::collections::{BTreeMap, BTreeSet};
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
    /// What belongs to graphs, by number.
    reserves: BTreeMap<u64, Reserve>,
    /// The reserve of the capture under way.
    open: Option<u64>,
    /// Blocks that were given back, and are kept for a graph.
    kept: BTreeSet<u64>,
    stats: MemoryStats,
    held: usize,
}

/// The memory of a graph.
struct Reserve {
    small: Slabs,
    large: Slabs,
    /// Blocks of others that it may use.
    borrowed: BTreeSet<u64>,
}

impl Pool {
    pub(crate) fn new(context: Context) -> Pool {
        let stats = MemoryStats { live_bytes: 0, peak_bytes: 0, cached_bytes: 0, system_allocations: 0 };
        let (small, large) = (Slabs::new(GRAIN), Slabs::new(SLAB));
        let (slabs, exact, reserves, kept) = Default::default();
        let state = State { small, large, slabs, exact, reserves, open: None, kept, stats, held: 0 };
        Pool { context, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address of a block of at least `bytes` bytes, which are not 0; from the open reserve if `captured`.
    ///
    /// # Errors
    ///
    /// [`CudaError::OutOfMemory`] if they do not fit even after the cache was emptied.
    pub(crate) fn take(&self, bytes: usize, captured: bool) -> Result<u64, CudaError> {
        let mut state = self.state();
        match state.take(self.context, bytes, captured) {
            // The driver waits for the GPU when memory is freed, which a capture forbids.
            Err(CudaError::OutOfMemory { .. }) if state.open.is_none() => {
                state.empty_cache();
                state.take(self.context, bytes, captured)
            }
            taken => taken,
        }
    }

    /// Takes a block back that [`take`](Self::take) gave.
    pub(crate) fn give(&self, address: u64) {
        let mut state = self.state();
        let bytes = state.bytes_of(address);
        state.stats.live_bytes -= bytes;
        if state.reserves.values().any(|reserve| reserve.borrowed.contains(&address)) {
            state.kept.insert(address);
        } else {
            state.give(address);
        }
    }

    /// Gives slabs without a block in use back to the driver, which waits for the GPU; not while work is captured.
    pub(crate) fn empty_cache(&self) {
        let mut state = self.state();
        if state.open.is_none() {
            state.empty_cache();
        }
    }

    /// Begins a reserve: until it is [closed](Self::close_reserve) blocks are taken for it, and all others that are in use, or come to
    /// be, are kept for it.
    pub(crate) fn open_reserve(&self) -> u64 {
        let mut state = self.state();
        let borrowed = state.in_use();
        let id = state.reserves.last_key_value().map_or(0, |(last, _)| last + 1);
        state.reserves.insert(id, Reserve { small: Slabs::new(GRAIN), large: Slabs::new(SLAB), borrowed });
        state.open = Some(id);
        id
    }

    /// Nothing more is taken for the open reserve.
    pub(crate) fn close_reserve(&self) {
        self.state().open = None;
    }

    /// The memory of a reserve belongs to all again, now or when its blocks are given back.
    pub(crate) fn drop_reserve(&self, id: u64) {
        let mut state = self.state();
        let Some(Reserve { small, large, borrowed }) = state.reserves.remove(&id) else { return };
        state.small.join(small);
        state.large.join(large);
        for address in borrowed {
            let elsewhere = state.reserves.values().any(|reserve| reserve.borrowed.contains(&address));
            if !elsewhere && state.kept.remove(&address) {
                state.give(address);
            }
        }
    }

    pub(crate) fn stats(&self) -> MemoryStats {
        let state = self.state();
        let mut stats = state.stats;
        stats.cached_bytes = state.held.saturating_sub(stats.live_bytes);
        stats
    }
}

impl State {
    fn take(&mut self, context: Context, bytes: usize, captured: bool) -> Result<u64, CudaError> {
        let reserve = self.open.filter(|_| captured);
        if emulator::installed() && !emulator::caches() {
            let memory = Memory::new(context, bytes)?;
            let address = memory.address();
            self.exact.insert(address, memory);
            self.held += bytes;
            self.took(bytes);
            self.stats.system_allocations += 1;
            self.borrow(address);
            return Ok(address);
        }
        let size = self.slabs_for(bytes, reserve).size_of_block(bytes);
        let address = match self.slabs_for(bytes, reserve).take(bytes) {
            Some(address) => address,
            None => {
                let (at, length) = self.slab(context, size, reserve.is_some())?;
                let slabs = self.slabs_for(bytes, reserve);
                slabs.add(at, length);
                slabs.take(bytes).expect("the new slab is long enough")
            }
        };
        self.took(size);
        if reserve.is_none() {
            self.borrow(address);
        }
        Ok(address)
    }

    /// Where blocks for so many bytes come from.
    fn slabs_for(&mut self, bytes: usize, reserve: Option<u64>) -> &mut Slabs {
        let (small, large) = match reserve.and_then(|id| self.reserves.get_mut(&id)) {
            Some(reserve) => (&mut reserve.small, &mut reserve.large),
            None => (&mut self.small, &mut self.large),
        };
        if bytes <= SMALL { small } else { large }
    }

    /// A slab that holds a block of `size` bytes, one without a block in use if that may be; its address and length.
    fn slab(&mut self, context: Context, size: usize, reused: bool) -> Result<(u64, usize), CudaError> {
        let unused = reused.then(|| self.small.take_slab(size).or_else(|| self.large.take_slab(size)));
        if let Some(slab) = unused.flatten() {
            return Ok(slab);
        }
        let memory = Memory::new(context, size.next_multiple_of(SLAB))?;
        let slab = (memory.address(), memory.len());
        self.held += memory.len();
        self.slabs.insert(memory.address(), memory);
        self.stats.system_allocations += 1;
        Ok(slab)
    }

    /// A block of others than the open reserve, which the recorded work may use.
    fn borrow(&mut self, address: u64) {
        if let Some(reserve) = self.open.and_then(|id| self.reserves.get_mut(&id)) {
            reserve.borrowed.insert(address);
        }
    }

    /// All slabs there are.
    fn all(&self) -> impl Iterator<Item = &Slabs> {
        let of_reserves = self.reserves.values().flat_map(|reserve| [&reserve.small, &reserve.large]);
        [&self.small, &self.large].into_iter().chain(of_reserves)
    }

    /// All blocks that are not free.
    fn in_use(&self) -> BTreeSet<u64> {
        self.all().flat_map(Slabs::taken).chain(self.exact.keys().copied()).collect()
    }

    /// How long a block is that is not free.
    fn bytes_of(&self, address: u64) -> usize {
        let exact = self.exact.get(&address).map(Memory::len);
        let found = exact.or_else(|| self.all().find_map(|slabs| slabs.bytes_of(address)));
        found.expect("a block is given back once")
    }

    fn took(&mut self, bytes: usize) {
        self.stats.live_bytes += bytes;
        self.stats.peak_bytes = self.stats.peak_bytes.max(self.stats.live_bytes);
    }

    /// Frees a block.
    fn give(&mut self, address: u64) {
        if let Some(memory) = self.exact.remove(&address) {
            self.held -= memory.len();
            return;
        }
        let of_reserves =
            self.reserves.values_mut().flat_map(|reserve| [&mut reserve.small, &mut reserve.large]);
        let mut all = [&mut self.small, &mut self.large].into_iter().chain(of_reserves);
        let slabs = all.find(|slabs| slabs.bytes_of(address).is_some());
        slabs.expect("a block lies in a slab").give(address);
    }

    fn empty_cache(&mut self) {
        for address in self.small.drop_unused().into_iter().chain(self.large.drop_unused()) {
            let memory = self.slabs.remove(&address).expect("each slab has its memory");
            self.held -= memory.len();
        }
    }
}
