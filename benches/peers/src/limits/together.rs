//! Threads that measure at the same time, each on a core of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Where threads wait for each other without going to sleep: one that sleeps may be woken on the core of another.
pub(super) struct Line {
    threads: usize,
    arrived: AtomicUsize,
}

impl Line {
    /// Returns when all threads have come here for the `time`th time, counted from 1.
    pub(super) fn up(&self, time: usize) {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        while self.arrived.load(Ordering::SeqCst) < time * self.threads {
            std::hint::spin_loop();
        }
    }
}

/// What each of so many threads gives, this one among them.
///
/// A new thread begins on the core of the one that made it, and may stay there for longer than a measurement takes. So the
/// others sleep first: they wake while this one spins, on cores that are idle.
pub(super) fn together<R: Send>(threads: usize, run: impl Fn(&Line) -> R + Sync) -> Vec<R> {
    let line = Line { threads, arrived: AtomicUsize::new(0) };
    let (run, line) = (&run, &line);
    thread::scope(|scope| {
        let late = move || {
            thread::sleep(Duration::from_millis(5));
            run(line)
        };
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(late)).collect();
        let mut all = vec![run(line)];
        all.extend(others.into_iter().map(|t| t.join().expect("a measuring thread does not panic")));
        all
    })
}
