//! Rows of a plane on their way to where kernels read them, a row at a time: as they are, or their even and odd columns dealt
//! apart, which makes neighbours of what a stride of 2 reads.

use super::level::Kernel;
use crate::cpu::gemm::{Scalar, Vector};
use std::ops::Range;

/// The rows that are written, a strip, and where those of the plane are.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    /// The plane's row that is the strip's first, if the plane has it.
    pub first: isize,
    /// Rows of the strip.
    pub count: usize,
    /// Rows of the plane.
    pub rows: usize,
    /// Where the plane starts in memory.
    pub start: isize,
    /// From row to row of the plane.
    pub pitch: isize,
    /// From row to row of the strip.
    pub to: usize,
}

impl Lines {
    /// The rows of the strip that the plane has, and where the first of them starts in memory.
    #[inline(always)]
    pub(super) fn inside(&self) -> (Range<usize>, isize) {
        let before = (-self.first).clamp(0, self.count as isize);
        let end = (self.rows as isize - self.first).clamp(before, self.count as isize);
        (before as usize..end as usize, self.start + (self.first + before) * self.pitch)
    }
}

/// Values that rows are asked for ahead of their turn: they follow each other in memory, as do planes.
const AHEAD: usize = 768;

/// Rows of a plane and their places in a strip; those that the plane does not have are zeros.
#[derive(Clone, Copy)]
pub(super) struct Deal<'a, S> {
    pub data: &'a [S],
    pub lines: Lines,
    /// Columns of the plane; at least one.
    pub len: usize,
    /// Where the even and the odd ones start in a row of the strip; without the latter, all follow each other.
    pub columns: (usize, Option<usize>),
    /// The strip, which nobody else writes while rows are on their way.
    pub out: *mut S,
    /// How many values it has.
    pub room: usize,
}

impl<S: Scalar> Deal<'_, S> {
    /// Columns of each part of a row.
    #[inline(always)]
    fn lens(&self) -> [usize; 2] {
        if self.columns.1.is_some() { [self.len.div_ceil(2), self.len / 2] } else { [self.len, 0] }
    }

    /// # Panics
    /// If a row leaves its memory on either side.
    #[inline(always)]
    pub(super) fn check(&self) {
        let (inside, start) = self.lines.inside();
        let last = start + (inside.len() as isize - 1) * self.lines.pitch;
        let in_data = |at: isize| at >= 0 && at as usize + self.len <= self.data.len();
        assert!(inside.is_empty() || (in_data(start) && in_data(last)), "the rows lie in the plane's memory");
        let lens = self.lens();
        let width = (self.columns.0 + lens[0]).max(self.columns.1.unwrap_or(0) + lens[1]);
        let count = self.lines.count;
        assert!(count == 0 || (count - 1) * self.lines.to + width <= self.room, "the strip has all rows");
    }

    /// Writes row `i`.
    ///
    /// # Safety
    /// The rows were [checked](Self::check), row `i` is one of them, and the instructions of `V` exist.
    #[inline(always)]
    pub(super) unsafe fn row<V: Vector<Elem = S>>(&self, i: usize) {
        let (inside, start) = self.lines.inside();
        let lens = self.lens();
        // SAFETY: the first and the last row of the plane are inside the data, and so are those between; the row of the strip
        // has both parts; the caller vouches for the instructions.
        unsafe {
            let to = self.out.add(i * self.lines.to);
            let (even, odd) = (to.add(self.columns.0), self.columns.1.map(|column| to.add(column)));
            if !inside.contains(&i) {
                clear::<V>(even, lens[0]);
                odd.iter().for_each(|odd| clear::<V>(*odd, lens[1]));
                return;
            }
            let at = start + (i - inside.start) as isize * self.lines.pitch;
            let from = self.data.as_ptr().offset(at);
            match odd {
                Some(odd) => deal_row::<V>(from, lens, [even, odd]),
                None => copy_row::<V>(from, self.len, even),
            }
        }
    }
}

impl<S: Scalar> Kernel<S> for Deal<'_, S> {
    #[inline(always)]
    unsafe fn run<V: Vector<Elem = S>>(self) {
        self.check();
        for i in 0..self.lines.count {
            // SAFETY: just checked; the caller vouches for the instructions.
            unsafe { self.row::<V>(i) }
        }
    }
}

/// # Safety
/// There is room for `len` values at `to`; the instructions of `V` exist.
#[inline(always)]
unsafe fn clear<V: Vector>(to: *mut V::Elem, len: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        for at in (0..len).step_by(V::LANES) {
            match len - at < V::LANES {
                true => V::zero().store_first(to.add(at), len - at),
                false => V::zero().store(to.add(at)),
            }
        }
    }
}

/// # Safety
/// There are `len` values at `from`, and room for them at `to`; the instructions of `V` exist.
#[inline(always)]
unsafe fn copy_row<V: Vector>(from: *const V::Elem, len: usize, to: *mut V::Elem) {
    // SAFETY: the caller's promise.
    unsafe {
        if len < V::LANES {
            return V::load_first(from, len).store_first(to, len);
        }
        for at in (0..len).step_by(V::LANES) {
            V::prefetch(from.wrapping_add(at + AHEAD));
            // The last vector starts early.
            let at = at.min(len - V::LANES);
            V::load(from.add(at)).store(to.add(at));
        }
    }
}

/// # Safety
/// There are as many values as `lens` has in all from `from` on, and room for each part; the instructions of `V` exist.
#[inline(always)]
unsafe fn deal_row<V: Vector>(from: *const V::Elem, lens: [usize; 2], to: [*mut V::Elem; 2]) {
    let pairs = lens[1];
    // SAFETY: the caller vouches for the values and places of all pairs, and of one value more where there is one.
    unsafe {
        if pairs < V::LANES {
            for i in 0..pairs {
                *to[0].add(i) = *from.add(2 * i);
                *to[1].add(i) = *from.add(2 * i + 1);
            }
        } else {
            for at in (0..pairs).step_by(V::LANES) {
                // The last vectors start early.
                let at = at.min(pairs - V::LANES);
                let (even, odd) = V::load(from.add(2 * at)).deal(V::load(from.add(2 * at + V::LANES)));
                even.store(to[0].add(at));
                odd.store(to[1].add(at));
            }
        }
        if lens[0] > pairs {
            *to[0].add(pairs) = *from.add(2 * pairs);
        }
    }
}
