//! Data: sets of examples, loaders that batch them, text windows, and readers of files.
//!
//! Everything here is deterministic: the order of an epoch depends on the seed and the number of the epoch alone, so a
//! loader resumed from a [`LoaderState`] gives what an uninterrupted one would have given.

mod csv;
mod dataset;
mod file;
mod idx;
mod loader;
mod text;

pub(crate) use file::reason;

pub use csv::{Csv, CsvOptions, parse_csv, read_csv};
pub use dataset::{Batch, Dataset, TensorDataset};
pub use file::read_text;
pub use idx::{Mnist, mnist_dir, mnist_part, parse_idx, read_idx};
pub use loader::{DataLoader, Epoch, LoaderState};
pub use text::{CharVocab, TextWindow, TextWindows};
