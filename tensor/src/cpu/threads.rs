//! The thread pool.

/// Runs `f(0)`, `f(1)`, … `f(tasks - 1)`, each once, on the pool and on the calling thread.
pub fn parallel_for(tasks: usize, f: impl Fn(usize) + Sync) {
    (0..tasks).for_each(f);
}

/// How many threads [`parallel_for`] uses.
pub fn num_threads() -> usize {
    1
}
