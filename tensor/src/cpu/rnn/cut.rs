//! How a step is cut into tasks: a function of the shape alone.

use std::ops::Range;

/// The most sequences of a task: their values stay in the first-level cache beside a panel of weights.
const ROWS: usize = 48;

/// Units of a task are a multiple of this: whole vectors, and for most kernels whole panels.
const UNITS: usize = 16;

/// Multiply-adds that are worth a task, about 3 us; fewer rows than [`FEW`] wait for the weights instead, as long as so many.
const GRAIN: usize = 1 << 17;
const FEW: usize = 8;

/// The tasks of a step: blocks of units and, where there are many sequences, of these. Tasks that follow each other share
/// units, so that a thread, which has consecutive ones, needs few of the weights.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    n: usize,
    hidden: usize,
    row_blocks: usize,
    units: usize,
}

impl Cut {
    /// For `n` sequences of `hidden` units, each unit with sums of `products` products in all.
    pub(super) fn new(n: usize, hidden: usize, products: usize) -> Self {
        let row_blocks = n.div_ceil(ROWS);
        let of_a_unit = n.div_ceil(row_blocks).max(FEW).saturating_mul(products);
        let units = (GRAIN / of_a_unit.max(1)).next_multiple_of(UNITS).max(UNITS);
        Self { n, hidden, row_blocks, units }
    }

    pub(super) fn tasks(&self) -> usize {
        self.row_blocks * self.hidden.div_ceil(self.units)
    }

    /// The sequences and the units of a task.
    pub(super) fn get(&self, task: usize) -> (Range<usize>, Range<usize>) {
        let (block, first) = (task % self.row_blocks, task / self.row_blocks * self.units);
        let rows = block * self.n / self.row_blocks..(block + 1) * self.n / self.row_blocks;
        (rows, first..self.hidden.min(first + self.units))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_cover_every_unit_of_every_sequence_once() {
        for (n, hidden, products) in
            [(1, 1, 1), (1, 128, 512), (49, 17, 68), (200, 100, 400), (32, 256, 1024)]
        {
            let cut = Cut::new(n, hidden, products);
            let mut seen = vec![0; n * hidden];
            for (rows, units) in (0..cut.tasks()).map(|task| cut.get(task)) {
                assert!(!rows.is_empty() && !units.is_empty());
                rows.for_each(|row| units.clone().for_each(|unit| seen[row * hidden + unit] += 1));
            }
            assert!(seen.iter().all(|&times| times == 1), "{n} sequences of {hidden} units");
        }
    }
}
