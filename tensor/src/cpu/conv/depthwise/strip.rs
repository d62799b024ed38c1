//! Some rows of a plane with zeros around them: what the kernels for single channels read.
//!
//! A strip fits the first-level cache, and its zeros beside the rows are written once for many planes. Rows that are not folded
//! share them: those after a row are those before the next.

use crate::Scalar;
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

    /// Writes `rows` of the framed plane of a channel, one after the other. Beside the rows, `out` is zero already.
    pub(super) fn fill<T: Scalar + GemmElement>(
        &self,
        isa: Isa,
        images: &Images<T>,
        image: usize,
        channel: usize,
        rows: Range<usize>,
        out: &mut [T::Acc],
    ) {
        let (to, from, len) = self.inside;
        let fold = self.frame.fold;
        let plane = images.start(image, channel) as isize + from as isize * images.along[2];
        for f in 0..fold {
            // Columns `q · fold + f` of the frame that lie in the plane.
            let q = to.saturating_sub(f).div_ceil(fold);
            let end = (to + len).saturating_sub(f).div_ceil(fold);
            if q < end {
                let column = q * fold + f;
                let source = Source {
                    data: images.data,
                    start: plane + (column - to) as isize * images.along[2],
                    pitch: images.along[1],
                    step: images.along[2] * fold as isize,
                    rows: images.dims[1],
                };
                let first = rows.start as isize - self.frame.lead[1];
                let out = &mut out[self.column(column)..];
                fill(isa, source, first, rows.len(), end - q, self.pitch, out);
            }
        }
    }
}

/// A part of each row of a plane.
struct Source<'a, T> {
    data: &'a [T],
    start: isize,
    pitch: isize,
    step: isize,
    rows: usize,
}

dispatch! {
    /// Writes `count` rows of `len` values, `pitch` apart; those that the plane does not have are zero.
    fn fill<T: GemmElement>(
        source: Source<'_, T>,
        first: isize,
        count: usize,
        len: usize,
        pitch: usize,
        out: &mut [T::Acc],
    ) {
        for (i, out) in out.chunks_mut(pitch).take(count).enumerate() {
            let (row, out) = (first + i as isize, &mut out[..len]);
            if row < 0 || row >= source.rows as isize {
                out.fill(T::Acc::zeroed());
                continue;
            }
            let start = (source.start + row * source.pitch) as usize;
            match source.step {
                1 if T::NATIVE => copy(&source.data[start..][..len], out),
                1 => T::widen_slice(&source.data[start..][..len], out),
                2 => copy_even(&source.data[start..][..2 * len - 1], out),
                step => {
                    for (i, out) in out.iter_mut().enumerate() {
                        *out = source.data[(start as isize + i as isize * step) as usize].widen();
                    }
                }
            }
        }
    }
}

/// `out = from`, in runs of one vector; the last one starts early.
#[inline(always)]
fn copy<T: GemmElement>(from: &[T], out: &mut [T::Acc]) {
    const N: usize = 8;
    let len = out.len().min(from.len());
    if len < N {
        return out.iter_mut().zip(from).for_each(
            #[inline(always)]
            |(out, value)| *out = value.widen(),
        );
    }
    let mut at = 0;
    while at < len {
        let first = at.min(len - N);
        for i in first..first + N {
            out[i] = from[i].widen();
        }
        at += N;
    }
}

/// `out[i] = from[2 · i]`.
#[inline(always)]
fn copy_even<T: GemmElement>(from: &[T], out: &mut [T::Acc]) {
    const N: usize = 8;
    let len = out.len();
    let mut at = 0;
    while at + N < len {
        let from = &from[2 * at..2 * (at + N)];
        let out = &mut out[at..at + N];
        for i in 0..N {
            out[i] = from[2 * i].widen();
        }
        at += N;
    }
    while at < len {
        out[at] = from[2 * at].widen();
        at += 1;
    }
}
