//! How independent units of work are spread over the threads. What a unit computes does not depend on it.

use crate::Result;
use crate::cpu::threads::{num_threads, parallel_for};
use std::sync::Mutex;

/// Products per unit from which one unit occupies all threads.
const LARGE: usize = 1 << 22;

/// Units from which each thread has some, whatever their size.
const MANY: usize = 16;

/// Products per task that are worth a hand-over to another thread.
const TASK: usize = 1 << 18;

/// As [`side_by_side`], for units that can use all threads themselves: few large ones run one after the other, each with all
/// threads for itself, unless side by side they keep nearly all threads busy, too.
pub(super) fn spread(units: usize, products: usize, f: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let idle = units.next_multiple_of(num_threads()) - units;
    if units < MANY && products >= LARGE && 8 * idle > units {
        return (0..units).try_for_each(f);
    }
    side_by_side(units, products, f)
}

/// Runs `f(0)`, … `f(units - 1)`, each once and on one thread, and returns the error of the first that fails. `products` is the
/// size of a unit: small ones share a task.
pub(super) fn side_by_side(
    units: usize,
    products: usize,
    f: impl Fn(usize) -> Result<()> + Sync,
) -> Result<()> {
    let group = (TASK / products.max(1)).max(1);
    let failed = Mutex::new(None);
    parallel_for(units.div_ceil(group), |task| {
        for unit in task * group..units.min((task + 1) * group) {
            if let Err(error) = f(unit) {
                let mut failed = failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                if failed.as_ref().is_none_or(|(first, _)| unit < *first) {
                    *failed = Some((unit, error));
                }
            }
        }
    });
    match failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[test]
    fn every_unit_runs_once_and_the_first_error_is_returned() {
        for (units, products) in [(0, 1), (1, 1 << 30), (5, 1 << 30), (100, 1 << 30), (1000, 10)] {
            let runs: Vec<_> = (0..units).map(|_| AtomicUsize::new(0)).collect();
            spread(units, products, |i| {
                runs[i].fetch_add(1, Relaxed);
                Ok(())
            })
            .expect("no unit fails");
            assert!(runs.iter().all(|r| r.load(Relaxed) == 1));
            let fails = |i: usize| if i >= 3 { Err(Error::argument("unit", i.to_string())) } else { Ok(()) };
            let message = spread(units, products, fails).map_err(|e| e.to_string());
            assert_eq!(message, if units > 3 { Err("unit: 3".to_string()) } else { Ok(()) });
        }
    }
}
