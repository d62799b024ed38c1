//! A lock for critical sections of some nanoseconds, which `fork` handlers can hold across the fork.
//!
//! A `std::sync::Mutex` held by another thread at the moment of a `fork` would stay locked in the child for ever, and its guard
//! cannot be passed from one handler to the next.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering::*};

pub(super) struct SpinLock<T> {
    locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: only the holder of the lock reaches the value, one thread at a time.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    pub(super) const fn new(value: T) -> SpinLock<T> {
        SpinLock { locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// What `f` returns for the value, while no other thread has it. `f` must not come back to this lock.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        struct Release<'a, T>(&'a SpinLock<T>);
        impl<T> Drop for Release<'_, T> {
            fn drop(&mut self) {
                // SAFETY: acquired below.
                unsafe { self.0.release() }
            }
        }

        self.acquire();
        let _release = Release(self);
        // SAFETY: we hold the lock until `_release` is dropped, after `f` has returned.
        f(unsafe { &mut *self.value.get() })
    }

    pub(super) fn acquire(&self) {
        let mut spins = 0u32;
        while self.locked.swap(true, Acquire) {
            while self.locked.load(Relaxed) {
                spins += 1;
                if spins < 100 { std::hint::spin_loop() } else { std::thread::yield_now() }
            }
        }
    }

    /// # Safety
    /// The lock was acquired and nobody uses the value any more.
    pub(super) unsafe fn release(&self) {
        self.locked.store(false, Release);
    }
}
