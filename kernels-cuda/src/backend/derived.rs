//! What kernels make of a tensor's memory and use again while it does not change: the weights of convolutions with their channels last.
//!
//! A weight takes part in several convolutions between two changes: forward and for the gradient of the input in training, in any number
//! of them in inference. So every memory has a slot beside it for one such copy, which lives no longer than the memory itself.
//!
//! Invariant: the copy agrees with the memory. Whoever writes to memory in place empties the slot ([`Derived::clear`]). What a graph
//! writes when it is replayed is seen by nobody, so each replay ends all copies that were made before, and none is made or used while
//! work is captured. Memory that others may write to has no copy at all.

use std::sync::atomic::Ordering::Acquire;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tensor::{DType, Layout, Result, Tensor};

use crate::gpu::Gpu;

/// The slot beside a memory.
#[derive(Default)]
pub(super) struct Derived(Mutex<Slot>);

#[derive(Default)]
enum Slot {
    #[default]
    Empty,
    /// In a box, as most memories never have one.
    Copy(Box<Made>),
    /// Others may write to the memory.
    Never,
}

struct Made {
    of: Purpose,
    /// How many replays there had been when it was made.
    replays: u64,
    value: Tensor,
}

/// A view of the memory, and the channels that its copy is filled up to.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Purpose {
    pub(super) view: Layout,
    pub(super) dtype: DType,
    pub(super) channels: usize,
}

impl Derived {
    /// For memory that others may write to.
    pub(super) fn never() -> Derived {
        Derived(Mutex::new(Slot::Never))
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The copy for a purpose, made and kept in the place of another if it is not there. `make` gives new memory.
    pub(super) fn copy(
        &self,
        gpu: &Gpu,
        of: Purpose,
        make: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Tensor> {
        if gpu.captures.here() {
            return make();
        }
        // Before the copy is put into the queue: it then comes before what a later replay writes, and is ended by it.
        let now = gpu.replays.load(Acquire);
        let mut slot = self.slot();
        match &*slot {
            Slot::Never => return make(),
            Slot::Copy(made) if made.of == of && made.replays == now => return Ok(made.value.clone()),
            _ => {}
        }
        let value = make()?;
        *slot = Slot::Copy(Box::new(Made { of, replays: now, value: value.clone() }));
        Ok(value)
    }

    /// The memory changes.
    pub(super) fn clear(&self) {
        let mut slot = self.slot();
        if matches!(*slot, Slot::Copy(_)) {
            *slot = Slot::Empty;
        }
    }

    /// From now on others may write to the memory.
    pub(super) fn end(&self) {
        *self.slot() = Slot::Never;
    }
}
