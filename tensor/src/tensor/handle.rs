//! The pointer behind a tensor: a counted one to what the tensor is, made and given back without the system's allocator.
//!
//! `Arc` would do, and did: but an op on a few elements makes and drops one such block, and half of its time went into
//! `malloc`, `free`, and a count of weak references that nobody takes. Blocks of one size are kept for reuse by the thread that
//! freed them, a few of them, so in the steady state none is asked of the system.

use super::View;
use crate::DType;
use crate::storage::Storage;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

/// A counted pointer to a [`View`], which is dropped with the last of them.
pub(super) struct Handle(NonNull<Counted>);

/// What a handle points to.
#[repr(C)]
struct Counted<S: ?Sized = dyn Storage> {
    handles: AtomicUsize,
    view: View<S>,
}

// SAFETY: a handle gives shared access to a `View` of a `Storage`, which is `Send` and `Sync`, and the last handle, on
// whichever thread, drops it.
unsafe impl Send for Handle {}
// SAFETY: as above; `&Handle` gives no more than `&View`, and clones.
unsafe impl Sync for Handle {}

impl Handle {
    /// The only handle to a view of these fields.
    #[inline]
    pub(super) fn new<S: Storage>(layout: &crate::Layout, dtype: DType, borrows: bool, storage: S) -> Handle {
        Handle(Self::made(layout, dtype, borrows, storage))
    }

    /// As [`new`](Self::new), for a view from the start of the storage, whose place comes with it.
    #[inline]
    pub(super) fn filling<S: Storage>(
        layout: &crate::Layout,
        dtype: DType,
        storage: S,
    ) -> (Handle, NonNull<S>) {
        let block = Self::made(layout, dtype, false, storage);
        let counted = block.as_ptr();
        // SAFETY: the block was made just now, and nobody else has it.
        let storage = unsafe {
            (*counted).view.layout.move_to_start();
            NonNull::new_unchecked(&raw mut (*counted).view.storage)
        };
        (Handle(block), storage)
    }

    /// A view of these fields. The layout goes straight to its place: a copy on the way would have to wait for the small writes
    /// that made it.
    #[inline]
    fn made<S: Storage>(
        layout: &crate::Layout,
        dtype: DType,
        borrows: bool,
        storage: S,
    ) -> NonNull<Counted<S>> {
        let block = take(Layout::new::<Counted<S>>()).cast::<Counted<S>>();
        let counted = block.as_ptr();
        // SAFETY: the block is new, and as large and aligned as a `Counted`; every field is written.
        unsafe {
            (&raw mut (*counted).handles).write(AtomicUsize::new(1));
            (&raw mut (*counted).view.layout).copy_from_nonoverlapping(layout, 1);
            (&raw mut (*counted).view.dtype).write(dtype);
            (&raw mut (*counted).view.borrows).write(borrows);
            (&raw mut (*counted).view.storage).write(storage);
        }
        block
    }

    /// The view to write to, if no other handle is left.
    #[inline]
    pub(super) fn get_mut(&mut self) -> Option<&mut View> {
        // Acquire: what other handles did before they were dropped is done.
        if self.counted().handles.load(Ordering::Acquire) != 1 {
            return None;
        }
        // SAFETY: there is no other handle, and `&mut self` keeps this one from being cloned or read.
        Some(unsafe { &mut self.0.as_mut().view })
    }

    /// Whether both point to the same view.
    #[inline]
    pub(super) fn same(&self, other: &Handle) -> bool {
        std::ptr::addr_eq(self.0.as_ptr(), other.0.as_ptr())
    }

    #[inline]
    fn counted(&self) -> &Counted {
        // SAFETY: the block lives as long as a handle to it.
        unsafe { self.0.as_ref() }
    }
}

impl Deref for Handle {
    type Target = View;

    #[inline]
    fn deref(&self) -> &View {
        &self.counted().view
    }
}

impl Clone for Handle {
    #[inline]
    fn clone(&self) -> Handle {
        // Relaxed: a new handle comes from one that is there.
        let before = self.counted().handles.fetch_add(1, Ordering::Relaxed);
        if before > isize::MAX as usize {
            // Only handles that were leaked can be so many; one more could make the count wrap around.
            std::process::abort();
        }
        Handle(self.0)
    }
}

impl Drop for Handle {
    #[inline]
    fn drop(&mut self) {
        let handles = &self.counted().handles;
        // The only handle need not count down: nobody else is there to clone it, and a load costs less.
        if handles.load(Ordering::Acquire) == 1 || handles.fetch_sub(1, Ordering::Release) == 1 {
            // What was done through the other handles happens before the drop.
            fence(Ordering::Acquire);
            let layout = Layout::for_value(self.counted());
            // SAFETY: this was the last handle, so nobody looks at the view any more, and the block has this layout.
            unsafe {
                self.0.as_ptr().drop_in_place();
                give(self.0.cast(), layout);
            }
        }
    }
}

/// The blocks that are kept: a view with the storage of a backend.
const BLOCK: Layout = match Layout::from_size_align(384, 16) {
    Ok(layout) => layout,
    Err(_) => panic!("a size and an alignment that a block may have"),
};

/// A thread keeps at most so many.
const MOST: usize = 64;

/// Blocks that a thread has freed.
struct Spare(Vec<NonNull<u8>>);

thread_local! {
    static SPARE: RefCell<Spare> = const { RefCell::new(Spare(Vec::new())) };
}

impl Drop for Spare {
    fn drop(&mut self) {
        for block in self.0.drain(..) {
            // SAFETY: what is kept was allocated with this layout, and has no owner.
            unsafe { dealloc(block.as_ptr(), BLOCK) };
        }
    }
}

/// Whether a block of this layout is one of those that are kept.
#[inline]
const fn fits(layout: Layout) -> bool {
    layout.size() <= BLOCK.size() && layout.align() <= BLOCK.align()
}

/// A block for this layout.
#[inline]
fn take(layout: Layout) -> NonNull<u8> {
    if !fits(layout) {
        return allocate(layout);
    }
    // Fails only when this thread is ending and its list is gone.
    let spare = SPARE.try_with(|spare| spare.borrow_mut().0.pop());
    spare.ok().flatten().unwrap_or_else(|| allocate(BLOCK))
}

#[cold]
fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the layout of a `Counted` has a size.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Takes back a block that [`take`] gave for this layout.
///
/// # Safety
/// Nobody uses the block any more.
#[inline]
unsafe fn give(block: NonNull<u8>, layout: Layout) {
    let kept = fits(layout)
        && SPARE.try_with(|spare| {
            let list = &mut spare.borrow_mut().0;
            let room = list.len() < MOST;
            if room {
                list.push(block);
            }
            room
        }) == Ok(true);
    if !kept {
        let layout = if fits(layout) { BLOCK } else { layout };
        // SAFETY: `take` allocated it with this layout, and gives it to nobody else.
        unsafe { dealloc(block.as_ptr(), layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Shape};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    /// A storage that tells when it is dropped, of any size.
    #[derive(Debug)]
    struct Tells<const N: usize>(Arc<AtomicBool>, [u8; N]);

    impl<const N: usize> Storage for Tells<N> {
        fn device(&self) -> &Device {
            Device::cpu_ref()
        }

        fn bytes(&self) -> usize {
            N
        }
    }

    impl<const N: usize> Drop for Tells<N> {
        fn drop(&mut self) {
            assert!(!self.0.swap(true, Ordering::Relaxed), "dropped twice");
        }
    }

    fn handle<const N: usize>() -> (Handle, Arc<AtomicBool>) {
        let dropped = Arc::new(AtomicBool::new(false));
        let layout = crate::Layout::contiguous(Shape::from([N]));
        let storage = Tells::<N>(dropped.clone(), [7; N]);
        (Handle::new(&layout, DType::U8, false, storage), dropped)
    }

    fn goes_with_the_last_handle<const N: usize>() {
        let (mut first, dropped) = handle::<N>();
        assert!(first.get_mut().is_some());
        let second = first.clone();
        assert!(first.same(&second) && first.get_mut().is_none());
        drop(first);
        assert!(!dropped.load(Ordering::Relaxed));
        assert_eq!((second.storage.bytes(), second.layout.numel()), (N, N));
        drop(second);
        assert!(dropped.load(Ordering::Relaxed));
    }

    #[test]
    fn a_view_goes_with_its_last_handle_whatever_its_size() {
        goes_with_the_last_handle::<0>();
        goes_with_the_last_handle::<64>();
        // Larger than the blocks that are kept.
        goes_with_the_last_handle::<4096>();
    }

    #[test]
    fn more_views_than_a_thread_keeps_come_and_go_on_any_thread() {
        let (handles, dropped): (Vec<_>, Vec<_>) = (0..3 * MOST).map(|_| handle::<8>()).unzip();
        std::thread::scope(|scope| {
            for handle in &handles {
                scope.spawn(move || drop(handle.clone()));
            }
        });
        assert!(dropped.iter().all(|dropped| !dropped.load(Ordering::Relaxed)));
        std::thread::spawn(move || drop(handles)).join().expect("dropping does not panic");
        assert!(dropped.iter().all(|dropped| dropped.load(Ordering::Relaxed)));
    }

    #[test]
    fn a_block_is_used_again() {
        let (first, _) = handle::<8>();
        let address = first.0.as_ptr().cast::<u8>();
        drop(first);
        let (second, _) = handle::<16>();
        assert!(std::ptr::addr_eq(second.0.as_ptr(), address));
    }
}
