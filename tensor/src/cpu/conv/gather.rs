//! A matrix by two tables of offsets: how im2col looks to a product without ever being written.
//!
//! ```text
//! line(i)[p] = data[lines[i] + steps[p]]
//! ```
//!
//! With the zeros of the padding laid out in `data`, every element of im2col has this form: the pixel's offset plus the
//! tap's. Neighbouring pixels are neighbours in memory, so that a panel is a few contiguous runs.

use crate::cpu::gemm::{Block, GemmElement, PackSource};
use bytemuck::Zeroable;

/// The matrix of `data[lines[i] + steps[p]]`.
pub(super) struct Gathered<'a, T> {
    data: &'a [T],
    lines: &'a [usize],
    steps: &'a [usize],
    /// How far a read that starts at any element may run on.
    slack: usize,
}

impl<'a, T> Gathered<'a, T> {
    /// # Panics
    /// If an element lies outside `data`.
    pub(super) fn new(data: &'a [T], lines: &'a [usize], steps: &'a [usize]) -> Self {
        let last = match (lines.iter().max(), steps.iter().max()) {
            (Some(line), Some(step)) => line + step + 1,
            _ => 0,
        };
        assert!(last <= data.len(), "a gathered matrix reaches {last} of {} elements", data.len());
        Gathered { data, lines, steps, slack: data.len() - last }
    }
}

impl<T: GemmElement> PackSource<T::Acc> for Gathered<'_, T> {
    fn lines(&self) -> usize {
        self.lines.len()
    }

    fn steps(&self) -> usize {
        self.steps.len()
    }

    fn pack(&self, block: &Block, panels: &mut [T::Acc]) {
        assert_eq!(panels.len(), block.volume(), "the panels of a block have exactly its volume");
        match block.width {
            4 => self.panels::<4>(block, panels),
            6 => self.panels::<6>(block, panels),
            8 => self.panels::<8>(block, panels),
            16 => self.panels::<16>(block, panels),
            24 => self.panels::<24>(block, panels),
            32 => self.panels::<32>(block, panels),
            48 => self.panels::<48>(block, panels),
            width => {
                let (lines, steps) = (&self.lines[block.lines.clone()], &self.steps[block.k.clone()]);
                for (lines, panel) in lines.chunks(width).zip(panels.chunks_mut(width * steps.len().max(1))) {
                    for (step, row) in steps.iter().zip(panel.chunks_mut(width)) {
                        row.fill(T::Acc::zeroed());
                        for (line, value) in lines.iter().zip(row) {
                            *value = self.data[line + step].widen();
                        }
                    }
                }
            }
        }
    }
}

/// Lines of one panel whose offsets follow each other: where they go, and the offset of the first.
#[derive(Clone, Copy, Default)]
struct Run {
    to: usize,
    from: usize,
}

impl<T: GemmElement> Gathered<'_, T> {
    fn panels<const W: usize>(&self, block: &Block, panels: &mut [T::Acc]) {
        let (lines, steps) = (&self.lines[block.lines.clone()], &self.steps[block.k.clone()]);
        if steps.is_empty() {
            return;
        }
        let mut rest = panels;
        for lines in lines.chunks(W) {
            let mut runs = [Run::default(); W];
            let count = find_runs(lines, &mut runs);
            // A run copies W values whatever its length; what is too much is overwritten by the next run, row or
            // panel. So it needs room after the last row: that row is copied by itself.
            let panel = W * steps.len();
            let whole = match count * 4 <= lines.len().max(4) && self.slack >= W {
                true if rest.len() > panel => steps.len(),
                true => steps.len() - 1,
                false => 0,
            };
            if whole > 0 {
                self.copy_runs::<W>(&runs[..count], lines.len(), &steps[..whole], rest);
            }
            self.copy_each::<W>(lines, &steps[whole..], &mut rest[W * whole..panel]);
            rest = &mut rest[panel..];
        }
    }

    /// Rows of a panel as overlapping copies of W values. `out` has W more places than the rows need.
    fn copy_runs<const W: usize>(&self, runs: &[Run], filled: usize, steps: &[usize], out: &mut [T::Acc]) {
        assert!(out.len() >= W * (steps.len() + 1) && self.slack >= W && filled <= W);
        let data = self.data.as_ptr();
        let out = out.as_mut_ptr();
        for (p, step) in steps.iter().enumerate() {
            for run in runs {
                // SAFETY: an element and the `slack >= W` after it are inside `data` (proven by `new`); a row starts at
                // `W * p`, a run less than W after it, and W places more are inside `out` (asserted above).
                unsafe { copy::<T, W>(data.add(run.from + step), out.add(W * p + run.to)) }
            }
            if filled < W {
                // SAFETY: as above.
                unsafe { out.add(W * p + filled).cast::<[T::Acc; W]>().write([T::Acc::zeroed(); W]) }
            }
        }
    }

    /// Rows of a panel, one value at a time.
    fn copy_each<const W: usize>(&self, lines: &[usize], steps: &[usize], out: &mut [T::Acc]) {
        let mut from = [0; W];
        from[..lines.len()].copy_from_slice(lines);
        for (step, row) in steps.iter().zip(out.chunks_exact_mut(W)) {
            if lines.len() == W {
                for (value, from) in row.iter_mut().zip(from) {
                    // SAFETY: `from` is a line and `step` a step; their sum is inside `data` (proven by `new`).
                    *value = unsafe { *self.data.get_unchecked(from + step) }.widen();
                }
            } else {
                let (values, padding) = row.split_at_mut(lines.len());
                padding.fill(T::Acc::zeroed());
                for (value, from) in values.iter_mut().zip(from) {
                    // SAFETY: as above.
                    *value = unsafe { *self.data.get_unchecked(from + step) }.widen();
                }
            }
        }
    }
}

/// Copies W values, widened.
///
/// # Safety
/// `from` and `to` are valid for W values.
#[inline(always)]
unsafe fn copy<T: GemmElement, const W: usize>(from: *const T, to: *mut T::Acc) {
    // SAFETY: the caller vouches for both.
    unsafe {
        let values = from.cast::<[T; W]>().read();
        to.cast::<[T::Acc; W]>().write(values.map(T::widen));
    }
}

/// Cuts lines into runs; how many there are.
fn find_runs<const W: usize>(lines: &[usize], runs: &mut [Run; W]) -> usize {
    let mut count = 0;
    for (to, &from) in lines.iter().enumerate() {
        if to == 0 || from != lines[to - 1] + 1 {
            runs[count] = Run { to, from };
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::isa::Isa;

    #[test]
    fn panels_hold_what_the_tables_say_and_zeros_after_it() {
        let data: Vec<f32> = (0..400).map(|i| i as f32).collect();
        let tables: [&[usize]; 4] = [
            &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18],
            &[0, 1, 2, 3, 4, 5, 6, 17, 18, 19, 20, 21, 22, 23, 40, 41, 42, 43, 44, 45, 46],
            &[7, 3, 99, 4],
            &[],
        ];
        for lines in tables {
            for (steps, len) in
                [(vec![0, 5, 1, 280], 400), (vec![0, 17, 281], 400), (vec![9], 109), (vec![], 400)]
            {
                let source = Gathered::new(&data[..len], lines, &steps);
                for width in [3, 4, 6, 8, 16, 24, 48] {
                    let block = Block { k: 0..steps.len(), lines: 0..lines.len(), width, isa: Isa::Portable };
                    let mut panels = vec![f32::NAN; block.volume()];
                    source.pack(&block, &mut panels);
                    for (at, value) in panels.iter().enumerate() {
                        let (panel, rest) = (at / (width * steps.len()), at % (width * steps.len()));
                        let expected = lines.get(panel * width + rest % width);
                        assert_eq!(*value, expected.map_or(0.0, |line| data[line + steps[rest / width]]));
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "reaches 12 of 11")]
    fn a_table_that_leaves_the_data_is_refused() {
        Gathered::new(&[0f32; 11], &[0, 9], &[0, 2]);
    }
}
