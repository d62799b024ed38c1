//! What the emulated driver knows: its memory, and what tests have asked of it.
//!
//! Memory is poisoned when it is allocated, and lies between guard zones that are checked when it is freed.

use super::graphs::Graphs;
use super::library::library;
use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The memory of the emulated GPU, unless [`limit_memory`] says otherwise.
pub const BYTES: usize = 1 << 30;

/// Bytes before and after each block that nobody may write.
const GUARD: usize = 256;
const POISON: u8 = 0xFF;

/// Of pinned host memory: a page.
const HOST_ALIGNMENT: usize = 4096;

pub(super) const SUCCESS: u32 = 0;
pub(super) const INVALID_VALUE: u32 = 1;
pub(super) const OUT_OF_MEMORY: u32 = 2;
pub(super) const LAUNCH_FAILED: u32 = 719;

pub(super) struct State {
    /// How many bytes all blocks together may have.
    limit: usize,
    /// Compute capability, major and minor.
    pub(super) capability: (i32, i32),
    /// The sizes of the blocks that are allocated, by address.
    blocks: BTreeMap<u64, usize>,
    /// The sizes of the blocks of host memory that are allocated, by address.
    host: BTreeMap<usize, usize>,
    /// The name of a function, and the code that it answers instead of doing its work.
    pub(super) fails: Option<(&'static str, u32)>,
    /// What was wrong with the last launch that failed.
    pub(super) report: Option<String>,
    /// Launches so far: the seed of the next one's order.
    pub(super) launches: u32,
    pub(super) graphs: Graphs,
}

static STATE: Mutex<State> = Mutex::new(State {
    limit: BYTES,
    capability: (8, 0),
    blocks: BTreeMap::new(),
    host: BTreeMap::new(),
    fails: None,
    report: None,
    launches: 0,
    graphs: Graphs::new(),
});

pub(super) fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was wrong with the last launch that failed; `None` if none has since the last call.
pub fn last_report() -> Option<String> {
    state().report.take()
}

/// How many blocks of memory are allocated, and their bytes.
pub fn allocated() -> (usize, usize) {
    let state = state();
    (state.blocks.len(), state.used())
}

/// How many graphs there are, those that can be launched among them.
pub fn graphs() -> usize {
    state().graphs.count()
}

/// Gives the emulated GPU this much memory: less than is in use leaves nothing.
pub fn limit_memory(bytes: usize) {
    state().limit = bytes;
}

/// Gives the emulated GPU a compute capability instead of (8, 0): (9, 0) is Hopper. Before the GPU is opened, which asks for it once.
pub fn set_compute_capability(major: i32, minor: i32) {
    state().capability = (major, minor);
}

/// Runs `f` while the driver function `name` answers `code` instead of doing its work: 2 from `cuMemAlloc_v2` is a GPU without
/// memory left.
pub fn failing<T>(name: &'static str, code: u32, f: impl FnOnce() -> T) -> T {
    state().fails = Some((name, code));
    let result = f();
    state().fails = None;
    result
}

impl State {
    fn used(&self) -> usize {
        self.blocks.values().sum()
    }

    /// How many bytes there are, and how many of them are free.
    pub(super) fn memory(&self) -> (usize, usize) {
        (self.limit, self.limit.saturating_sub(self.used()))
    }

    pub(super) fn allocate(&mut self, bytes: usize) -> Result<u64, u32> {
        if bytes == 0 {
            return Err(INVALID_VALUE);
        }
        if bytes > self.memory().1 {
            return Err(OUT_OF_MEMORY);
        }
        let whole = layout(bytes);
        // SAFETY: the layout is not empty.
        let base = unsafe { alloc(whole) };
        if base.is_null() {
            return Err(OUT_OF_MEMORY);
        }
        // SAFETY: the block has this size.
        unsafe { base.write_bytes(POISON, whole.size()) };
        let address = (base.expose_provenance() + GUARD) as u64;
        self.blocks.insert(address, bytes);
        if let Some(library) = library() {
            library.allocate(address, bytes);
        }
        Ok(address)
    }

    pub(super) fn free(&mut self, address: u64) -> u32 {
        let Some(bytes) = self.blocks.remove(&address) else { return INVALID_VALUE };
        if let Some(library) = library() {
            library.free(address);
        }
        let base: *mut u8 = ptr::with_exposed_provenance_mut(address as usize - GUARD);
        let whole = layout(bytes);
        // SAFETY: the block was allocated with this layout.
        let memory = unsafe { std::slice::from_raw_parts(base, whole.size()) };
        let intact = memory[..GUARD].iter().chain(&memory[GUARD + bytes..]).all(|&b| b == POISON);
        // SAFETY: as above, and nothing refers to it any more.
        unsafe { dealloc(base, whole) };
        if intact {
            return SUCCESS;
        }
        self.report = Some(format!("something was written around a block of {bytes} bytes"));
        LAUNCH_FAILED
    }

    pub(super) fn allocate_host(&mut self, bytes: usize) -> Result<*mut u8, u32> {
        let whole = Layout::from_size_align(bytes, HOST_ALIGNMENT).map_err(|_| INVALID_VALUE)?;
        if bytes == 0 {
            return Err(INVALID_VALUE);
        }
        // SAFETY: the layout is not empty.
        let block = unsafe { alloc(whole) };
        if block.is_null() {
            return Err(OUT_OF_MEMORY);
        }
        self.host.insert(block.expose_provenance(), bytes);
        Ok(block)
    }

    pub(super) fn free_host(&mut self, block: *mut u8) -> u32 {
        let Some(bytes) = self.host.remove(&block.expose_provenance()) else { return INVALID_VALUE };
        let Ok(whole) = Layout::from_size_align(bytes, HOST_ALIGNMENT) else { return INVALID_VALUE };
        // SAFETY: the block was allocated with this layout, and its owner gives it up.
        unsafe { dealloc(block, whole) };
        SUCCESS
    }

    /// Whether the bytes lie in one block.
    pub(super) fn holds(&self, address: u64, bytes: usize) -> bool {
        let found = self.blocks.range(..=address).next_back();
        found.is_some_and(|(base, size)| (address - base) as usize + bytes <= *size)
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes.next_multiple_of(256) + 2 * GUARD, 256)
        .expect("smaller than the emulated GPU")
}
