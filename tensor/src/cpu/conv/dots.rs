//! The kernel of the direct gradient in the weight: tiles of several channels by several taps, each a vector of sums over
//! pixels.
//!
//! ```text
//! sums[k][t] += Σ_(rows, j < width) grad[k][row + j] · x[row' + steps[t] + j]        lane by lane
//! ```
//!
//! The sums stay vectors from call to call; [`Totals`] adds up their lanes in the end.
//!
//! Both operands are read where they stand: a tile of 4 channels by 3 taps has 12 products for 7 reads.

use super::level::Kernel;
use crate::cpu::gemm::{Scalar, Vector};

/// The most channels of a tile.
const CHANNELS: usize = 4;

/// A row of pixels: where its sources start for a tap at offset 0, and where it starts in the plane of the gradient.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub x: usize,
    pub grad: usize,
}

/// The sums over some rows, for all channels and taps of a group.
pub(super) struct Dots<'a, S> {
    /// The framed sources.
    pub x: &'a [S],
    /// The gradient, a plane per channel.
    pub grad: &'a [S],
    /// From plane to plane.
    pub plane: usize,
    /// How many planes.
    pub outs: usize,
    /// The taps.
    pub steps: &'a [usize],
    /// The rows.
    pub rows: &'a [Row],
    /// Pixels of a row.
    pub width: usize,
    /// A vector for each of `[outs, steps]`.
    pub sums: &'a mut [S],
}

impl<S: Scalar> Dots<'_, S> {
    #[inline(always)]
    unsafe fn tile<V: Vector<Elem = S>, const R: usize, const N: usize>(&mut self, first: usize, tap: usize) {
        // SAFETY: `run` has asserted that all rows, from every channel and tap, are inside their operands.
        unsafe {
            let to = self.sums.as_mut_ptr();
            let place = |r: usize, n: usize| to.add(((first + r) * self.steps.len() + tap + n) * V::LANES);
            let mut sums: [[V; N]; R] =
                std::array::from_fn(|r| std::array::from_fn(|n| V::load(place(r, n))));
            let steps: [usize; N] = std::array::from_fn(|n| self.steps[tap + n]);
            for row in self.rows {
                let x: [*const S; N] = std::array::from_fn(|n| self.x.as_ptr().add(row.x + steps[n]));
                let grad: [*const S; R] =
                    std::array::from_fn(|r| self.grad.as_ptr().add((first + r) * self.plane + row.grad));
                let mut j = 0;
                while j + V::LANES <= self.width {
                    let x: [V; N] = std::array::from_fn(|n| V::load(x[n].add(j)));
                    for r in 0..R {
                        let grad = V::load(grad[r].add(j));
                        for n in 0..N {
                            sums[r][n] = grad.times_plus(x[n], sums[r][n]);
                        }
                    }
                    j += V::LANES;
                }
                if j < self.width {
                    let left = self.width - j;
                    let x: [V; N] = std::array::from_fn(|n| V::load_first(x[n].add(j), left));
                    for r in 0..R {
                        let grad = V::load_first(grad[r].add(j), left);
                        for n in 0..N {
                            sums[r][n] = grad.times_plus(x[n], sums[r][n]);
                        }
                    }
                }
            }
            for r in 0..R {
                for n in 0..N {
                    sums[r][n].store(place(r, n));
                }
            }
        }
    }
}

/// The sum of the lanes, in pairs.
#[inline(always)]
pub(super) fn total<V: Vector>(sum: V) -> V::Elem {
    let mut lanes = [V::Elem::ZERO; 16];
    const { assert!(V::LANES <= 16) };
    // SAFETY: there is room for all lanes; who has a vector may use its instructions.
    unsafe { sum.store(lanes.as_mut_ptr()) };
    let mut width = V::LANES;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            lanes[i] = lanes[i].plus(lanes[i + width]);
        }
    }
    lanes[0]
}

/// The tiles of one block of channels: as many taps at a time as registers allow, then fewer for what is left.
macro_rules! tiles {
    ($self:ident, $V:ident, $first:ident, $count:expr; $($R:literal => $($N:literal)+;)+) => {
        match $count {
            $($R => {
                let mut tap = 0;
                $(while $self.steps.len() - tap >= $N {
                    // SAFETY: as for `run`; the channels and taps exist.
                    unsafe { $self.tile::<$V, $R, $N>($first, tap) }
                    tap += $N;
                })+
            })+
            _ => {}
        }
    };
}

impl<S: Scalar> Kernel<S> for Dots<'_, S> {
    #[inline(always)]
    unsafe fn run<V: Vector<Elem = S>>(mut self) {
        if self.rows.is_empty() || self.steps.is_empty() || self.outs == 0 {
            return;
        }
        let last = |of: fn(&Row) -> usize| self.rows.iter().map(of).max().unwrap_or(0) + self.width;
        let reach = last(|row| row.x) + self.steps.iter().max().unwrap_or(&0);
        assert!(reach <= self.x.len(), "a tap reads {reach} of {} values", self.x.len());
        let reach = last(|row| row.grad) + (self.outs - 1) * self.plane;
        assert!(reach <= self.grad.len(), "a row reads {reach} of {} values", self.grad.len());
        assert!(self.sums.len() >= self.outs * self.steps.len() * V::LANES, "each sum has a vector");
        for first in (0..self.outs).step_by(CHANNELS) {
            tiles! { self, V, first, CHANNELS.min(self.outs - first);
                1 => 9 3 1;
                2 => 5 1;
                3 => 4 1;
                4 => 3 1;
            }
        }
    }
}

/// `out[i]` = the sum of the lanes of vector `i`.
pub(super) struct Totals<'a, S> {
    pub vectors: &'a [S],
    pub out: &'a mut [S],
}

impl<S: Scalar> Kernel<S> for Totals<'_, S> {
    #[inline(always)]
    unsafe fn run<V: Vector<Elem = S>>(self) {
        for (out, vector) in self.out.iter_mut().zip(self.vectors.chunks_exact(V::LANES)) {
            // SAFETY: the chunk is a vector; the caller vouches for the instructions.
            *out = unsafe { total(V::load(vector.as_ptr())) };
        }
    }
}
