//! How many bytes are in use, and the most that ever were.
//!
//! Two counters that every thread changes at every tensor would cost more than a small block itself. So a thread counts by
//! itself and tells the process when the difference is worth it, with the highest point of its own count since the last time:
//! what one thread allocates is counted exactly, and what others are behind is bounded.

use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

/// A thread is behind by at most this many bytes.
const UNTOLD: isize = 16 << 10;

/// What a thread has counted and not told.
pub(super) struct Tally {
    change: isize,
    /// The highest that `change` has been, at least 0.
    high: isize,
}

impl Tally {
    pub(super) const ZERO: Tally = Tally { change: 0, high: 0 };

    /// Counts bytes that became live, or are so no more.
    pub(super) fn count(&mut self, bytes: isize) {
        self.change += bytes;
        self.high = self.high.max(self.change);
        if self.change.abs() > UNTOLD {
            self.tell();
        }
    }

    /// Adds the count to that of the process.
    pub(super) fn tell(&mut self) {
        add(self.change, self.high);
        *self = Tally::ZERO;
    }
}

/// Adds to the bytes in use, which on the way were `high` more than before.
pub(super) fn add(change: isize, high: isize) {
    let before = LIVE.fetch_add(change, Relaxed);
    let high = before + high;
    if high > PEAK.load(Relaxed) {
        PEAK.fetch_max(high, Relaxed);
    }
}

/// Bytes in use.
pub(super) fn now() -> usize {
    // Below 0 while a thread has not told of what another gave back.
    LIVE.load(Relaxed).max(0) as usize
}

/// The most that was in use since the last [`reset_peak`].
pub(super) fn peak() -> usize {
    PEAK.load(Relaxed).max(0) as usize
}

/// Lets the peak start again from what is in use now; returns the former.
pub(super) fn reset_peak() -> usize {
    PEAK.swap(LIVE.load(Relaxed), Relaxed).max(0) as usize
}

static LIVE: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);
