//! The kernel of a gradient with a stride of 2 along the rows: a row of outputs is two rows of sums, whose columns take turns.
//!
//! ```text
//! out[r][2 · j + i] = start + Σ_t Σ_k weights_i[t][k] · data[(r + k · dilation) · pitch + taps_i[t] + j]      i = 0, 1
//! ```

use super::rows::next;
use crate::cpu::conv::level::Kernel;
use crate::cpu::gemm::{Scalar, Vector};

/// The even or the odd columns of the outputs.
#[derive(Clone, Copy)]
pub(super) struct Part<'a, S> {
    /// Where the columns of the kernel start, for each channel that is summed over.
    pub taps: &'a [usize],
    /// `[taps, height]`.
    pub weights: &'a [S],
    /// How many columns there are: as many odd ones as even ones, or one less.
    pub columns: usize,
}

/// Some rows of outputs.
pub(super) struct Woven<'a, S> {
    /// The framed sources.
    pub data: &'a [S],
    /// From row to row of the sources.
    pub pitch: usize,
    /// Rows of the sources from one row of the kernel to the next.
    pub dilation: usize,
    /// Rows of the kernel.
    pub height: usize,
    /// The even columns and the odd ones.
    pub parts: [Part<'a, S>; 2],
    /// What the sums begin with.
    pub start: S,
    /// Rows of outputs.
    pub rows: usize,
    /// From row to row of the outputs.
    pub out_pitch: usize,
    /// The outputs.
    pub out: &'a mut [S],
}

impl<S: Scalar> Woven<'_, S> {
    /// Some vectors of sums of a part.
    ///
    /// # Safety
    /// As for `run`; the part has the columns, and the row exists.
    #[inline(always)]
    unsafe fn sums<V: Vector<Elem = S>, const C: usize>(
        &self,
        part: &Part<S>,
        row: usize,
        column: usize,
    ) -> [V; C] {
        // SAFETY: `run` has asserted that the taps of all outputs are inside the sources and that each has its weights.
        unsafe {
            let mut sums = [V::splat(self.start); C];
            let data = self.data.as_ptr().add(row * self.pitch + column);
            let mut weight = part.weights.as_ptr();
            for tap in part.taps {
                let mut from = data.add(*tap);
                for _ in 0..self.height {
                    let w = V::splat(*weight);
                    for (c, sum) in sums.iter_mut().enumerate() {
                        *sum = w.times_plus(V::load(from.add(c * V::LANES)), *sum);
                    }
                    weight = weight.wrapping_add(1);
                    next(&mut from, self.dilation * self.pitch);
                }
            }
            sums
        }
    }

    /// C vectors of even columns and as many of odd ones, from a column of each on.
    ///
    /// # Safety
    /// As for [`sums`](Self::sums).
    #[inline(always)]
    unsafe fn block<V: Vector<Elem = S>, const C: usize>(&mut self, row: usize, column: usize) {
        // SAFETY: as for `sums`; the row of outputs has twice the columns.
        unsafe {
            let even = self.sums::<V, C>(&self.parts[0], row, column);
            let odd = self.sums::<V, C>(&self.parts[1], row, column);
            let out = self.out.as_mut_ptr().add(row * self.out_pitch + 2 * column);
            for c in 0..C {
                let (first, second) = even[c].weave(odd[c]);
                first.store(out.add(2 * c * V::LANES));
                second.store(out.add((2 * c + 1) * V::LANES));
            }
        }
    }
}

impl<S: Scalar> Kernel<S> for Woven<'_, S> {
    #[inline(always)]
    unsafe fn run<V: Vector<Elem = S>>(mut self) {
        let [even, odd] = self.parts.map(|part| part.columns);
        assert!(V::LANES <= odd && odd <= even && even <= odd + 1, "the columns take turns");
        if self.rows == 0 {
            return;
        }
        assert!((self.rows - 1) * self.out_pitch + even + odd <= self.out.len(), "the outputs have all rows");
        let rows = self.rows - 1 + self.height.saturating_sub(1) * self.dilation;
        for part in &self.parts {
            assert!(part.weights.len() >= part.taps.len() * self.height, "each tap has weights");
            let reach = rows * self.pitch + part.taps.iter().max().unwrap_or(&0) + part.columns;
            let empty = part.taps.is_empty() || self.height == 0;
            assert!(empty || reach <= self.data.len(), "a tap reads {reach} of {} values", self.data.len());
        }
        for row in 0..self.rows {
            // SAFETY: the reach was asserted; columns end at that of the odd ones, whose last vectors start early.
            unsafe {
                let mut column = 0;
                while column + 4 * V::LANES <= odd {
                    self.block::<V, 4>(row, column);
                    column += 4 * V::LANES;
                }
                while column < odd && 2 * V::LANES <= odd {
                    self.block::<V, 2>(row, column.min(odd - 2 * V::LANES));
                    column += 2 * V::LANES;
                }
                while column < odd {
                    self.block::<V, 1>(row, column.min(odd - V::LANES));
                    column += V::LANES;
                }
            }
            if even > odd {
                let mut lanes = [S::ZERO; 16];
                const { assert!(V::LANES <= 16) };
                // SAFETY: as above; there is room for all lanes.
                unsafe {
                    let [sums] = self.sums::<V, 1>(&self.parts[0], row, even - V::LANES);
                    sums.store(lanes.as_mut_ptr());
                }
                self.out[row * self.out_pitch + 2 * odd] = lanes[V::LANES - 1];
            }
        }
    }
}
