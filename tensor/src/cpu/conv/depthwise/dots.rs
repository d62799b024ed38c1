//! The kernel of the gradient in the weights of single channels: all taps of a few rows of the kernel at a time, in registers.
//!
//! ```text
//! sums[k][t] += Σ_(r, j) grad[r][j] · data[(r · stride + k) · pitch + taps[t] + j]
//! ```
//!
//! Two rows of the gradient share the rows of the sources that both of them meet.

use super::rows::{next, unrolled};
use crate::cpu::conv::dots::total;
use crate::cpu::conv::level::Kernel;
use crate::cpu::gemm::{Scalar, Vector};

/// Some rows of the gradient.
pub(super) struct Dots<'a, S> {
    /// The framed sources.
    pub data: &'a [S],
    /// From row to row of the sources.
    pub pitch: usize,
    /// Rows of the sources from one row of the gradient to the next.
    pub stride: usize,
    /// Where the columns of the kernel start.
    pub taps: &'a [usize],
    /// Rows of the kernel, which are rows of the sources.
    pub height: usize,
    /// The gradient, contiguous.
    pub grad: &'a [S],
    /// Rows and columns of the gradient.
    pub size: [usize; 2],
    /// `[height, taps]`.
    pub sums: &'a mut [S],
    /// Sources that are likely to be read next.
    pub ahead: *const S,
}

/// Numbers of columns of a kernel that there are tiles for.
pub(super) const WIDTHS: [usize; 5] = [1, 2, 3, 5, 7];

impl<S: Scalar> Dots<'_, S> {
    /// Adds the sums of KH rows of a kernel with KW columns.
    #[inline(always)]
    unsafe fn block<V: Vector<Elem = S>, const KH: usize, const KW: usize, const SH: usize>(
        &mut self,
        first: usize,
    ) {
        let rows = self.size[0];
        // SAFETY: as for `run`.
        let sums = unsafe {
            let mut sums = [[V::zero(); KW]; KH];
            let mut row = 0;
            if const { SH > 0 } {
                while row + 2 <= rows {
                    self.rows::<V, KH, KW, SH, 2>(first, row, &mut sums);
                    row += 2;
                }
            }
            while row < rows {
                self.rows::<V, KH, KW, SH, 1>(first, row, &mut sums);
                row += 1;
            }
            sums
        };
        for (k, sums) in sums.into_iter().enumerate() {
            for (t, sum) in sums.into_iter().enumerate() {
                let to = &mut self.sums[(first + k) * KW + t];
                *to = to.plus(total(sum));
            }
        }
    }

    #[inline(always)]
    unsafe fn rows<V: Vector<Elem = S>, const KH: usize, const KW: usize, const SH: usize, const R: usize>(
        &self,
        first: usize,
        row: usize,
        sums: &mut [[V; KW]; KH],
    ) {
        let width = self.size[1];
        let stride = if SH == 0 { self.stride } else { SH };
        let mut column = 0;
        // SAFETY: as for `run`.
        unsafe {
            let grad = self.grad.as_ptr().add(row * width);
            let data = self.data.as_ptr().add((row * stride + first) * self.pitch);
            while column + V::LANES <= width {
                if first == 0 {
                    for r in 0..R {
                        V::prefetch(self.ahead.wrapping_add((row + r) * width + column));
                    }
                }
                self.step::<V, KH, KW, SH, R, false>(grad.add(column), data.add(column), 0, sums);
                column += V::LANES;
            }
            if column < width {
                let left = width - column;
                self.step::<V, KH, KW, SH, R, true>(grad.add(column), data.add(column), left, sums);
            }
        }
    }

    /// One vector of R rows of the gradient; PARTIAL if it has only `left` lanes.
    #[inline(always)]
    unsafe fn step<
        V: Vector<Elem = S>,
        const KH: usize,
        const KW: usize,
        const SH: usize,
        const R: usize,
        const PARTIAL: bool,
    >(
        &self,
        grad: *const S,
        mut data: *const S,
        left: usize,
        sums: &mut [[V; KW]; KH],
    ) {
        // SAFETY: as for `run`.
        unsafe {
            let mut grads = [V::zero(); R];
            for (r, value) in grads.iter_mut().enumerate() {
                let at = grad.add(r * self.size[1]);
                *value = if PARTIAL { V::load_first(at, left) } else { V::load(at) };
            }
            unrolled! { i < (R - 1) * SH + KH, {
                for t in 0..KW {
                    let at = data.add(*self.taps.get_unchecked(t));
                    let value = if PARTIAL { V::load_first(at, left) } else { V::load(at) };
                    for r in 0..R {
                        let k = i.wrapping_sub(r * SH);
                        if k < KH {
                            sums[k][t] = grads[r].times_plus(value, sums[k][t]);
                        }
                    }
                }
                next(&mut data, self.pitch);
            }, 0 1 2 3 4 }
        }
    }

    /// All rows of a kernel with KW columns, KH at a time where there are that many and the stride is common, else one by one.
    #[inline(always)]
    unsafe fn blocks<V: Vector<Elem = S>, const KH: usize, const KW: usize>(&mut self) {
        let mut first = 0;
        // SAFETY: as for `run`.
        unsafe {
            while self.stride <= 2 && first + KH <= self.height {
                match self.stride {
                    1 => self.block::<V, KH, KW, 1>(first),
                    _ => self.block::<V, KH, KW, 2>(first),
                }
                first += KH;
            }
            // A single row of the kernel shares no rows of the sources, so that the stride does not matter.
            for first in first..self.height {
                self.block::<V, 1, KW, 0>(first);
            }
        }
    }
}

impl<S: Scalar> Kernel<S> for Dots<'_, S> {
    #[inline(always)]
    unsafe fn run<V: Vector<Elem = S>>(mut self) {
        let [rows, width] = self.size;
        if rows == 0 || width == 0 || self.height == 0 || self.taps.is_empty() {
            return;
        }
        let last = self.taps.iter().max().unwrap_or(&0);
        let reach = ((rows - 1) * self.stride + self.height - 1) * self.pitch + last + width;
        assert!(reach <= self.data.len(), "a tap reads {reach} of {} values", self.data.len());
        assert!(rows * width <= self.grad.len(), "the gradient has all rows");
        assert!(self.sums.len() >= self.height * self.taps.len(), "each tap has a sum");
        // SAFETY: the reach was asserted, and the number of taps is that of the tiles.
        unsafe {
            match self.taps.len() {
                1 => self.blocks::<V, 3, 1>(),
                2 => self.blocks::<V, 2, 2>(),
                3 => self.blocks::<V, 3, 3>(),
                5 => self.blocks::<V, 2, 5>(),
                7 => self.blocks::<V, 2, 7>(),
                n => unreachable!("no tiles for {n} columns"),
            }
        }
    }
}
