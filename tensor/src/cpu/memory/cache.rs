//! Freed blocks: small ones in lists of the thread that freed them, the rest in lists of the process.
//!
//! A thread's lists are last in, first out, so that a block is still in the processor's caches when it is used again. When they
//! hold too much they move to the process as a whole; so do they when the thread ends.

use super::class::{CLASSES, Class, SMALL_CLASSES};
use super::live::Tally;
use super::lock::SpinLock;
use super::{excess, live, release};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ptr::NonNull;

/// The only owner of a block that nobody uses.
pub(super) struct Block {
    pub(super) data: NonNull<u8>,
    pub(super) class: Class,
}

// SAFETY: owns its memory alone, and memory has no tie to a thread.
unsafe impl Send for Block {}

/// A cached block of this class, if there is one, which is then live.
#[inline]
pub(super) fn take(class: Class) -> Option<Block> {
    if class.is_small() {
        let own = LOCAL.try_with(|local| local.borrow_mut().take(class));
        if let Ok(Some(block)) = own {
            return Some(block);
        }
    }
    let block = SHARED.with(|shared| shared.take(class))?;
    count(class.capacity() as isize);
    Some(block)
}

/// Keeps a block, which was live, for the next request of its class.
pub(super) fn give(block: Block) {
    let mut block = Some(block);
    if block.as_ref().is_some_and(|block| block.class.is_small()) {
        // Fails only when this thread is ending and its lists are gone.
        _ = LOCAL.try_with(|local| local.borrow_mut().give(&mut block));
    }
    if let Some(block) = block {
        count(-(block.class.capacity() as isize));
        SHARED.with(|shared| shared.give(block));
        shrink();
    }
}

/// Counts bytes that became live on this thread, or are so no more.
pub(super) fn count(bytes: isize) {
    if LOCAL.try_with(|local| local.borrow_mut().tally.count(bytes)).is_err() {
        live::add(bytes, bytes);
    }
}

/// Tells the process what this thread has counted.
pub(super) fn tell() {
    _ = LOCAL.try_with(|local| local.borrow_mut().tally.tell());
}

/// Gives the oldest shared blocks back to the system until the cache is within its bound.
fn shrink() {
    while excess() > 0 {
        match SHARED.with(Shared::take_oldest) {
            Some(block) => release(block),
            None => break,
        }
    }
}

/// All cached blocks but those in the lists of other threads.
pub(super) fn drain() -> Vec<Block> {
    _ = LOCAL.try_with(|local| local.borrow_mut().move_to_shared());
    SHARED.with(|shared| std::iter::from_fn(|| shared.take_oldest()).collect())
}

/// Registers, once, handlers that hold the lock of the process's lists during `fork`: the child gets them whole and unlocked.
pub(super) fn keep_consistent_across_fork() {
    #[cfg(unix)]
    {
        use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

        extern "C" fn before() {
            SHARED.acquire();
        }
        extern "C" fn after() {
            // SAFETY: `before` acquired the lock on the thread that forked, which runs this on either side.
            unsafe { SHARED.release() }
        }
        static DONE: AtomicBool = AtomicBool::new(false);
        if !DONE.load(Relaxed) && !DONE.swap(true, Relaxed) {
            // SAFETY: the handlers only use the lock, an atomic.
            unsafe { libc::pthread_atfork(Some(before), Some(after), Some(after)) };
        }
    }
}

/// A thread keeps at most this many bytes.
const LOCAL_BYTES: usize = 8 << 20;

/// The lists of one thread.
struct Local {
    lists: [Vec<NonNull<u8>>; SMALL_CLASSES],
    bytes: usize,
    tally: Tally,
}

thread_local! {
    static LOCAL: RefCell<Local> =
        const { RefCell::new(Local { lists: [const { Vec::new() }; SMALL_CLASSES], bytes: 0, tally: Tally::ZERO }) };
}

impl Local {
    fn take(&mut self, class: Class) -> Option<Block> {
        let data = self.lists[class.rank()].pop()?;
        self.bytes -= class.capacity();
        self.tally.count(class.capacity() as isize);
        Some(Block { data, class })
    }

    /// Takes the block out of `block`.
    fn give(&mut self, block: &mut Option<Block>) {
        let Some(Block { data, class }) = block.take() else { return };
        self.bytes += class.capacity();
        self.tally.count(-(class.capacity() as isize));
        self.lists[class.rank()].push(data);
        if self.bytes > LOCAL_BYTES {
            self.move_to_shared();
            shrink();
        }
    }

    fn move_to_shared(&mut self) {
        self.bytes = 0;
        SHARED.with(|shared| {
            for (rank, list) in self.lists.iter_mut().enumerate() {
                let class = Class::with_rank(rank);
                list.drain(..).for_each(|data| shared.give(Block { data, class }));
            }
        });
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.move_to_shared();
        self.tally.tell();
    }
}

/// The lists of the process.
static SHARED: SpinLock<Shared> =
    SpinLock::new(Shared { lists: [const { VecDeque::new() }; CLASSES], clock: 0 });

struct Shared {
    /// Of each class, the blocks and when they came, oldest first.
    lists: [VecDeque<(u64, NonNull<u8>)>; CLASSES],
    clock: u64,
}

// SAFETY: owns its blocks alone, and they have no tie to a thread.
unsafe impl Send for Shared {}

impl Shared {
    fn take(&mut self, class: Class) -> Option<Block> {
        let (_, data) = self.lists[class.rank()].pop_back()?;
        Some(Block { data, class })
    }

    fn give(&mut self, block: Block) {
        self.clock += 1;
        self.lists[block.class.rank()].push_back((self.clock, block.data));
    }

    /// The block that has been here for the longest time.
    fn take_oldest(&mut self) -> Option<Block> {
        let fronts = self.lists.iter().enumerate().filter_map(|(rank, list)| Some((list.front()?.0, rank)));
        let (_, rank) = fronts.min()?;
        let (_, data) = self.lists[rank].pop_front()?;
        Some(Block { data, class: Class::with_rank(rank) })
    }
}
