//! The workers and the protocol by which they join a region.
//!
//! One word, [`Pool::state`], holds `epoch << 32 | tickets << 16 | active`. The caller opens a region by storing a new epoch
//! with as many tickets as workers may join. A worker joins by taking a ticket, which counts it as active in the same step; it
//! then works until nothing is left to claim, and stops being active. When the caller finds nothing left it removes the
//! tickets that remain and waits until no worker is active. So the job, which lies on the caller's stack, is
//! reachable only between opening and the last worker's leaving, and a worker that wakes late is not waited for.

use super::cores;
use super::place::Places;
use std::any::Any;
use std::cell::Cell;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an idle worker spins before it sleeps: the gap between two regions of one training step is usually shorter, and waking
/// a worker costs its caller about a tenth of this.
const SPIN: Duration = Duration::from_micros(200);

const TICKET: u64 = 1 << 16;
const TICKETS: u64 = 0xffff << 16;
const ACTIVE: u64 = 0xffff;

/// What the threads of a region do.
pub(super) trait Work: Sync {
    /// Does what is left to do, together with the other threads; this is thread `worker` of at most `workers`.
    ///
    /// Returns when nothing is left to claim. Any of the threads may come late or never.
    fn work(&self, worker: usize, workers: usize);

    /// Gives up what nobody has begun: a task has panicked, and its thread will not come back.
    fn stop(&self);
}

/// Does the work on at most `threads` threads, this one among them.
///
/// False, with nothing done, when the pool is another thread's or there is no worker to share with.
pub(super) fn run(threads: usize, work: &dyn Work) -> bool {
    let Some(region) = Region::enter() else { return false };
    let pool = Pool::with_workers(threads - 1);
    let helpers = pool.workers.load(Relaxed).min(threads - 1);
    if helpers == 0 {
        return false;
    }
    let job =
        Job { work, workers: helpers + 1, joined: Padded(AtomicUsize::new(0)), panic: Mutex::new(None) };
    pool.open(&job, helpers as u64);
    job.work();
    pool.close(region.forks);
    drop(region);
    if let Some(payload) = lock(&job.panic).take() {
        resume_unwind(payload);
    }
    true
}

/// Whether this thread is running a task, so that a region started here is serial.
pub(super) fn inside_a_task() -> bool {
    INSIDE.get()
}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether some thread has a region open; only that thread touches the pool.
static BUSY: AtomicBool = AtomicBool::new(false);

/// The pool of this process, made by the first region; null before that, and again in a child after `fork`.
static POOL: AtomicPtr<Pool> = AtomicPtr::new(ptr::null_mut());

/// How many times this process is a fork of the one that loaded the program.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// See [`Patience`].
pub(super) fn forks() -> u32 {
    FORKS.load(Relaxed)
}

/// The right to use the pool, given to one thread at a time.
struct Region {
    forks: u32,
}

impl Region {
    fn enter() -> Option<Region> {
        if BUSY.load(Relaxed) || BUSY.swap(true, Acquire) {
            return None;
        }
        Some(Region { forks: forks() })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if FORKS.load(Relaxed) == self.forks {
            BUSY.store(false, Release);
        }
    }
}

/// A value alone on its cache lines: two, because processors fetch lines in pairs.
#[repr(align(128))]
pub(super) struct Padded<T>(pub(super) T);

/// Waits for other threads of a region a moment at a time: spinning first, then leaving the core to whoever wants it.
pub(super) struct Patience {
    forks: u32,
    spins: u32,
}

impl Patience {
    /// In the process that [`forks`] told this number.
    pub(super) fn since(forks: u32) -> Self {
        Self { forks, spins: 0 }
    }

    /// # Panics
    /// In the child if a task forked: there the other threads, and what they had claimed, do not exist.
    pub(super) fn wait(&mut self) {
        assert!(
            FORKS.load(Relaxed) == self.forks,
            "the process was forked inside a task of a parallel region"
        );
        self.spins = self.spins.saturating_add(1);
        if self.spins < 1000 { spin_loop() } else { std::thread::yield_now() }
    }
}

/// One region's work.
struct Job<'a> {
    work: &'a dyn Work,
    workers: usize,
    /// The threads that have begun.
    joined: Padded<AtomicUsize>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Job<'_> {
    /// Works; a panic ends the region's supply and is kept for the caller.
    fn work(&self) {
        let outer = INSIDE.replace(true);
        let worker = self.joined.0.fetch_add(1, Relaxed);
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.work.work(worker, self.workers))) {
            self.work.stop();
            let mut first = lock(&self.panic);
            match *first {
                None => *first = Some(payload),
                // Dropping it could panic in turn, and a worker must leave its region.
                Some(_) => std::mem::forget(payload),
            }
        }
        INSIDE.set(outer);
    }
}

struct Pool {
    /// `epoch << 32 | tickets << 16 | active`.
    state: Padded<AtomicU64>,
    job: AtomicPtr<Job<'static>>,
    workers: AtomicUsize,
    places: Places,
    /// Workers that sleep on `wake`, or are about to.
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
}

impl Pool {
    /// The pool, with `wanted` workers or as many as the system grants. Needs the [`Region`].
    fn with_workers(wanted: usize) -> &'static Pool {
        let mut pool = POOL.load(Acquire);
        if pool.is_null() {
            forget_the_pool_in_children();
            pool = Box::into_raw(Box::new(Pool {
                state: Padded(AtomicU64::new(0)),
                job: AtomicPtr::new(ptr::null_mut()),
                workers: AtomicUsize::new(0),
                places: Places::new(),
                sleepers: AtomicUsize::new(0),
                sleep: Mutex::new(()),
                wake: Condvar::new(),
            }));
            POOL.store(pool, Release);
        }
        // SAFETY: made by the `Box::into_raw` above, now or by an earlier region, and never freed.
        let pool: &'static Pool = unsafe { &*pool };
        while pool.workers.load(Relaxed) < wanted {
            let index = pool.workers.load(Relaxed);
            // A worker without a core of its own would spin on somebody else's.
            let spin = if index + 1 < cores() { SPIN } else { Duration::ZERO };
            let thread = std::thread::Builder::new().name(format!("gradus-{}", index + 1));
            let Ok(worker) = thread.spawn(move || pool.serve(spin)) else { break };
            pool.places.add(worker);
            pool.workers.store(index + 1, Relaxed);
        }
        pool
    }

    /// Offers `job` to `helpers` workers, waking as many as are not awake.
    fn open(&self, job: &Job<'_>, helpers: u64) {
        self.job.store(ptr::from_ref(job).cast_mut().cast(), Relaxed);
        let epoch = (self.state.0.load(Relaxed) >> 32).wrapping_add(1);
        // Sequentially consistent, as is `sleepers`: either the worker sees the new epoch or we see the sleeper.
        self.state.0.store((epoch << 32) | (helpers * TICKET), SeqCst);
        let awake = self.workers.load(Relaxed) - self.sleepers.load(SeqCst);
        let missing = (helpers as usize).saturating_sub(awake);
        if missing > 0 {
            self.places.leave_this_core();
            drop(lock(&self.sleep));
            (0..missing).for_each(|_| self.wake.notify_one());
        }
    }

    /// Takes back the tickets nobody used and waits for the workers that used theirs.
    fn close(&self, forks: u32) {
        self.state.0.fetch_and(!TICKETS, AcqRel);
        let mut patience = Patience::since(forks);
        while self.state.0.load(Acquire) & ACTIVE != 0 {
            patience.wait();
        }
    }

    /// A worker's life: join, work, leave; sleep after `spin` without work.
    fn serve(&self, spin: Duration) {
        let mut idle_since = Instant::now();
        let mut spins = 0u32;
        loop {
            let state = self.state.0.load(Acquire);
            if state & TICKETS != 0 {
                let joined = state - TICKET + 1;
                if self.state.0.compare_exchange_weak(state, joined, Acquire, Relaxed).is_ok() {
                    // SAFETY: we are active, so the region that stored `job` is open and its caller, on whose stack the
                    // job lies, waits for us; the exchange acquired what the caller wrote before it opened the region.
                    unsafe { &*self.job.load(Relaxed) }.work();
                    self.state.0.fetch_sub(1, Release);
                    idle_since = Instant::now();
                }
                continue;
            }
            spin_loop();
            spins = spins.wrapping_add(1);
            if spins.is_multiple_of(64) && idle_since.elapsed() >= spin {
                self.sleep_until_called(state >> 32);
                idle_since = Instant::now();
            }
        }
    }

    /// Sleeps until a region after `epoch` wants this worker.
    fn sleep_until_called(&self, epoch: u64) {
        let mut guard = lock(&self.sleep);
        self.sleepers.fetch_add(1, SeqCst);
        while self.state.0.load(SeqCst) >> 32 == epoch {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, SeqCst);
    }
}

/// Locks a mutex whose data stays valid through a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// After `fork`, the child has none of the workers: it starts again without a pool and leaks the old one.
#[cfg(unix)]
fn forget_the_pool_in_children() {
    extern "C" fn in_child() {
        FORKS.fetch_add(1, Relaxed);
        POOL.store(ptr::null_mut(), Relaxed);
        BUSY.store(false, Relaxed);
    }
    static ONCE: AtomicBool = AtomicBool::new(false);
    if !ONCE.swap(true, Relaxed) {
        // SAFETY: the handler only stores to atomics, which is allowed between `fork` and the rest of the child.
        // A failure (no memory) leaves a child without the reset, which matters only if it computes.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    }
}

#[cfg(not(unix))]
fn forget_the_pool_in_children() {}
