//! Where the planes of a block lie, and how images get there and back.

use crate::cpu::conv::ConvElement;
use crate::cpu::conv::geometry::{Dims, flat, volume};
use crate::cpu::conv::pass::{Pass, Phase};
use crate::cpu::conv::planes::{Frame, Images};
use crate::cpu::isa::Isa;
use crate::cpu::moves;
use bytemuck::Zeroable;
use std::ops::Range;

/// Values of which as many between planes would put them into few sets of the first-level cache, and those of a cache line.
const CROWDED: usize = 128;
const LINE: usize = 16;

/// Planes of a block: value `(channel, position, image)` at `base + channel · pitch + position · lanes + image`.
pub(super) struct Planes {
    /// Where the planes start in the frame, and what the frame leads with before the images.
    origin: [isize; 3],
    lead: [isize; 3],
    /// The size of a plane.
    pub(super) dims: Dims,
    pub(super) lanes: usize,
    /// Values before the first plane: the steps of an output near an edge lead there, but those are not read.
    base: usize,
    pub(super) pitch: usize,
}

impl Planes {
    pub(super) fn new(lead: [isize; 3], origin: [isize; 3], dims: Dims, lanes: usize) -> Self {
        let pitch = volume(dims) * lanes;
        let pitch = if pitch.is_multiple_of(CROWDED) { pitch + LINE } else { pitch };
        let base = flat(dims, origin.map(|o| o.max(0) as usize)) * lanes;
        Planes { origin, lead, dims, lanes, base, pitch }
    }

    /// The sources of a pass: with the zeros of the frame if these count, else as they are.
    pub(super) fn of_sources(pass: &Pass, lanes: usize) -> Self {
        match pass.padded {
            true => Self::new(pass.frame.lead, [0; 3], pass.frame.dims, lanes),
            false => Self::new(pass.frame.lead, pass.frame.lead, pass.source, lanes),
        }
    }

    /// The offset of a position of the frame in a plane.
    pub(super) fn at(&self, p: Dims) -> usize {
        let [d, h, w]: [isize; 3] = std::array::from_fn(|i| p[i] as isize - self.origin[i]);
        let at = (d * self.dims[1] as isize + h) * self.dims[2] as isize + w;
        (self.base as isize + at * self.lanes as isize) as usize
    }

    /// Values of some channels, and of what the steps of the last outputs may lead to.
    pub(super) fn len(&self, channels: usize, frame: Dims) -> usize {
        let last = self.at(frame.map(|size| size.max(1) - 1)) + self.lanes;
        last.max(self.base + self.pitch) + channels.max(1).saturating_sub(1) * self.pitch
    }

    /// The taps of a phase along dim `i` that lead into the planes from output `j`: their offsets follow each other.
    pub(super) fn inside(&self, phase: &Phase, i: usize, j: usize) -> Range<usize> {
        let leads_in = |offset: usize| {
            let at = (j * phase.stride[i] + offset) as isize - self.origin[i];
            (0..self.dims[i] as isize).contains(&at)
        };
        let mut inside = (0..phase.taps[i].len()).filter(|&tap| leads_in(phase.taps[i][tap].offset));
        let first = inside.next();
        first.map_or(0..0, |first| first..first + 1 + inside.count())
    }

    /// Products of the outputs of a phase along dim `i`.
    pub(super) fn products(&self, phase: &Phase, i: usize) -> usize {
        (0..phase.count[i]).map(|j| self.inside(phase, i, j).len()).sum()
    }

    /// Writes some channels of some images, whose rows are dense.
    pub(super) fn fill<T: ConvElement>(
        &self,
        images: &Images<T>,
        block: &Range<usize>,
        channels: Range<usize>,
        isa: Isa,
        out: &mut [T::Acc],
    ) {
        let lead = std::array::from_fn(|i| self.lead[i] - self.origin[i]);
        let frame = Frame { lead, dims: self.dims, fold: 1 };
        let [d, h, w]: [_; 3] = std::array::from_fn(|i| frame.overlap(i, images.dims[i]));
        if [d.2, h.2, w.2] != self.dims || block.len() < self.lanes {
            out.fill(T::Acc::zeroed());
        }
        // Rows that follow each other on both sides are one.
        let whole = [self.dims[2], images.dims[2]] == [w.2; 2] && images.along[1] == w.2 as isize;
        let (rows, len) = if whole { (1, h.2 * w.2) } else { (h.2, w.2) };
        for (channel, c) in channels.enumerate() {
            for (i, j) in (0..d.2).flat_map(|i| (0..rows).map(move |j| (i, j))) {
                let from = images.start(block.start, c) as isize
                    + (d.1 + i) as isize * images.along[0]
                    + (h.1 + j) as isize * images.along[1]
                    + w.1 as isize * images.along[2];
                let to =
                    self.base + channel * self.pitch + flat(self.dims, [d.0 + i, h.0 + j, w.0]) * self.lanes;
                assert!(to + len * self.lanes <= out.len(), "a row of the block is inside it");
                let (to, from) = (out[to..].as_mut_ptr(), images.data.as_ptr().wrapping_offset(from));
                // SAFETY: the row of each image is part of the images, and that of the block is inside it (asserted above).
                unsafe { cross::<T>(isa, (to.cast(), self.lanes), (from, images.image), [block.len(), len]) }
            }
        }
    }
}

/// `to[c][r] = from[r][c]`; see [`moves::cross`].
///
/// # Safety
/// `from` is readable and `to` writable there; they do not overlap.
pub(super) unsafe fn cross<T: ConvElement>(
    isa: Isa,
    to: (*mut T, usize),
    from: (*const T, isize),
    size: [usize; 2],
) {
    // SAFETY: the caller's promise.
    moves::with_unit!(T, U => unsafe {
        moves::cross::<U>(isa, (to.0.cast(), to.1 as isize), (from.0.cast(), from.1), size)
    })
}
