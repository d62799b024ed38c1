//! The thread pool: [`parallel_for`] and how many threads it uses.
//!
//! A training step has hundreds of parallel regions, many of a few microseconds, and waking a sleeping thread costs tens of
//! them. So idle workers spin for a moment before they sleep, and the caller works too and never waits for a worker that has
//! not started: on a busy machine a region costs at most what it costs serially. Steps that depend on each other share one
//! region: [`phases`].
//!
//! Workers keep off the caller's core, where a sleeper may wake up otherwise.
//!
//! On two cores of a Zen 4 server, virtual ones, two empty tasks take 0.1 to 0.3 us when the worker spins and 9 to 15 us when it
//! sleeps, nearly all of which is the system's call to wake it; two tasks of 5 us take 6.5 us, and as a phase of a longer region
//! 5.7 us.
//!
//! Invariant: no result depends on the number of threads. Which thread runs a task is left to chance; what a task computes
//! follows from its index alone, and values of several tasks are combined in the order of their indices.

mod phases;
mod place;
mod pool;
mod shared;
#[cfg(test)]
mod tests;

pub use phases::phases;
pub use shared::{SharedMut, parallel_chunks_mut};

use pool::{Padded, Work};
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The largest number of threads that a region can have.
pub const MAX_THREADS: usize = 1024;

/// Runs `f(0)`, `f(1)`, … `f(tasks - 1)`, each once, on the pool and on the calling thread, and returns when all have ended.
///
/// A call from inside a task, and a call while another thread has the pool, runs serially on its own thread. So does a call
/// with one task or with [`num_threads`] equal to 1, without any synchronisation.
///
/// # Panics
/// If a task panics, with its payload: the tasks under way end first, those not yet started may be skipped.
pub fn parallel_for(tasks: usize, f: impl Fn(usize) + Sync) {
    region(tasks, &f);
}

/// As [`parallel_for`]. A task is called through a pointer, so that its code exists once, whether it runs here or on the pool.
fn region(tasks: usize, f: &(dyn Fn(usize) + Sync)) {
    if tasks > 1 {
        let threads = num_threads().min(tasks);
        if threads > 1 && pool::run(threads, &Chunks { tasks, f, next: Padded(AtomicUsize::new(0)) }) {
            return;
        }
    }
    (0..tasks).for_each(f);
}

/// Chunks per thread: enough that a thread which comes late or is slow leaves its share to others.
const CHUNKS_PER_THREAD: usize = 8;

/// Tasks in any order, claimed a chunk at a time.
struct Chunks<'a> {
    tasks: usize,
    f: &'a (dyn Fn(usize) + Sync),
    /// The first task that nobody has claimed.
    next: Padded<AtomicUsize>,
}

impl Work for Chunks<'_> {
    fn work(&self, _worker: usize, workers: usize) {
        let chunk = (self.tasks / (workers * CHUNKS_PER_THREAD)).max(1);
        loop {
            let start = self.next.0.fetch_add(chunk, Relaxed);
            if start >= self.tasks {
                break;
            }
            (start..self.tasks.min(start + chunk)).for_each(self.f);
        }
    }

    fn stop(&self) {
        self.next.0.store(self.tasks, Relaxed);
    }
}

/// How many threads [`parallel_for`] uses when called here and now: 1 inside a task.
///
/// It is set, from the strongest: by [`with_num_threads`], by [`set_num_threads`], by the environment variable
/// `GRADUS_NUM_THREADS` (ignored when it is not a positive number), by the number of cores that the process may use.
pub fn num_threads() -> usize {
    if pool::inside_a_task() {
        return 1;
    }
    match OVERRIDE.get() {
        0 => match CHOSEN.load(Relaxed) {
            0 => default_threads(),
            n => n,
        },
        n => n,
    }
}

/// Sets the number of threads for the whole process, at most [`MAX_THREADS`]; 0 restores the default.
pub fn set_num_threads(n: usize) {
    CHOSEN.store(n.min(MAX_THREADS), Relaxed);
}

/// Runs `f` with `n` threads for the regions that it starts on this thread, then restores what was, also when `f` panics.
///
/// `n` may exceed the number of cores (at most [`MAX_THREADS`]); 0 means the number set for the process.
pub fn with_num_threads<R>(n: usize, f: impl FnOnce() -> R) -> R {
    struct Restore(usize);
    impl Drop for Restore {
        fn drop(&mut self) {
            OVERRIDE.set(self.0);
        }
    }

    let _restore = Restore(OVERRIDE.replace(n.min(MAX_THREADS)));
    f()
}

/// The number set by [`set_num_threads`]; 0 for none.
static CHOSEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The number set by [`with_num_threads`]; 0 for none.
    static OVERRIDE: Cell<usize> = const { Cell::new(0) };
}

fn default_threads() -> usize {
    static DEFAULT: OnceLock<usize> = OnceLock::new();
    *DEFAULT.get_or_init(|| parse_threads(std::env::var("GRADUS_NUM_THREADS").ok()).unwrap_or_else(cores))
}

/// The number of threads that a value of `GRADUS_NUM_THREADS` asks for, if it is one.
fn parse_threads(asked: Option<String>) -> Option<usize> {
    let n: usize = asked?.trim().parse().ok()?;
    (n > 0).then(|| n.min(MAX_THREADS))
}

/// The cores that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(MAX_THREADS))
}
