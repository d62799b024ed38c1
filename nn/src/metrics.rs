//! Numbers that say how well a model does.

use std::fmt;
use tensor::{DType, Error, Result, Tensor};

/// A running mean in which each value counts as often as its weight says: the loss of batches of unequal sizes.
///
/// ```
/// use gradus_nn::metrics::Mean;
/// let mut loss = Mean::default();
/// loss.add(1.0, 64);
/// loss.add(4.0, 32);
/// assert_eq!(loss.value(), 2.0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    /// Adds the mean of `count` values.
    pub fn add(&mut self, value: f64, count: usize) {
        self.sum += value * count as f64;
        self.weight += count as f64;
    }

    /// The mean; NaN if nothing was added.
    pub fn value(&self) -> f64 {
        self.sum / self.weight
    }

    /// How many values were added.
    pub fn count(&self) -> usize {
        self.weight as usize
    }
}

/// The share of rows of `[n, classes]` logits whose largest element is that of the label; NaN if there are no rows.
///
/// ```
/// use gradus_nn::metrics::accuracy;
/// use tensor::{Device, Tensor};
/// # fn main() -> tensor::Result<()> {
/// let logits = Tensor::from_slice(&[0.1f32, 0.9, 0.8, 0.2], [2, 2], &Device::cpu())?;
/// let labels = Tensor::from_slice(&[1i64, 1], [2], &Device::cpu())?;
/// assert_eq!(accuracy(&logits, &labels)?, 0.5);
/// # Ok(()) }
/// ```
///
/// # Errors
/// Shapes or dtypes that do not fit.
pub fn accuracy(logits: &Tensor, labels: &Tensor) -> Result<f64> {
    let predicted = predictions("accuracy", logits, labels)?;
    let right = predicted.iter().zip(labels.to_vec::<i64>()?).filter(|&(&p, l)| p == l).count();
    Ok(right as f64 / predicted.len() as f64)
}

/// The class of the largest logit of each row.
fn predictions(op: &'static str, logits: &Tensor, labels: &Tensor) -> Result<Vec<i64>> {
    if logits.rank() != 2 || labels.dims() != &logits.dims()[..1] {
        return Err(
            Error::shapes(op, logits.shape(), labels.shape()).hint("logits are [n, classes] and labels [n]")
        );
    }
    if labels.dtype() != DType::I64 {
        return Err(Error::dtype(op, labels.dtype(), "int64 labels"));
    }
    if labels.numel() == 0 {
        return Ok(vec![]);
    }
    logits.argmax(1, false)?.to_vec()
}

/// How often each class was taken for each other one.
///
/// ```
/// use gradus_nn::metrics::ConfusionMatrix;
/// let mut matrix = ConfusionMatrix::new(2);
/// matrix.count(&[0, 1, 1], &[0, 0, 1]).unwrap();
/// assert_eq!(matrix.get(0, 1), 1);
/// assert_eq!(matrix.to_string(), "label\\as  0  1\n       0  1  1\n       1  0  1\n");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfusionMatrix {
    classes: usize,
    counts: Vec<u64>,
}

impl ConfusionMatrix {
    /// For classes `0..classes`.
    pub fn new(classes: usize) -> ConfusionMatrix {
        ConfusionMatrix { classes, counts: vec![0; classes * classes] }
    }

    /// Counts the rows of `[n, classes]` logits.
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit, a class out of range.
    pub fn add(&mut self, logits: &Tensor, labels: &Tensor) -> Result<()> {
        let predicted = predictions("ConfusionMatrix", logits, labels)?;
        self.count(&predicted, &labels.to_vec::<i64>()?)
    }

    /// Counts predicted classes against labels.
    ///
    /// # Errors
    /// Lists of different lengths, a class out of range. Nothing is counted then.
    pub fn count(&mut self, predicted: &[i64], labels: &[i64]) -> Result<()> {
        const OP: &str = "ConfusionMatrix";
        if predicted.len() != labels.len() {
            let message = format!("{} predictions for {} labels", predicted.len(), labels.len());
            return Err(Error::argument(OP, message));
        }
        let range = 0..self.classes as i64;
        if let Some(&class) = predicted.iter().chain(labels).find(|class| !range.contains(class)) {
            return Err(Error::index(OP, class, self.classes));
        }
        for (&p, &l) in predicted.iter().zip(labels) {
            self.counts[l as usize * self.classes + p as usize] += 1;
        }
        Ok(())
    }

    /// How often `label` was taken for `predicted`; 0 for classes that there are not.
    pub fn get(&self, label: usize, predicted: usize) -> u64 {
        let inside = label < self.classes && predicted < self.classes;
        if inside { self.counts[label * self.classes + predicted] } else { 0 }
    }

    /// The share that was right; NaN before anything was counted.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = (0..self.classes).map(|c| self.get(c, c)).sum();
        right as f64 / self.counts.iter().sum::<u64>() as f64
    }
}

/// A table with a row per label and a column per prediction.
impl fmt::Display for ConfusionMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CORNER: &str = "label\\as";
        let largest =
            self.counts.iter().copied().max().unwrap_or(0).max(self.classes.saturating_sub(1) as u64);
        let width = largest.to_string().len() + 2;
        write!(f, "{CORNER}")?;
        (0..self.classes).try_for_each(|c| write!(f, "{c:>width$}"))?;
        writeln!(f)?;
        for label in 0..self.classes {
            write!(f, "{label:>corner$}", corner = CORNER.len())?;
            (0..self.classes).try_for_each(|p| write!(f, "{:>width$}", self.get(label, p)))?;
            writeln!(f)?;
        }
        Ok(())
    }
}
