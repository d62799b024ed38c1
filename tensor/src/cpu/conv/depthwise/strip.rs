//! Some rows of a plane with zeros around them: what the kernels for single channels read.
//!
//! A strip fits the first-level cache, and its zeros beside the rows are written once for many planes. Rows that are not folded
//! share them: those after a row are those before the next.

use crate::cpu::conv::ConvElement;
use crate::cpu::conv::deal::{Deal, Lines};
use crate::cpu::conv::level::Levels;
use crate::cpu::conv::planes::{Frame, Images};
use crate::cpu::gemm::GemmElement;
use crate::cpu::isa::Isa;
use crate::cpu::wide::dispatch;
use bytemuck::Zeroable;
use std::ops::Range;

/// Values of a cache line, and of the widest vector.
const LINE: usize = 16;

/// How the rows of a [`Frame`] of one slab lie in a strip.
pub(super) struct Strip {
    frame: Frame,
    /// From row to row.
    pub pitch: usize,
    /// Values before the first row.
    pub head: usize,
    /// Columns of the frame that come from the plane: the first, the plane's first, their number.
    inside: (usize, usize, usize),
}

impl Strip {
    /// For planes with rows of `width`.
    pub(super) fn new(frame: Frame, width: usize) -> Strip {
        let inside = frame.overlap(2, width);
        let (to, _, len) = inside;
        let (head, columns) = match frame.fold {
            // What comes from the plane is aligned.
            1 => (to.next_multiple_of(LINE), len + to.max(frame.dims[2] - to - len)),
            fold => (0, fold * frame.dims[2].div_ceil(fold)),
        };
        let pitch = columns.next_multiple_of(LINE);
        // Rows must not compete for the same sets of the cache.
        let pitch = if pitch.is_multiple_of(512) { pitch + LINE } else { pitch };
        Strip { frame, pitch, head, inside }
    }

    /// The place of a column of the frame in a row.
    pub(super) fn column(&self, w: usize) -> usize {
        match self.frame.fold {
            1 => self.head + w - self.inside.0,
            fold => w % fold * self.frame.dims[2].div_ceil(fold) + w / fold,
        }
    }

    /// `rows` of the framed plane of a channel on their way to a strip, one after the other. Beside the rows, the strip is zero
    /// already. None where rows need more than copying or dealing: those, [`fill`](Self::fill) writes.
    pub(super) fn feed<'a, T: ConvElement>(
        &self,
        images: &Images<'a, T>,
        image: usize,
        channel: usize,
        rows: Range<usize>,
        out: *mut T::Acc,
        room: usize,
    ) -> Option<Deal<'a, T::Acc>> {
        let (to, _, len) = self.inside;
        if images.along[2] != 1 || !T::NATIVE || self.frame.fold > 2 || len == 0 {
            return None;
        }
        let odd = if len > 1 { self.column(to + 1) } else { 0 };
        let columns = (self.column(to), (self.frame.fold == 2).then_some(odd));
        // Native types are their own accumulators.
        let data = bytemuck::cast_slice(images.data);
        Some(Deal { data, lines: self.lines(images, image, channel, rows), len, columns, out, room })
    }

    fn lines<T: ConvElement>(
        &self,
        images: &Images<T>,
        image: usize,
        channel: usize,
        rows: Range<usize>,
    ) -> Lines {
        let (_, from, _) = self.inside;
        let [_, pitch, step] = images.along;
        Lines {
            first: rows.start as isize - self.frame.lead[1],
            count: rows.len(),
            rows: images.dims[1],
            start: images.start(image, channel) as isize + from as isize * step,
            pitch,
            to: self.pitch,
        }
    }

    /// Writes `rows` of the framed plane of a channel, one after the other. Beside the rows, `out` is zero already.
    pub(super) fn fill<T: ConvElement>(
        &self,
        isa: Isa,
        images: &Images<T>,
        image: usize,
        channel: usize,
        rows: Range<usize>,
        out: &mut [T::Acc],
    ) {
        let (to, room) = (out.as_mut_ptr(), out.len());
        if let Some(feed) = self.feed(images, image, channel, rows.clone(), to, room) {
            return T::Acc::run(isa, feed);
        }
        let (to, _, len) = self.inside;
        let (lines, step) = (self.lines(images, image, channel, rows), images.along[2]);
        let fold = self.frame.fold;
        // Every `fold`-th column of the plane, from each of the first ones on.
        for first in 0..fold.min(len) {
            let lines = Lines { start: lines.start + first as isize * step, ..lines };
            let (len, step) = ((len - first).div_ceil(fold), step * fold as isize);
            copy(isa, images.data, lines, step, len, &mut out[self.column(to + first)..]);
        }
    }
}

dispatch! {
    /// Writes rows of `len` values, those that the plane does not have as zeros.
    fn copy<T: GemmElement>(data: &[T], lines: Lines, step: isize, len: usize, out: &mut [T::Acc]) {
        let (inside, mut start) = lines.inside();
        for (i, out) in out.chunks_mut(lines.to).take(lines.count).enumerate() {
            let out = &mut out[..len];
            if !inside.contains(&i) {
                out.fill(T::Acc::zeroed());
                continue;
            }
            match step {
                1 => T::widen_slice(&data[start as usize..][..len], out),
                step => {
                    for (i, out) in out.iter_mut().enumerate() {
                        *out = data[(start + i as isize * step) as usize].widen();
                    }
                }
            }
            start += lines.pitch;
        }
    }
}
