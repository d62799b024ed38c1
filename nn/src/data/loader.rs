//! Batches of a set, epoch after epoch, in an order that a seed decides.

use super::Dataset;
use std::sync::{Mutex, MutexGuard};
use tensor::{Error, Generator, Result};

/// How far a loader has come: what a checkpoint keeps of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoaderState {
    /// The epoch it is in, from 0.
    pub epoch: u64,
    /// How many batches of that epoch it has given out.
    pub batch: u64,
}

/// Batches of a set, epoch after epoch.
///
/// With a seed, every epoch has an order of its own, which depends on the seed and the number of the epoch alone.
///
/// ```
/// use gradus_nn::data::{DataLoader, TensorDataset};
/// use tensor::{DType, Device, Tensor};
/// # fn main() -> tensor::Result<()> {
/// let cpu = Device::cpu();
/// let set = TensorDataset::new(Tensor::zeros([10, 3], &cpu)?, Tensor::arange(0, 10, 1, (DType::I64, &cpu))?)?;
/// let loader = DataLoader::new(set, 4).shuffle(7);
/// let mut seen = Vec::new();
/// for batch in loader.epoch()? {
///     seen.extend(batch?.labels.to_vec::<i64>()?);
/// }
/// assert_eq!((loader.len(), seen.len()), (3, 10));
/// seen.sort();
/// assert_eq!(seen, (0..10).collect::<Vec<i64>>());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct DataLoader<D> {
    dataset: D,
    batch_size: usize,
    seed: Option<u64>,
    drop_last: bool,
    position: Mutex<Position>,
}

/// Where a loader stands and where its next epoch begins; they differ while an epoch runs.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    now: LoaderState,
    next: LoaderState,
}

impl<D: Dataset> DataLoader<D> {
    /// Batches of `batch_size` in the order of the set; the last one may be smaller.
    pub fn new(dataset: D, batch_size: usize) -> DataLoader<D> {
        DataLoader { dataset, batch_size, seed: None, drop_last: false, position: Mutex::default() }
    }

    /// Puts each epoch into an order of its own.
    #[must_use]
    pub fn shuffle(self, seed: u64) -> DataLoader<D> {
        DataLoader { seed: Some(seed), ..self }
    }

    /// Leaves out a last batch that is smaller than the others.
    #[must_use]
    pub fn drop_last(self, drop_last: bool) -> DataLoader<D> {
        DataLoader { drop_last, ..self }
    }

    /// The set.
    pub fn dataset(&self) -> &D {
        &self.dataset
    }

    /// Batches per epoch.
    pub fn len(&self) -> usize {
        match self.drop_last {
            true => self.dataset.len() / self.batch_size.max(1),
            false => self.dataset.len().div_ceil(self.batch_size.max(1)),
        }
    }

    /// Whether an epoch has no batches.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The batches of the next epoch, or of what is left of it after [`resume`](Self::resume).
    ///
    /// # Errors
    /// When the batch size is 0, or the loader was resumed past the end of an epoch.
    pub fn epoch(&self) -> Result<Epoch<'_, D>> {
        if self.batch_size == 0 {
            return Err(Error::argument("DataLoader", "a batch has at least one example, batch_size is 0"));
        }
        let mut position = self.position();
        let start = position.next;
        if start.batch > self.len() as u64 {
            let message = format!("cannot resume at batch {} of {}", start.batch, self.len());
            return Err(Error::argument("DataLoader", message));
        }
        *position =
            Position { now: start, next: LoaderState { epoch: start.epoch.saturating_add(1), batch: 0 } };
        Ok(Epoch { loader: self, order: self.order(start.epoch), state: start })
    }

    /// How far the loader has come, also while an epoch runs.
    pub fn state(&self) -> LoaderState {
        self.position().now
    }

    /// Makes the next epoch begin where a loader of the same set, batch size and seed had come to.
    pub fn resume(&self, state: LoaderState) {
        *self.position() = Position { now: state, next: state };
    }

    fn position(&self) -> MutexGuard<'_, Position> {
        self.position.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The order of an epoch: that of the set, or a permutation.
    fn order(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.dataset.len()).collect();
        if let Some(seed) = self.seed {
            Generator::resume(seed, epoch).fork().shuffle(&mut order);
        }
        order
    }
}

/// The batches of one epoch, see [`DataLoader::epoch`].
#[derive(Debug)]
pub struct Epoch<'a, D> {
    loader: &'a DataLoader<D>,
    order: Vec<usize>,
    state: LoaderState,
}

impl<D: Dataset> Epoch<'_, D> {
    /// The number of this epoch, from 0.
    pub fn number(&self) -> u64 {
        self.state.epoch
    }
}

impl<D: Dataset> Iterator for Epoch<'_, D> {
    type Item = Result<D::Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.state.batch as usize;
        if at >= self.loader.len() {
            let mut position = self.loader.position();
            position.now = position.next;
            return None;
        }
        self.state.batch += 1;
        self.loader.position().now = self.state;
        let start = at * self.loader.batch_size;
        let end = self.order.len().min(start + self.loader.batch_size);
        Some(self.loader.dataset.batch(&self.order[start..end]))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.loader.len().saturating_sub(self.state.batch as usize);
        (left, Some(left))
    }
}

impl<D: Dataset> ExactSizeIterator for Epoch<'_, D> {}
