//! The memory of tensors: blocks from a cache in front of the system's allocator.
//!
//! The first touch of a page costs far more than the arithmetic on it, and a training step asks for the same sizes over and over.
//! So a freed block is kept for the next request of its size class, first by the thread that freed it, then by the process, and
//! in the steady state nothing is asked of the system.
//!
//! Invariant: every byte of a block is initialised. The system hands it out zeroed, and afterwards it holds what its last user
//! wrote. So a new [`Memory`] has unspecified contents, and yet reading them is sound.

mod cache;
mod class;
mod live;
mod lock;
mod system;
#[cfg(test)]
mod tests;

use bytemuck::Pod;
use cache::Block;
use class::Class;
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Where a block begins is a multiple of this: one cache line, and the widest vector.
pub const ALIGNMENT: usize = 64;

/// A block of memory, aligned to [`ALIGNMENT`], that goes back to the cache when dropped, on whichever thread.
pub struct Memory {
    data: NonNull<u8>,
    bytes: usize,
    /// None for the empty block, which owns nothing.
    class: Option<Class>,
}

// SAFETY: a `Memory` owns its block alone, and the block has no tie to a thread.
unsafe impl Send for Memory {}
// SAFETY: through `&Memory` the bytes are only read.
unsafe impl Sync for Memory {}

impl Memory {
    /// A block of `bytes` bytes with unspecified contents; 0 is allowed and takes nothing.
    pub fn new(bytes: usize) -> Result<Memory, OutOfMemory> {
        Memory::take(bytes).map(|(memory, _)| memory)
    }

    /// A block of `bytes` zeros.
    pub fn zeroed(bytes: usize) -> Result<Memory, OutOfMemory> {
        let (mut memory, fresh) = Memory::take(bytes)?;
        if !fresh {
            memory.as_mut_slice::<u8>().fill(0);
        }
        Ok(memory)
    }

    /// A block, and whether it comes zeroed from the system.
    fn take(bytes: usize) -> Result<(Memory, bool), OutOfMemory> {
        if bytes == 0 {
            return Ok((Memory { data: dangling(), bytes, class: None }, true));
        }
        let class = Class::of(bytes).ok_or(OutOfMemory { bytes })?;
        let (block, fresh) = match cache::take(class) {
            Some(block) => (block, false),
            None => (allocate(class).ok_or(OutOfMemory { bytes })?, true),
        };
        Ok((Memory { data: block.data, bytes, class: Some(class) }, fresh))
    }

    /// The length in bytes, as asked for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The bytes as values of type `T`.
    ///
    /// # Panics
    /// If the length is not a multiple of the size of `T`, if that size is 0, or if `T` is aligned to more than [`ALIGNMENT`].
    pub fn as_slice<T: Pod>(&self) -> &[T] {
        let len = self.len_of::<T>();
        // SAFETY: the block holds `len` values (checked by `len_of`) of a type that any initialised bytes are valid for; its
        // bytes are initialised (see the module); `&self` keeps writers away.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr().cast(), len) }
    }

    /// The bytes as values of type `T`, to be written; panics like [`Memory::as_slice`].
    pub fn as_mut_slice<T: Pod>(&mut self) -> &mut [T] {
        let len = self.len_of::<T>();
        // SAFETY: as in `as_slice`, and `&mut self` makes the access exclusive; `T: Pod` has no padding, so what is written
        // is initialised.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr().cast(), len) }
    }

    /// The address of the first byte; dangling, but aligned, when the length is 0.
    pub fn as_ptr(&self) -> *const u8 {
        self.data.as_ptr()
    }

    /// The address of the first byte, to be written with initialised bytes only.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.data.as_ptr()
    }

    fn len_of<T>(&self) -> usize {
        let size = size_of::<T>();
        assert!(size > 0 && align_of::<T>() <= ALIGNMENT, "memory: no slice of such a type");
        assert!(
            self.bytes.is_multiple_of(size),
            "memory: {} bytes are no slice of {size}-byte values",
            self.bytes
        );
        self.bytes / size
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(class) = self.class {
            cache::give(Block { data: self.data, class });
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} bytes at {:p})", self.bytes, self.data)
    }
}

/// The error of [`Memory::new`]: the system has not as much, even after the cache was given back to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("out of memory: {bytes} bytes cannot be allocated")]
pub struct OutOfMemory {
    /// The size asked for.
    pub bytes: usize,
}

/// What [`memory_stats`] tells about the whole process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Bytes of the blocks in use, each rounded up to its size class (by at most an eighth above 512 bytes).
    pub live_bytes: usize,
    /// The most that `live_bytes` has been since the start, or since [`reset_peak`].
    pub peak_bytes: usize,
    /// Bytes taken from the system and kept for reuse.
    pub cached_bytes: usize,
    /// How often the system was asked for a block since the start.
    pub system_allocations: usize,
}

/// The memory in use and in the cache now: exact, but that other threads may be behind by 16 KB each.
pub fn memory_stats() -> MemoryStats {
    cache::tell();
    let live_bytes = live::now();
    MemoryStats {
        live_bytes,
        peak_bytes: live::peak().max(live_bytes),
        cached_bytes: HELD.load(Relaxed).saturating_sub(live_bytes),
        system_allocations: SYSTEM_ALLOCATIONS.load(Relaxed),
    }
}

/// Lets [`MemoryStats::peak_bytes`] start again from what is live now; the cache keeps its bound.
pub fn reset_peak() {
    cache::tell();
    FORMER_PEAK.fetch_max(live::reset_peak(), Relaxed);
}

/// Gives all cached memory back to the system, except what other threads keep in their own lists (8 MB each at most).
pub fn trim() {
    FORMER_PEAK.store(0, Relaxed);
    cache::drain().into_iter().for_each(release);
}

/// The highest peak that was reset.
static FORMER_PEAK: AtomicUsize = AtomicUsize::new(0);
/// Bytes taken from the system and not given back, in use or cached.
static HELD: AtomicUsize = AtomicUsize::new(0);
static SYSTEM_ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// The cache is never smaller than this before old blocks leave it.
const CACHE_FLOOR: usize = 256 << 20;

/// By how many bytes the cache exceeds its bound, the larger of 256 MB and the most that was ever live.
fn excess() -> usize {
    let bound = CACHE_FLOOR.max(live::peak()).max(FORMER_PEAK.load(Relaxed));
    HELD.load(Relaxed).saturating_sub(live::now()).saturating_sub(bound)
}

/// A zeroed block from the system, live from now on; it is asked a second time after the cache is given back.
fn allocate(class: Class) -> Option<Block> {
    cache::keep_consistent_across_fork();
    let bytes = class.capacity();
    let data = system::allocate(bytes).or_else(|| {
        trim();
        system::allocate(bytes)
    })?;
    HELD.fetch_add(bytes, Relaxed);
    SYSTEM_ALLOCATIONS.fetch_add(1, Relaxed);
    cache::count(bytes as isize);
    Some(Block { data, class })
}

/// Gives a block back to the system.
fn release(block: Block) {
    let bytes = block.class.capacity();
    // SAFETY: a `Block` is the only owner of memory that `allocate` got with its class's capacity.
    unsafe { system::release(block.data, bytes) };
    HELD.fetch_sub(bytes, Relaxed);
}

/// The address of the empty block.
fn dangling() -> NonNull<u8> {
    #[repr(align(64))]
    struct Line;
    const { assert!(align_of::<Line>() == ALIGNMENT) };
    NonNull::<Line>::dangling().cast()
}
