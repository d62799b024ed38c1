//! Regions of several phases: steps that depend on each other, without the hand-over to other threads before each.

use super::num_threads;
use super::pool::{self, Padded, Patience, Work};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

/// Runs the tasks `f(phase, 0)`, … `f(phase, tasks(phase) - 1)` of each of `count` phases, one phase after the other, and returns
/// when all have ended. No task begins before all tasks of the phases before it have ended, and what those wrote is visible to it.
///
/// All phases are one region: between two of them threads wait for each other, which costs a fraction of what a region costs.
/// A thread gets the same part of the tasks in every phase with as many of them, so what it reads again stays in its caches;
/// only what another thread has not begun in time it takes over. So nobody waits for a thread that has not come yet.
///
/// Like [`parallel_for`](super::parallel_for) it runs serially inside a task, while another thread has the pool, and where there
/// is one thread, or one task at a time.
///
/// # Panics
/// If a task panics, with its payload: the tasks under way end first, those not yet started may be skipped.
pub fn phases(count: usize, tasks: impl Fn(usize) -> usize + Sync, f: impl Fn(usize, usize) + Sync) {
    region(count, &tasks, &f);
}

/// As [`phases`]. Tasks are called through pointers, so that their code exists once.
fn region(count: usize, tasks: &Tasks, f: &Step) {
    let most = (0..count).map(tasks).max().unwrap_or(0);
    if most > 1 && count.max(most) < u32::MAX as usize {
        let threads = num_threads().min(most);
        if threads > 1 && pool::run(threads, &Phases::new(threads, count, tasks, f)) {
            return;
        }
    }
    for phase in 0..count {
        (0..tasks(phase)).for_each(|task| f(phase, task));
    }
}

/// How many tasks a phase has.
type Tasks<'a> = dyn Fn(usize) -> usize + Sync + 'a;
/// A task of a phase.
type Step<'a> = dyn Fn(usize, usize) + Sync + 'a;

struct Phases<'a> {
    count: usize,
    tasks: &'a Tasks<'a>,
    f: &'a Step<'a>,
    /// One for each thread: `phase + 1` in the upper half, how many of its tasks in that phase are claimed in the lower.
    shares: Box<[Padded<AtomicU64>]>,
    /// The tasks that have ended, of all phases.
    ended: Padded<AtomicU64>,
    stopped: AtomicBool,
    /// Which process this is, should a task fork it.
    forks: u32,
}

impl<'a> Phases<'a> {
    fn new(threads: usize, count: usize, tasks: &'a Tasks, f: &'a Step) -> Self {
        let shares = (0..threads).map(|_| Padded(AtomicU64::new(0))).collect();
        let ended = Padded(AtomicU64::new(0));
        Self { count, tasks, f, shares, ended, stopped: AtomicBool::new(false), forks: pool::forks() }
    }

    /// Claims a task of a thread's share in a phase, if one is left.
    fn claim(&self, share: usize, phase: usize, tasks: usize) -> Option<usize> {
        let start = share * tasks / self.shares.len();
        let len = ((share + 1) * tasks / self.shares.len() - start) as u64;
        let (state, now) = (&self.shares[share].0, phase as u64 + 1);
        let mut seen = state.load(Relaxed);
        loop {
            let claimed = match seen >> 32 {
                before if before < now => 0,
                same if same == now => seen & u64::from(u32::MAX),
                // The phase is over.
                _ => return None,
            };
            if claimed == len {
                return None;
            }
            // What a task reads was acquired through `ended`: a claim only says whose the task is.
            match state.compare_exchange_weak(seen, (now << 32) | (claimed + 1), Relaxed, Relaxed) {
                Ok(_) => return Some(start + claimed as usize),
                Err(other) => seen = other,
            }
        }
    }
}

impl Work for Phases<'_> {
    fn work(&self, worker: usize, _workers: usize) {
        let mut goal = 0;
        for phase in 0..self.count {
            let tasks = (self.tasks)(phase);
            goal += tasks as u64;
            if self.ended.0.load(Acquire) >= goal {
                continue; // This thread came late.
            }
            let mut mine = 0;
            for other in 0..self.shares.len() {
                let share = (worker + other) % self.shares.len();
                while let Some(task) = self.claim(share, phase, tasks) {
                    if self.stopped.load(Relaxed) {
                        return;
                    }
                    (self.f)(phase, task);
                    mine += 1;
                }
            }
            if mine > 0 {
                self.ended.0.fetch_add(mine, AcqRel);
            }
            let mut patience = Patience::since(self.forks);
            while self.ended.0.load(Acquire) < goal {
                if self.stopped.load(Relaxed) {
                    return;
                }
                patience.wait();
            }
        }
    }

    fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::threads::{SharedMut, parallel_for, with_num_threads};
    use std::sync::atomic::AtomicUsize;

    /// Runs phases of the given numbers of tasks; each asserts that all before it have ended, and counts itself.
    fn run_phases(sizes: &[usize]) -> usize {
        let ended: Vec<_> = sizes.iter().map(|_| AtomicUsize::new(0)).collect();
        phases(
            sizes.len(),
            |phase| sizes[phase],
            |phase, task| {
                assert!(task < sizes[phase]);
                for before in 0..phase {
                    assert_eq!(ended[before].load(Relaxed), sizes[before], "phase {phase} began too early");
                }
                ended[phase].fetch_add(1, Relaxed);
            },
        );
        ended.into_iter().map(AtomicUsize::into_inner).sum()
    }

    #[test]
    fn phases_follow_each_other_and_run_every_task_once() {
        let cases: [&[usize]; 6] = [&[], &[0, 0], &[1], &[3, 0, 1, 17, 2], &[1, 1, 1], &[5; 40]];
        for threads in [1, 2, 3, 7] {
            with_num_threads(threads, || {
                for sizes in cases {
                    assert_eq!(run_phases(sizes), sizes.iter().sum(), "{sizes:?}, {threads} threads");
                }
            });
        }
    }

    #[test]
    fn a_phase_sees_what_the_one_before_wrote() {
        // Each step adds the neighbours of the step before it: a race would show as another sum.
        let (cells, steps) = (24, 500);
        let run = |threads| {
            let mut values = vec![1u32; cells * (steps + 1)];
            let shared = SharedMut::new(&mut values);
            with_num_threads(threads, || {
                phases(
                    steps,
                    |_| cells,
                    |step, cell| {
                        // SAFETY: a step writes its own row, one cell each, and reads the row before, which nobody writes any more.
                        let (before, own) = unsafe {
                            let at = (step + 1) * cells + cell;
                            let before =
                                std::slice::from_raw_parts(shared.as_mut_ptr().add(step * cells), cells);
                            (before, shared.slice(at..at + 1))
                        };
                        own[0] = before[cell].wrapping_mul(3).wrapping_add(before[(cell + 1) % cells]);
                    },
                );
            });
            values
        };
        let alone = run(1);
        assert!([2, 3, 7].into_iter().all(|threads| run(threads) == alone));
    }

    #[test]
    fn ten_thousand_phases_and_ten_thousand_regions_of_phases_end() {
        for threads in [2, 3, 7] {
            let total = AtomicUsize::new(0);
            let count = |_, task| {
                total.fetch_add(task, Relaxed);
            };
            with_num_threads(threads, || {
                phases(10_000, |_| 4, count);
                (0..10_000 / threads).for_each(|_| phases(2, |_| 4, count));
            });
            assert_eq!(total.into_inner(), 60_000 + 10_000 / threads * 12);
        }
    }

    #[test]
    fn a_panic_in_a_phase_reaches_the_caller_and_skips_the_phases_after_it() {
        for threads in [1, 2, 3, 7] {
            with_num_threads(threads, || {
                for round in 0..20 {
                    let late = AtomicUsize::new(0);
                    let caught = std::panic::catch_unwind(|| {
                        phases(
                            9,
                            |_| 5,
                            |phase, task| {
                                assert!((phase, task) != (4, round % 5), "fails on purpose");
                                late.fetch_add(usize::from(phase > 4), Relaxed);
                            },
                        );
                    });
                    assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "fails on purpose");
                    assert_eq!(late.into_inner(), 0);
                    assert_eq!(run_phases(&[3, 3]), 6);
                }
            });
        }
    }

    #[test]
    fn phases_inside_a_task_run_serially() {
        let total = AtomicUsize::new(0);
        with_num_threads(3, || {
            parallel_for(16, |_| {
                let here = std::thread::current().id();
                phases(
                    3,
                    |_| 4,
                    |_, _| {
                        assert_eq!(std::thread::current().id(), here);
                        total.fetch_add(1, Relaxed);
                    },
                );
            });
        });
        assert_eq!(total.into_inner(), 192);
    }

    #[test]
    fn many_threads_start_phases_at_once() {
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    for round in 0..100 {
                        with_num_threads(1 + round % 4, || assert_eq!(run_phases(&[7, 3, 7]), 17));
                    }
                });
            }
        });
    }
}
