//! What kernels make of a tensor's memory and may use again while it does not change: packed weights.
//!
//! A weight takes part in many products between two changes, in inference in all of them, and kernels want it in an order of
//! their own. So every memory has a slot beside it for values derived from it. The first use for a purpose only leaves a note;
//! the second one makes the value. A training step, which uses a weight once for a purpose and then changes it, thus pays
//! neither time nor memory.
//!
//! Invariant: a derived value agrees with the memory. Whoever gets the memory to write has it alone, and empties the slot first.

use crate::cpu::f32_mode::f32_mode;
use crate::cpu::isa::{self, Isa};
use crate::{F32Mode, Layout, Result};
use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// The most purposes that are remembered for one memory: both sides of a product forwards and backwards.
const MOST: usize = 4;

/// What a value is derived for. The same purpose always derives values of the same type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Purpose {
    what: &'static str,
    view: Layout,
    isa: Isa,
    mode: F32Mode,
}

impl Purpose {
    /// `what` is done with a view of the memory, at the instruction level and with the mode of now.
    pub(crate) fn new(what: &'static str, view: &Layout) -> Self {
        Self { what, view: *view, isa: isa::isa(), mode: f32_mode() }
    }
}

/// The slot beside a memory. Empty it is two words.
#[derive(Debug, Default)]
pub(crate) struct Derived(OnceLock<Box<Mutex<Vec<Entry>>>>);

/// A purpose that the memory was used for, and the value made for it at the second use.
#[derive(Debug)]
struct Entry {
    purpose: Purpose,
    value: Option<Arc<dyn Any + Send + Sync>>,
}

impl Derived {
    /// The value for a purpose; none at the first use, or if `make` fails, since everything can be computed without it.
    pub(crate) fn value<V: Any + Send + Sync>(
        &self,
        purpose: Purpose,
        make: impl FnOnce() -> Result<V>,
    ) -> Option<Arc<V>> {
        let mut entries = self.entries();
        let Some(entry) = entries.iter_mut().find(|entry| entry.purpose == purpose) else {
            if entries.len() == MOST {
                entries.remove(0);
            }
            entries.push(Entry { purpose, value: None });
            return None;
        };
        // Made under the lock: a thread that wants the same value meanwhile waits for it.
        if entry.value.is_none() {
            entry.value = Some(Arc::new(make().ok()?));
        }
        entry.value.clone()?.downcast().ok()
    }

    /// Forgets everything: the memory is about to change.
    pub(crate) fn clear(&mut self) {
        self.0.take();
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        // A panic in `make` leaves the list as it was.
        self.0.get_or_init(Box::default).lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, Shape};

    fn purpose(what: &'static str, n: usize) -> Purpose {
        Purpose::new(what, &Layout::contiguous(Shape::from([n])))
    }

    #[test]
    fn a_value_is_made_at_the_second_use_and_then_kept() {
        let mut derived = Derived::default();
        for _ in 0..2 {
            assert_eq!(derived.value(purpose("a", 1), || Ok(5)), None);
            assert_eq!(derived.value(purpose("a", 1), || Ok(6)).as_deref(), Some(&6));
            assert_eq!(derived.value(purpose("a", 1), || Ok(7)).as_deref(), Some(&6));
            derived.clear();
        }
    }

    #[test]
    fn purposes_views_and_levels_have_values_of_their_own() {
        let derived = Derived::default();
        for round in 0..2 {
            for (i, purpose) in [purpose("a", 1), purpose("b", 1), purpose("a", 2)].into_iter().enumerate() {
                let value = derived.value(purpose, || Ok(i));
                assert_eq!(value.as_deref(), if round == 0 { None } else { Some(&i) });
            }
        }
        let lowest = isa::with_isa(Isa::Portable, || derived.value(purpose("a", 1), || Ok(0usize)));
        assert_eq!(lowest.is_some(), isa::isa() == Isa::Portable);
    }

    #[test]
    fn the_oldest_purpose_is_forgotten_first() {
        let derived = Derived::default();
        (0..2 * MOST).for_each(|at| drop(derived.value(purpose("a", at / 2), || Ok(at))));
        assert_eq!(derived.value(purpose("b", 0), || Ok(0usize)), None);
        assert_eq!(derived.value(purpose("a", 1), || Ok(100usize)).as_deref(), Some(&3));
        assert_eq!(derived.value(purpose("a", 0), || Ok(100usize)), None);
    }

    #[test]
    fn a_value_that_cannot_be_made_is_none() {
        let derived = Derived::default();
        for _ in 0..3 {
            let refused = derived.value::<i32>(purpose("a", 1), || Err(Error::argument("test", "refused")));
            assert_eq!(refused, None);
        }
        assert_eq!(derived.value(purpose("a", 1), || Ok(1)).as_deref(), Some(&1));
    }
}
