//! Rows of a plane whose even and odd columns are dealt apart: the neighbours that a stride of 2 makes.

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

/// Writes rows whose even and odd columns have places of their own, those that the plane does not have as zeros.
pub(super) struct Deal<'a, S> {
    pub data: &'a [S],
    pub lines: Lines,
    /// Columns of the plane; at least one.
    pub len: usize,
    /// Where the even and the odd ones start in a row of the strip.
    pub columns: [usize; 2],
    pub out: &'a mut [S],
}

impl<S: Scalar> Kernel<S> for Deal<'_, S> {
    #[inline(always)]
    unsafe fn run<V: Vector<Elem = S>>(self) {
        let Deal { data, lines, len, columns, out } = self;
        let lens = [len.div_ceil(2), len / 2];
        let (inside, start) = lines.inside();
        let last = start + (inside.len() as isize - 1) * lines.pitch;
        let in_data = |at: isize| at >= 0 && at as usize + len <= data.len();
        assert!(inside.is_empty() || (in_data(start) && in_data(last)), "the rows lie in the plane's memory");
        let width = (columns[0] + lens[0]).max(columns[1] + lens[1]);
        assert!(
            lines.count == 0 || (lines.count - 1) * lines.to + width <= out.len(),
            "the strip has all rows"
        );
        for i in 0..lines.count {
            let row = &mut out[i * lines.to..][..width];
            if !inside.contains(&i) {
                row[columns[0]..][..lens[0]].fill(S::ZERO);
                row[columns[1]..][..lens[1]].fill(S::ZERO);
                continue;
            }
            let at = start + (i - inside.start) as isize * lines.pitch;
            // SAFETY: the first and the last row of the plane are inside the data (asserted above), and so are those between;
            // the row of the strip has both parts; the caller vouches for the instructions.
            unsafe {
                let from = data.as_ptr().offset(at);
                let to = columns.map(|column| row.as_mut_ptr().add(column));
                deal_row::<V>(from, lens, to);
            }
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
