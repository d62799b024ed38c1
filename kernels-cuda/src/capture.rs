//! What a capture collects while its closure runs: whose work goes to which queue, numbers that change from replay to replay, and checks
//! that are made after one.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::CudaError;
use crate::gpu::{Block, Gpu};
use crate::launch::Pointer;
use crate::stream::Stream;

/// How many numbers of a graph may change from replay to replay.
pub(crate) const SLOTS: usize = 4096;

/// What says whether the work of a replay was right.
pub(crate) type Check = Box<dyn Fn() -> tensor::Result<()> + Send + Sync>;

/// A number of 64 bits that a captured kernel finds in memory, as it differs from replay to replay.
pub(crate) enum Number {
    /// Where a draw of random numbers begins: with each replay after the first one as many further on as all draws of the graph from
    /// this seed take.
    Draw { seed: u64, offset: u64 },
    /// A double, for a replay counted from 0.
    Of(Box<dyn Fn(u64) -> f64 + Send + Sync>),
}

/// What was collected.
pub(crate) struct Collected {
    /// Where the kernels find the numbers.
    pub(crate) slots: Block,
    pub(crate) numbers: Vec<Number>,
    /// How many numbers all draws from a seed take.
    pub(crate) drawn: BTreeMap<u64, u64>,
    pub(crate) checks: Vec<Check>,
    /// The first thing that cannot be captured.
    pub(crate) refused: Option<CudaError>,
}

/// The state of a GPU with regard to captures.
#[derive(Default)]
pub(crate) struct Captures {
    collected: Mutex<Option<Collected>>,
}

thread_local! {
    /// The address of the [`Captures`] of the GPU whose work this thread captures, or 0.
    static CAPTURED: Cell<usize> = const { Cell::new(0) };
}

impl Captures {
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Whether the work of this thread is captured.
    pub(crate) fn here(&self) -> bool {
        CAPTURED.get() == self.address()
    }

    /// What is being collected, by any thread.
    pub(crate) fn collected(&self) -> MutexGuard<'_, Option<Collected>> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on the work of this thread is captured.
    pub(crate) fn enter(&self) {
        CAPTURED.set(self.address());
    }

    /// The work of this thread is done at once again.
    pub(crate) fn leave(&self) {
        CAPTURED.set(0);
    }

    /// What the closure adds to what is collected; `None` where nothing is captured by this thread.
    fn add<T>(&self, f: impl FnOnce(&mut Collected) -> T) -> Option<T> {
        if !self.here() {
            return None;
        }
        self.collected().as_mut().map(f)
    }
}

impl Gpu {
    /// The queue for the work of this thread.
    pub(crate) fn queue(&self) -> &Stream {
        if self.captures.here() { &self.side } else { &self.stream }
    }

    /// An error if the work of this thread is captured: for what waits for the GPU.
    ///
    /// # Errors
    ///
    /// [`CudaError::NotCapturable`], which the capture will end with, whatever becomes of it here.
    pub(crate) fn not_captured(&self, what: &'static str) -> Result<(), CudaError> {
        let error = CudaError::NotCapturable { what };
        let refused = self.captures.add(|collected| {
            collected.refused.get_or_insert(error.clone());
        });
        if refused.is_some() { Err(error) } else { Ok(()) }
    }

    /// Puts a check off until after a replay.
    pub(crate) fn put_off(&self, check: Check) {
        self.captures.add(|collected| collected.checks.push(check));
    }

    /// Where a captured kernel finds the beginning of its draw of `count` numbers; `None` outside of a capture.
    ///
    /// # Errors
    ///
    /// [`CudaError::NotCapturable`] if there are too many.
    pub(crate) fn draw(&self, seed: u64, offset: u64, count: u64) -> Result<Option<Pointer>, CudaError> {
        let slot = self.slots([Number::Draw { seed, offset }])?;
        self.captures.add(|collected| *collected.drawn.entry(seed).or_default() += count);
        Ok(slot)
    }

    /// Where captured kernels find these numbers, one after the other; `None` outside of a capture.
    ///
    /// # Errors
    ///
    /// [`CudaError::NotCapturable`] if there are too many.
    pub(crate) fn slots<const N: usize>(&self, numbers: [Number; N]) -> Result<Option<Pointer>, CudaError> {
        let added = self.captures.add(|collected| {
            let first = collected.numbers.len();
            collected.numbers.extend(numbers);
            (first + N <= SLOTS).then(|| Pointer(collected.slots.address() + (first * 8) as u64))
        });
        match added {
            Some(None) => {
                self.not_captured("more than 4096 numbers that change with each replay").map(|()| None)
            }
            Some(pointer) => Ok(pointer),
            None => Ok(None),
        }
    }
}
