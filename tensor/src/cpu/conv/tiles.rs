//! The kernel of the direct convolution: tiles of several channels by several vectors of pixels, in registers.
//!
//! ```text
//! out[o][spot + lane] = start[o] + Σ_t weights[t][o] · data[spot + steps[t] + lane]
//! ```
//!
//! With the zeros of the padding laid out in `data`, and strides folded away, the sources of neighbouring pixels are
//! neighbours. So a step of the sum is a few vectors read where they stand, each multiplied by the weights of all channels
//! of the tile: nothing is packed but the weights.

use super::level::Kernel;
use crate::cpu::gemm::{Scalar, Vector};
use std::ops::Range;

/// The most channels of a tile.
const CHANNELS: usize = 6;

/// Where a vector of outputs is: its sources for a tap at offset 0, and its place in the plane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub from: usize,
    pub to: usize,
}

/// The spots of rows of `width` pixels, for vectors of `lanes`. The last vector of a row starts early and repeats a few
/// values rather than be short; only a row shorter than a vector has one that is.
pub(super) fn spots(rows: impl Iterator<Item = Spot>, width: usize, lanes: usize) -> Vec<Spot> {
    let per_row = per_row(width, lanes);
    rows.flat_map(|row| {
        (0..per_row).map(move |i| {
            let at = (i * lanes).min(width.saturating_sub(lanes));
            Spot { from: row.from + at, to: row.to + at }
        })
    })
    .collect()
}

/// How many spots a row has.
pub(super) fn per_row(width: usize, lanes: usize) -> usize {
    width.div_ceil(lanes)
}

/// The weights of some output channels, blocked as the tiles read them: per block of channels, per step, per channel.
pub(super) struct Panels<S> {
    values: Vec<S>,
    outs: usize,
    steps: usize,
}

impl<S: Scalar> Panels<S> {
    pub(super) fn new(outs: usize, steps: usize, weight: impl Fn(usize, usize) -> S) -> Self {
        let mut values = Vec::with_capacity(outs * steps);
        for block in blocks(outs) {
            for step in 0..steps {
                values.extend(block.clone().map(|o| weight(o, step)));
            }
        }
        Panels { values, outs, steps }
    }
}

/// The blocks of channels: as few as may be, of nearly equal size.
fn blocks(outs: usize) -> impl Iterator<Item = Range<usize>> {
    let count = outs.div_ceil(CHANNELS);
    (0..count).map(move |i| outs * i / count..outs * (i + 1) / count)
}

/// Spots whose sums have the same steps.
pub(super) struct Class {
    pub spots: Vec<Spot>,
    /// The steps, in stretches.
    pub steps: Vec<Range<usize>>,
}

/// Tiles for some spots and all channels of a group.
pub(super) struct Tiles<'a, S> {
    data: &'a [S],
    steps: &'a [usize],
    weights: &'a [S],
    outs: usize,
    /// Products that are added up one after the other.
    chain: usize,
    /// From step to step of the weights, where they are a matrix `[steps, outs]` rather than panels.
    pitch: Option<usize>,
    /// What each channel's sums begin with, if they are not added to what is there.
    start: Option<&'a [S]>,
    spots: &'a [Spot],
    /// Spots that have some of the steps only.
    classes: &'a [Class],
    /// Lanes that are there, where a row is shorter than a vector.
    width: usize,
    out: *mut S,
    plane: usize,
}

impl<'a, S: Scalar> Tiles<'a, S> {
    /// `start` has the value that each channel's sums begin with; the planes of the channels are `plane` apart in `out`.
    ///
    /// # Safety
    /// Each of the `panels.outs` planes from `out` on is valid for writes at all spots, and nobody else reaches them.
    ///
    /// # Panics
    /// If a tap of a spot leaves `data`.
    pub(super) unsafe fn new(
        data: &'a [S],
        steps: &'a [usize],
        panels: &'a Panels<S>,
        start: &'a [S],
        spots: &'a [Spot],
        width: usize,
        out: *mut S,
        plane: usize,
    ) -> Self {
        assert_eq!(
            (steps.len(), start.len()),
            (panels.steps, panels.outs),
            "weights for each tap and channel"
        );
        let (weights, outs, start) = (&panels.values[..], panels.outs, Some(start));
        let (chain, classes) = (usize::MAX, &[][..]);
        Tiles { data, steps, weights, outs, chain, pitch: None, start, spots, classes, width, out, plane }
    }

    /// Adds up `chain` products at a time, and then those sums: rounding errors grow with the length of a sum.
    pub(super) fn chained(self, chain: usize) -> Self {
        Tiles { chain, ..self }
    }

    /// The same for classes of spots that have some of the steps each, and whole vectors.
    ///
    /// # Safety
    /// As for [`new`](Self::new).
    ///
    /// # Panics
    /// As for [`new`](Self::new): any step must be within `data` from any spot.
    pub(super) unsafe fn in_classes(
        data: &'a [S],
        steps: &'a [usize],
        panels: &'a Panels<S>,
        start: &'a [S],
        classes: &'a [Class],
        out: *mut S,
        plane: usize,
    ) -> Self {
        let known = classes.iter().flat_map(|class| &class.steps).all(|some| some.end <= steps.len());
        assert!(known, "classes have steps that there are");
        // SAFETY: the caller's promise.
        let all = unsafe { Tiles::new(data, steps, panels, start, &[], usize::MAX, out, plane) };
        Tiles { classes, ..all }
    }

    /// Adds the sums to what is there, for weights that are rows of `outs` values, `pitch` apart. No two vectors may overlap,
    /// and all must be whole.
    ///
    /// # Safety
    /// As for [`new`](Self::new).
    ///
    /// # Panics
    /// As for [`new`](Self::new), or if there are not as many weights.
    pub(super) unsafe fn adding(
        data: &'a [S],
        steps: &'a [usize],
        (weights, outs, pitch): (&'a [S], usize, usize),
        spots: &'a [Spot],
        out: *mut S,
        plane: usize,
    ) -> Self {
        let all = steps.is_empty() || (steps.len() - 1) * pitch + outs <= weights.len();
        assert!(all, "weights for each tap and channel");
        let (chain, classes, width) = (usize::MAX, &[][..], usize::MAX);
        let (pitch, start) = (Some(pitch), None);
        Tiles { data, steps, weights, outs, chain, pitch, start, spots, classes, width, out, plane }
    }

    /// N vectors of one block of R channels; PARTIAL where rows are shorter than a vector.
    #[inline(always)]
    unsafe fn tile<V: Vector<Elem = S>, const R: usize, const N: usize, const PARTIAL: bool>(
        &self,
        (weights, pitch): (*const S, usize),
        first: usize,
        spots: &[Spot],
        stretches: &[Range<usize>],
    ) {
        debug_assert_eq!(spots.len(), N);
        // SAFETY: each step has R weights; `run` has asserted that all taps of a spot are inside `data`, and
        // who made the tiles vouches for the outputs.
        unsafe {
            let data: [*const S; N] = std::array::from_fn(|n| self.data.as_ptr().add(spots[n].from));
            let mut sums: [[V; N]; R] =
                std::array::from_fn(|r| [V::splat(self.start.map_or(S::ZERO, |start| start[first + r])); N]);
            // Of the chains before, if there are several: most sums are one, and pay nothing.
            let chained = self.steps.len() > self.chain;
            let mut total: Option<[[V; N]; R]> = None;
            for stretch in stretches {
                let mut from = stretch.start;
                while from < stretch.end {
                    let end = stretch.end.min(from.saturating_add(self.chain));
                    for p in from..end {
                        let step = *self.steps.get_unchecked(p);
                        let values: [V; N] = std::array::from_fn(|n| {
                            let at = data[n].add(step);
                            if PARTIAL { V::load_first(at, self.width) } else { V::load(at) }
                        });
                        for (r, sums) in sums.iter_mut().enumerate() {
                            let weight = V::splat(*weights.add(p * pitch + r));
                            for n in 0..N {
                                sums[n] = weight.times_plus(values[n], sums[n]);
                            }
                        }
                    }
                    from = end;
                    if chained {
                        let before = total.get_or_insert([[V::zero(); N]; R]);
                        for r in 0..R {
                            for n in 0..N {
                                (before[r][n], sums[r][n]) = (before[r][n].plus(sums[r][n]), V::zero());
                            }
                        }
                    }
                }
            }
            sums = total.unwrap_or(sums);
            for (r, sums) in sums.iter().enumerate() {
                for n in 0..N {
                    let to = self.out.wrapping_add((first + r) * self.plane + spots[n].to);
                    match PARTIAL {
                        true => sums[n].store_first(to, self.width),
                        false if self.start.is_none() => sums[n].plus(V::load(to)).store(to),
                        false => sums[n].store(to),
                    }
                }
            }
        }
    }
}

/// The tiles of one block: as many vectors at a time as registers allow, then fewer for what is left.
macro_rules! tiles {
    ($self:ident, $V:ident, $partial:literal, $weights:ident, $spots:expr, $steps:expr, $block:ident: $($R:literal => $($N:literal)+;)+) => {
        match $block.len() {
            $($R => {
                let mut spots: &[Spot] = $spots;
                $(while let Some((now, rest)) = spots.split_at_checked($N) {
                    // SAFETY: as for `run`; the block has R channels.
                    unsafe { $self.tile::<$V, $R, $N, $partial>($weights, $block.start, now, $steps) }
                    spots = rest;
                    if spots.is_empty() {
                        break;
                    }
                })+
            })+
            _ => {}
        }
    };
}

impl<S: Scalar> Kernel<S> for Tiles<'_, S> {
    #[inline(always)]
    unsafe fn run<V: Vector<Elem = S>>(self) {
        let whole = 0..self.steps.len();
        let all = std::slice::from_ref(&whole);
        let spots = || self.spots.iter().chain(self.classes.iter().flat_map(|class| &class.spots));
        let last = spots().map(|s| s.from).max().unwrap_or(0);
        let reach = last + self.steps.iter().max().unwrap_or(&0) + self.width.min(V::LANES);
        let empty = spots().next().is_none() || self.steps.is_empty();
        assert!(empty || reach <= self.data.len(), "a tap reads {reach} of {} values", self.data.len());
        for block in blocks(self.outs) {
            let (at, pitch) = match self.pitch {
                Some(pitch) => (block.start, pitch),
                None => (block.start * self.steps.len(), block.len()),
            };
            let weights = (self.weights[at..].as_ptr(), pitch);
            if self.width < V::LANES {
                tiles! { self, V, true, weights, self.spots, all, block:
                    1 => 2 1; 2 => 2 1; 3 => 2 1; 4 => 2 1; 5 => 2 1; 6 => 2 1;
                }
                continue;
            }
            let classes = self.classes.iter().map(|class| (&class.spots[..], &class.steps[..]));
            for (spots, steps) in classes.chain([(self.spots, all)]) {
                tiles! { self, V, false, weights, spots, steps, block:
                    1 => 8 4 2 1;
                    2 => 4 2 1;
                    3 => 4 2 1;
                    4 => 3 1;
                    5 => 2 1;
                    6 => 2 1;
                }
            }
        }
    }
}
