//! A progress bar for an epoch of training.

use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Write;

/// A line on the terminal that shows how far an epoch is, the loss and the accuracy. It writes nothing when standard
/// error is not a terminal, and clears itself at the end: what is to stay, the program prints.
///
/// ```no_run
/// use gradus_nn::progress::EpochBar;
/// let bar = EpochBar::new(1, 10, 938);
/// bar.step(0.43, Some(0.87));
/// bar.finish();
/// ```
#[derive(Debug)]
pub struct EpochBar {
    bar: ProgressBar,
}

impl EpochBar {
    /// For one of `epochs` epochs, counted from 1, of that many batches.
    pub fn new(epoch: u64, epochs: u64, batches: usize) -> EpochBar {
        let bar = ProgressBar::new(batches as u64);
        let template = "{prefix} [{bar:30}] {pos}/{len} {msg} {elapsed} (left {eta})";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(format!("epoch {epoch}/{epochs}"));
        EpochBar { bar }
    }

    /// One more batch, with the loss and the accuracy to show.
    pub fn step(&self, loss: f64, accuracy: Option<f64>) {
        let mut message = format!("loss {loss:.4}");
        if let Some(accuracy) = accuracy {
            // Writing to a String cannot fail.
            let _ = write!(message, " accuracy {:.2} %", 100.0 * accuracy);
        }
        self.bar.set_message(message);
        self.bar.inc(1);
    }

    /// Removes the line.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for EpochBar {
    fn drop(&mut self) {
        self.finish();
    }
}
