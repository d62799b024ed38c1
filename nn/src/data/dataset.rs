//! Sets of examples.

use autograd::Var;
use tensor::{Error, Generator, Result, Tensor};

/// A set of examples that can be picked by index.
///
/// How several of them become a batch is the set's own business, so that one made of tensors can pick all rows at once.
pub trait Dataset {
    /// One example.
    type Item;
    /// Several examples at once.
    type Batch;

    /// How many examples there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The example at an index.
    ///
    /// # Errors
    /// When the index is out of range, or the example cannot be read.
    fn get(&self, index: usize) -> Result<Self::Item>;

    /// The examples at these indices, in this order.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn batch(&self, indices: &[usize]) -> Result<Self::Batch>;
}

/// Some examples, or one: inputs ready for a model, and what it should say about them.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What goes into the model: a constant, `[n, …]`.
    pub inputs: Var,
    /// What should come out of it, `[n, …]`.
    pub labels: Tensor,
    /// How many examples.
    pub len: usize,
}

/// Inputs and labels in memory, which share their first dim.
///
/// ```
/// use gradus_nn::data::{Dataset, TensorDataset};
/// use tensor::{DType, Device, Tensor};
/// # fn main() -> tensor::Result<()> {
/// let cpu = Device::cpu();
/// let images = Tensor::zeros([5, 1, 28, 28], &cpu)?;
/// let labels = Tensor::arange(0, 5, 1, (DType::I64, &cpu))?;
/// let set = TensorDataset::new(images, labels)?;
/// let batch = set.batch(&[4, 0])?;
/// assert_eq!(batch.inputs.dims(), [2, 1, 28, 28]);
/// assert_eq!(batch.labels.to_vec::<i64>()?, [4, 0]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct TensorDataset {
    inputs: Tensor,
    labels: Tensor,
}

impl TensorDataset {
    /// Inputs `[n, …]` and labels `[n, …]` of any dtypes on one device.
    ///
    /// # Errors
    /// When they are not equally many, or live on different devices.
    pub fn new(inputs: Tensor, labels: Tensor) -> Result<TensorDataset> {
        let many = |t: &Tensor| t.dims().first().copied();
        if many(&inputs).is_none() || many(&inputs) != many(&labels) {
            return Err(Error::shapes("TensorDataset", inputs.shape(), labels.shape())
                .hint("inputs and labels share their first dim"));
        }
        if inputs.device() != labels.device() {
            let (lhs, rhs) = (inputs.device().to_string(), labels.device().to_string());
            return Err(tensor::ErrorKind::DeviceMismatch { op: "TensorDataset", lhs, rhs }.into());
        }
        Ok(TensorDataset { inputs, labels })
    }

    /// All inputs.
    pub fn inputs(&self) -> &Tensor {
        &self.inputs
    }

    /// All labels.
    pub fn labels(&self) -> &Tensor {
        &self.labels
    }

    /// The first `n` examples and the others; views, nothing is copied.
    ///
    /// # Errors
    /// When there are fewer than `n`.
    pub fn split_at(&self, n: usize) -> Result<(TensorDataset, TensorDataset)> {
        let Some(others) = self.len().checked_sub(n) else {
            return Err(Error::argument("split_at", format!("{n} of {} examples", self.len())));
        };
        let part = |start, length| -> Result<TensorDataset> {
            Ok(TensorDataset {
                inputs: self.inputs.narrow(0, start, length)?,
                labels: self.labels.narrow(0, start, length)?,
            })
        };
        Ok((part(0, n)?, part(n, others)?))
    }

    /// A random part of `round(share · len)` examples and the others, for training and testing. One seed gives one
    /// split.
    ///
    /// # Errors
    /// When the share is not in `0.0..=1.0`.
    pub fn random_split(&self, share: f64, seed: u64) -> Result<(TensorDataset, TensorDataset)> {
        if !(0.0..=1.0).contains(&share) {
            return Err(Error::argument("random_split", format!("a share is in 0..=1, got {share}")));
        }
        let mut order: Vec<usize> = (0..self.len()).collect();
        Generator::new(seed).shuffle(&mut order);
        let (first, second) = order.split_at((share * self.len() as f64).round() as usize);
        Ok((self.subset(first)?, self.subset(second)?))
    }

    /// A copy of the examples at these indices.
    ///
    /// # Errors
    /// When an index is out of range.
    pub fn subset(&self, indices: &[usize]) -> Result<TensorDataset> {
        let index: Vec<i64> = indices.iter().map(|&i| i as i64).collect();
        let index = Tensor::from_slice(&index, [index.len()], self.inputs.device())?;
        Ok(TensorDataset {
            inputs: self.inputs.index_select(0, &index)?,
            labels: self.labels.index_select(0, &index)?,
        })
    }
}

impl Dataset for TensorDataset {
    type Item = (Tensor, Tensor);
    type Batch = Batch;

    fn len(&self) -> usize {
        self.inputs.dims()[0]
    }

    fn get(&self, index: usize) -> Result<(Tensor, Tensor)> {
        if index >= self.len() {
            return Err(Error::index("TensorDataset", index as i64, self.len()));
        }
        Ok((self.inputs.select(0, index as isize)?, self.labels.select(0, index as isize)?))
    }

    fn batch(&self, indices: &[usize]) -> Result<Batch> {
        let TensorDataset { inputs, labels } = self.subset(indices)?;
        Ok(Batch { inputs: inputs.into(), labels, len: indices.len() })
    }
}
