//! Where workers run: anywhere but on the core of the thread that opens the region.
//!
//! A sleeper may be woken on the very core of the thread that wakes it, even while others idle, and the two then take turns there
//! until the system moves one, milliseconds later. On two virtual cores of a Zen 4 server, 3 of 200 regions of two tasks of 100 us,
//! each after a pause, had two threads; kept off the caller's core, 192 to 199.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

/// The workers, and the core that they were told to leave alone.
pub(super) struct Places {
    workers: Mutex<Vec<JoinHandle<()>>>,
    cores: system::Cores,
    avoided: AtomicUsize,
}

/// No core.
const NONE: usize = usize::MAX;

impl Places {
    /// No workers, for a pool whose threads may run where the calling thread may.
    pub(super) fn new() -> Self {
        let cores = system::Cores::of_this_thread();
        Self { workers: Mutex::new(vec![]), cores, avoided: AtomicUsize::new(NONE) }
    }

    /// One more worker.
    pub(super) fn add(&self, worker: JoinHandle<()>) {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
        self.avoided.store(NONE, Relaxed);
    }

    /// Keeps the workers off the core of the calling thread, before some of them are woken: those that are awake have cores already.
    /// It costs a look while the caller stays on one core.
    pub(super) fn leave_this_core(&self) {
        let here = system::core().unwrap_or(NONE);
        if self.avoided.load(Relaxed) != here {
            self.avoided.store(here, Relaxed);
            self.cores.keep_off(here, &self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod system {
    use std::mem::zeroed;
    use std::os::unix::thread::JoinHandleExt;
    use std::thread::JoinHandle;

    /// The cores that threads may run on, where the system tells.
    pub(super) struct Cores(Option<libc::cpu_set_t>);

    impl Cores {
        pub(super) fn of_this_thread() -> Self {
            // SAFETY: a set of cores is an array of integers.
            let mut cores: libc::cpu_set_t = unsafe { zeroed() };
            // SAFETY: the set is as large as is said.
            let failed = unsafe { libc::sched_getaffinity(0, size_of_val(&cores), &mut cores) };
            Self((failed == 0).then_some(cores))
        }

        /// Lets threads run on all of the cores but one, if there are others.
        pub(super) fn keep_off(&self, core: usize, threads: &[JoinHandle<()>]) {
            let Some(mut cores) = self.0 else { return };
            if core >= libc::CPU_SETSIZE as usize {
                return;
            }
            // SAFETY: the set has the core (checked above).
            let left = unsafe {
                libc::CPU_CLR(core, &mut cores);
                libc::CPU_COUNT(&cores)
            };
            if left == 0 {
                return;
            }
            for thread in threads {
                // SAFETY: the thread was not joined, and the set is as large as is said. A failure leaves the thread where it was.
                unsafe {
                    libc::pthread_setaffinity_np(thread.as_pthread_t(), size_of_val(&cores), &cores);
                }
            }
        }
    }

    #[cfg(test)]
    impl Cores {
        pub(super) fn list(&self) -> Vec<usize> {
            let has = |core: usize| {
                // SAFETY: the set has every such core.
                self.0.is_some_and(|cores| unsafe { libc::CPU_ISSET(core, &cores) })
            };
            (0..libc::CPU_SETSIZE as usize).filter(|&core| has(core)).collect()
        }
    }

    /// The core that the calling thread is on.
    pub(super) fn core() -> Option<usize> {
        // SAFETY: a question without arguments.
        usize::try_from(unsafe { libc::sched_getcpu() }).ok()
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod system {
    use std::thread::JoinHandle;

    /// Nothing is known of cores here.
    pub(super) struct Cores;

    impl Cores {
        pub(super) fn of_this_thread() -> Self {
            Self
        }

        pub(super) fn keep_off(&self, _core: usize, _threads: &[JoinHandle<()>]) {}
    }

    pub(super) fn core() -> Option<usize> {
        None
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn workers_may_run_on_every_core_but_the_callers() {
        let places = Places::new();
        let all = system::Cores::of_this_thread().list();
        let (go, wait) = channel::<()>();
        let (tell, told) = channel();
        places.add(std::thread::spawn(move || {
            wait.recv().expect("the test goes on");
            tell.send(system::Cores::of_this_thread().list()).expect("the test waits");
        }));
        places.leave_this_core();
        go.send(()).expect("the worker waits");
        let own = told.recv().expect("the worker tells");
        let avoided = places.avoided.load(Relaxed);
        assert!(all.contains(&avoided));
        let left: Vec<_> = all.iter().copied().filter(|&core| core != avoided || all.len() == 1).collect();
        assert_eq!(own, left);
    }
}
