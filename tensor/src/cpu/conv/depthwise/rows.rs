//! The kernel of a pass over single channels: tiles of a few rows by a few vectors, in registers.
//!
//! ```text
//! out[r][j] = start + Σ_t Σ_k weights[t][k] · data[(r · stride + k) · pitch + taps[t] + j]
//! ```
//!
//! A row of the sources takes part in as many rows of outputs as the kernel is high: a tile reads it once for all of them.

use crate::cpu::conv::deal::Deal;
use crate::cpu::conv::level::Kernel;
use crate::cpu::gemm::{Scalar, Vector};

/// Rows of a tile.
const ROWS: usize = 4;

/// Some rows of outputs.
pub(super) struct Rows<'a, S> {
    /// The framed sources.
    pub data: *const S,
    /// How many values they have.
    pub len: usize,
    /// The rows of the sources, if they are not there yet: each is copied while those before it are read, so that the one waits
    /// for memory and the other for arithmetic.
    pub feed: Option<Deal<'a, S>>,
    /// From row to row of the sources.
    pub pitch: usize,
    /// Rows of the sources from one row of outputs to the next.
    pub stride: usize,
    /// Rows of the sources from one row of the kernel to the next.
    pub dilation: usize,
    /// Where the columns of the kernel start, for each channel that is summed over.
    pub taps: &'a [usize],
    /// Rows of the kernel.
    pub height: usize,
    /// `[taps, height]`.
    pub weights: &'a [S],
    /// What the sums begin with.
    pub start: S,
    /// Rows and columns of outputs, which are contiguous.
    pub size: [usize; 2],
    /// The outputs, which nobody else reaches while the kernel runs.
    pub out: *mut S,
    /// Sources that are likely to be read next, unless they are fed.
    pub ahead: *const S,
}

/// Repeats a block for each number that is less than a bound: loops over registers must be unrolled.
macro_rules! unrolled {
    ($i:ident < $bound:expr, $body:block, $($n:literal)+) => { $( { let $i: usize = $n; if $i < $bound $body } )+ };
}
pub(super) use unrolled;

/// Moves on to the next row.
#[inline(always)]
pub(super) fn next<S>(at: &mut *const S, pitch: usize) {
    *at = at.wrapping_add(pitch);
}

impl<S: Scalar> Rows<'_, S> {
    /// R rows of C vectors from an output on.
    #[inline(always)]
    unsafe fn tile<V: Vector<Elem = S>, const KH: usize, const SH: usize, const R: usize, const C: usize>(
        &self,
        row: usize,
        column: usize,
    ) {
        // SAFETY: `run` has asserted that the taps of all outputs are inside the sources and that each has its weights; the
        // rows and columns are inside the outputs.
        unsafe {
            let mut sums = [[V::splat(self.start); C]; R];
            let data = self.data.add(row * SH * self.pitch + column);
            for r in 0..R {
                let at = (row + r) * self.size[1] + column;
                if self.feed.is_none() {
                    for line in 0..SH * SH {
                        V::prefetch(self.ahead.wrapping_add(at * SH * SH + line * 16));
                    }
                }
                V::prefetch(self.out.wrapping_add(at + 2 * R * self.size[1]));
            }
            for (t, tap) in self.taps.iter().enumerate() {
                let mut weights = [V::zero(); KH];
                for (k, weight) in weights.iter_mut().enumerate() {
                    *weight = V::splat(*self.weights.as_ptr().add(t * KH + k));
                }
                let mut from = data.add(*tap);
                unrolled! { i < (R - 1) * SH + KH, {
                    let mut values = [V::zero(); C];
                    for (c, value) in values.iter_mut().enumerate() {
                        *value = V::load(from.add(c * V::LANES));
                    }
                    next(&mut from, self.pitch);
                    for r in 0..R {
                        let k = i.wrapping_sub(r * SH);
                        if k < KH {
                            for c in 0..C {
                                sums[r][c] = weights[k].times_plus(values[c], sums[r][c]);
                            }
                        }
                    }
                }, 0 1 2 3 4 5 6 7 8 9 10 }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                self.write::<V, C>(sums, row + r, column);
            }
        }
    }

    /// One row of C vectors, for kernels of any height.
    #[inline(always)]
    unsafe fn line<V: Vector<Elem = S>, const C: usize>(&self, row: usize, column: usize) {
        // SAFETY: as for `tile`.
        unsafe {
            let mut sums = [V::splat(self.start); C];
            let data = self.data.add(row * self.stride * self.pitch + column);
            let mut weight = self.weights.as_ptr();
            for tap in self.taps {
                let mut from = data.add(*tap);
                for _ in 0..self.height {
                    let w = V::splat(*weight);
                    for (c, sum) in sums.iter_mut().enumerate() {
                        *sum = w.times_plus(V::load(from.add(c * V::LANES)), *sum);
                    }
                    weight = weight.wrapping_add(1);
                    from = from.wrapping_add(self.dilation * self.pitch);
                }
            }
            self.write::<V, C>(sums, row, column);
        }
    }

    /// Stores C vectors of a row.
    #[inline(always)]
    unsafe fn write<V: Vector<Elem = S>, const C: usize>(&self, sums: [V; C], row: usize, column: usize) {
        let [rows, width] = self.size;
        let at = row * width + column;
        // SAFETY: the outputs belong to the kernel.
        unsafe {
            for (c, sum) in sums.into_iter().enumerate() {
                // Only a row shorter than a vector reaches the end: what it leaves over is written to the next rows, whose own
                // values follow.
                if C == 1 && at + V::LANES > rows * width {
                    sum.store_first(self.out.add(at), width);
                } else {
                    sum.store(self.out.add(at + c * V::LANES));
                }
            }
        }
    }

    /// All rows, as tiles if there are enough of them.
    #[inline(always)]
    unsafe fn tiles<V: Vector<Elem = S>, const KH: usize, const SH: usize>(&self) {
        let [rows, width] = self.size;
        let mut fed = 0;
        for row in (0..rows).step_by(ROWS) {
            if let Some(feed) = &self.feed {
                // What this tile and the next one read: stores of the last moment would hold up the loads.
                let end = feed.lines.count.min((row + 2 * ROWS - 1) * SH + KH);
                for i in fed..end {
                    // SAFETY: as for `run`.
                    unsafe { feed.row::<V>(i) }
                }
                fed = fed.max(end);
            }
            // The last tile starts early and repeats a few values. Where rows are short, so that tiles write into the
            // next rows, these follow in any case.
            let row = row.min(rows - ROWS);
            // SAFETY: as for `run`.
            unsafe {
                // The last vectors start early, too: one at a time would have too few sums to keep the multipliers busy.
                if width >= 2 * V::LANES {
                    for column in (0..width).step_by(2 * V::LANES) {
                        self.tile::<V, KH, SH, ROWS, 2>(row, column.min(width - 2 * V::LANES));
                    }
                } else {
                    for column in (0..width).step_by(V::LANES) {
                        self.tile::<V, KH, SH, ROWS, 1>(row, column.min(width.saturating_sub(V::LANES)));
                    }
                }
            }
        }
    }

    /// All rows, one by one.
    #[inline(always)]
    unsafe fn lines<V: Vector<Elem = S>>(&self) {
        let [rows, width] = self.size;
        if let Some(feed) = self.feed {
            // SAFETY: as for `run`.
            unsafe { feed.run::<V>() }
        }
        for row in 0..rows {
            // SAFETY: as for `run`.
            unsafe {
                let mut column = 0;
                while column + 4 * V::LANES <= width {
                    self.line::<V, 4>(row, column);
                    column += 4 * V::LANES;
                }
                while column < width {
                    self.line::<V, 1>(row, column.min(width.saturating_sub(V::LANES)));
                    column += V::LANES;
                }
            }
        }
    }
}

impl<S: Scalar> Kernel<S> for Rows<'_, S> {
    #[inline(always)]
    unsafe fn run<V: Vector<Elem = S>>(self) {
        let [rows, width] = self.size;
        if rows == 0 || width == 0 {
            return;
        }
        assert!(self.weights.len() >= self.taps.len() * self.height, "each tap has weights");
        if let (Some(last), true) = (self.taps.iter().max(), self.height > 0) {
            let rows = (rows - 1) * self.stride + (self.height - 1) * self.dilation;
            let reach = rows * self.pitch + last + width.max(V::LANES);
            assert!(reach <= self.len, "a tap reads {reach} of {} values", self.len);
        }
        self.feed.iter().for_each(Deal::check);
        let dense = rows >= ROWS && self.dilation == 1;
        // SAFETY: the reach was asserted.
        unsafe {
            match (self.height, self.stride) {
                (3, 1) if dense => self.tiles::<V, 3, 1>(),
                (5, 1) if dense => self.tiles::<V, 5, 1>(),
                (7, 1) if dense => self.tiles::<V, 7, 1>(),
                (3, 2) if dense => self.tiles::<V, 3, 2>(),
                (5, 2) if dense => self.tiles::<V, 5, 2>(),
                _ => self.lines::<V>(),
            }
        }
    }
}
