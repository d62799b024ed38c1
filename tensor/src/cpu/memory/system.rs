//! Blocks from the system: zeroed, and in huge pages where they are large enough.
//!
//! On Linux a block of 2 MB or more is mapped at a multiple of 2 MB and advised to use huge pages: the first touch of a page is
//! most of what fresh memory costs, and there are 512 times fewer of them.

use super::ALIGNMENT;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// `bytes` zeros aligned to [`ALIGNMENT`], or None when the system has not as much; `bytes` is not 0.
pub(super) fn allocate(bytes: usize) -> Option<NonNull<u8>> {
    if bytes >= HUGE_PAGE {
        return map(bytes);
    }
    let layout = Layout::from_size_align(bytes, ALIGNMENT).ok().filter(|layout| layout.size() > 0)?;
    // SAFETY: the size is not 0.
    NonNull::new(unsafe { alloc_zeroed(layout) })
}

/// Gives a block back.
///
/// # Safety
/// `data` came from [`allocate`] with the same `bytes`, and nobody uses it any more.
pub(super) unsafe fn release(data: NonNull<u8>, bytes: usize) {
    if bytes >= HUGE_PAGE {
        // SAFETY: the caller's promise.
        return unsafe { unmap(data, bytes) };
    }
    // SAFETY: `allocate` got it from `alloc_zeroed` with this layout, which was valid then.
    unsafe { dealloc(data.as_ptr(), Layout::from_size_align_unchecked(bytes, ALIGNMENT)) };
}

#[cfg(all(target_os = "linux", not(miri)))]
const HUGE_PAGE: usize = 2 << 20;

/// No block is as large: all come from the global allocator.
#[cfg(not(all(target_os = "linux", not(miri))))]
const HUGE_PAGE: usize = isize::MAX as usize;

#[cfg(all(target_os = "linux", not(miri)))]
fn map(bytes: usize) -> Option<NonNull<u8>> {
    // One huge page more than needed, to cut an aligned block out of it.
    let mapped = bytes.checked_add(HUGE_PAGE)?;
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at an address of the system's choice touches nothing that exists.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), mapped, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return None;
    }
    let start = start.cast::<u8>();
    let before = start.align_offset(HUGE_PAGE);
    let after = HUGE_PAGE - before;
    // SAFETY: `before + bytes + after == mapped`, and all three are multiples of the page size as `start` is (`bytes` is at
    // least 2 MB, so its class is a multiple of 256 KB): this gives back the two ends of our own mapping and advises the rest.
    unsafe {
        if before > 0 {
            libc::munmap(start.cast(), before);
        }
        let data = start.add(before);
        if after > 0 {
            libc::munmap(data.add(bytes).cast(), after);
        }
        // Only advice: without huge pages the block works all the same.
        libc::madvise(data.cast(), bytes, libc::MADV_HUGEPAGE);
        NonNull::new(data)
    }
}

/// # Safety
/// As [`release`], for a block from [`map`].
#[cfg(all(target_os = "linux", not(miri)))]
unsafe fn unmap(data: NonNull<u8>, bytes: usize) {
    // SAFETY: exactly the pages that `map` kept, which the caller has given up.
    unsafe { libc::munmap(data.as_ptr().cast(), bytes) };
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn map(_: usize) -> Option<NonNull<u8>> {
    None
}

/// # Safety
/// None: there is no block as large.
#[cfg(not(all(target_os = "linux", not(miri))))]
unsafe fn unmap(_: NonNull<u8>, _: usize) {}
