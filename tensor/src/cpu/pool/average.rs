//! The mean of each window: rows of the input are added up first, over all that a row of windows looks at, then the columns of
//! each window.
//!
//! A position holds one element, or all channels where these come last. Sums have one order whatever the layout and the level.

use super::deal::pairs;
use super::windows::{Axis, Even, Lists};
use crate::Scalar;
use crate::cpu::short::read;
use crate::cpu::vectors::{LANES, Vector, VectorLoop};
use crate::cpu::wide::WideFloat;
use crate::op::Real;
use std::ops::Range;

/// How to take the means of planes of one shape.
pub(super) struct Means<'a> {
    pub axes: &'a [Axis; 3],
    /// Elements of a position.
    pub inner: usize,
    pub even: Even,
    /// The rows of the input that each row of outputs looks at.
    pub sources: Lists,
    /// What each row of outputs is divided by, but for the windows' columns.
    pub counts: Vec<usize>,
    /// What this is divided by for windows of two columns, the first at column 0 and each beside the next, with positions of one element.
    halves: Option<usize>,
}

impl<'a> Means<'a> {
    pub(super) fn new(axes: &'a [Axis; 3], inner: usize) -> Self {
        let ranges =
            [&axes[0], &axes[1]].map(|axis| axis.windows.iter().map(|w| w.range()).collect::<Vec<_>>());
        let counts = axes[0].windows.iter().flat_map(|a| axes[1].windows.iter().map(|b| a.count * b.count));
        let sources = Lists::new(&ranges[0], &ranges[1], axes[1].size);
        let (windows, even) = (&axes[2].windows, Even::new(&axes[2].windows));
        let halves =
            inner == 1 && even.columns == 2 && even.stride == 2 && even.outputs == (0..windows.len());
        let first = windows.first().filter(|first| halves && first.start == 0);
        Means { axes, inner, even, sources, counts: counts.collect(), halves: first.map(|first| first.count) }
    }

    /// Rows of the input, and elements of each.
    pub(super) fn input(&self) -> [usize; 2] {
        let [d, h, w] = self.axes.each_ref().map(|axis| axis.size);
        [d * h, w * self.inner]
    }

    /// Rows of outputs, and elements of each.
    pub(super) fn output(&self) -> [usize; 2] {
        let [d, h, w] = self.axes.each_ref().map(|axis| axis.windows.len());
        [d * h, w * self.inner]
    }
}

/// The means of some rows of outputs of one plane.
pub(super) struct Average<'a, A> {
    pub means: &'a Means<'a>,
    /// Rows of outputs.
    pub rows: Range<usize>,
    /// The rows of the input from this one on.
    pub start: usize,
    pub x: &'a [A],
    /// Working memory.
    pub room: &'a mut Vec<A>,
    pub y: &'a mut [A],
}

impl<A: WideFloat> VectorLoop<A> for Average<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) {
        let Average { means, rows, start, x, room, y } = self;
        let ([_, width], [_, out]) = (means.input(), means.output());
        room.resize(width.next_multiple_of(LANES), A::zero());
        for (row, y) in rows.zip(y.chunks_exact_mut(out)) {
            let source = |row: usize| &x[(row - start) * width..];
            if let ([p, q], Some(count)) = (means.sources.of(row), means.halves)
                && out >= V::WIDTH
            {
                mean_squares::<V>(source(*p), source(*q), (means.counts[row] * count) as f64, y);
                continue;
            }
            let columns: &[A] = match means.sources.of(row) {
                [] => {
                    room.fill(A::zero());
                    &*room
                }
                [only] => source(*only),
                [p, q, rest @ ..] => {
                    add_rows::<V>(width, [source(*p), source(*q)], rest.iter().map(|row| source(*row)), room);
                    &*room
                }
            };
            match means.inner {
                1 => mean_columns::<V>(means, means.counts[row], columns, y),
                inner => {
                    for (y, c) in y.chunks_exact_mut(inner).zip(&means.axes[2].windows) {
                        let divisor = A::from_f64((means.counts[row] * c.count) as f64);
                        let columns = &columns[c.range().start * inner..c.range().end * inner];
                        add_positions::<V>(columns, y, Some(divisor));
                    }
                }
            }
        }
    }
}

/// `sum[i] = f(sum[i], rows[0][i], …)` for `i < width`, and perhaps for some after them: rows are read on where memory goes on, and
/// `sum` has room for whole vectors.
#[inline(always)]
pub(super) fn over_rows<V: Vector, const N: usize>(
    width: usize,
    sum: &mut [V::Element],
    rows: [&[V::Element]; N],
    f: impl Fn(V, [V; N]) -> V,
) {
    assert!(rows.iter().all(|row| row.len() >= width), "rows are whole");
    assert!(sum.len() >= width.next_multiple_of(V::WIDTH), "there is room");
    let whole = width / V::WIDTH * V::WIDTH;
    let mut x = [V::zero(); N];
    for at in (0..whole).step_by(V::WIDTH) {
        // SAFETY: `at + WIDTH <= width`, and all have as many elements (checked above).
        unsafe {
            for k in 0..N {
                x[k] = V::read(rows[k].as_ptr().add(at));
            }
            let old = V::read(sum.as_ptr().add(at));
            f(old, x).write(sum.as_mut_ptr().add(at));
        }
    }
    if whole < width {
        for k in 0..N {
            x[k] = read(rows[k], whole);
        }
        let new = f(read(sum, whole), x);
        // SAFETY: `sum` has as many elements as whole vectors (checked above).
        unsafe { new.write(sum.as_mut_ptr().add(whole)) };
    }
}

/// The sum of rows of `width`, the first two of which are given.
#[inline(always)]
fn add_rows<'a, V: Vector + 'a>(
    width: usize,
    first: [&'a [V::Element]; 2],
    mut rest: impl Iterator<Item = &'a [V::Element]>,
    sum: &mut [V::Element],
) {
    match rest.next() {
        None => over_rows::<V, 2>(
            width,
            sum,
            first,
            #[inline(always)]
            |_, [p, q]| p + q,
        ),
        Some(third) => over_rows::<V, 3>(
            width,
            sum,
            [first[0], first[1], third],
            #[inline(always)]
            |_, [p, q, r]| p + q + r,
        ),
    }
    for row in rest {
        over_rows::<V, 1>(
            width,
            sum,
            [row],
            #[inline(always)]
            |sum, [p]| sum + p,
        );
    }
}

/// The sum of positions that are as long as `y`, over `divisor` if there is one.
#[inline(always)]
pub(super) fn add_positions<V: Vector>(x: &[V::Element], y: &mut [V::Element], divisor: Option<V::Element>) {
    let inner = y.len();
    assert!(x.len().is_multiple_of(inner), "positions are whole");
    let count = x.len() / inner;
    if inner < V::WIDTH {
        for (k, y) in y.iter_mut().enumerate() {
            let sum = x.iter().skip(k).step_by(inner).fold(V::Element::zero(), |sum, &x| sum + x);
            *y = divisor.map_or(sum, |divisor| sum / divisor);
        }
        return;
    }
    let mut done = 0;
    while done < inner {
        // The last vector overlaps the one before it, and writes the same once more.
        let at = done.min(inner - V::WIDTH);
        let mut sum = V::zero();
        for k in 0..count {
            // SAFETY: `at + WIDTH <= inner`, and there are `count · inner` elements.
            sum = sum + unsafe { V::read(x.as_ptr().add(k * inner + at)) };
        }
        if let Some(divisor) = divisor {
            sum = sum / V::all(divisor);
        }
        // SAFETY: `at + WIDTH <= inner`.
        unsafe { sum.write(y.as_mut_ptr().add(at)) };
        done = at + V::WIDTH;
    }
}

/// The means of squares of two rows and two columns, one beside the other: in the order of [`add_rows`] and [`mean_columns`].
#[inline(always)]
fn mean_squares<V: Vector>(p: &[V::Element], q: &[V::Element], divisor: f64, y: &mut [V::Element]) {
    let (n, divisor) = (y.len(), V::splat(divisor));
    assert!(p.len() >= 2 * n && q.len() >= 2 * n && n >= V::WIDTH, "each mean has two columns of both rows");
    let (p, q, y) = (p.as_ptr(), q.as_ptr(), y.as_mut_ptr());
    for at in (0..n).step_by(V::WIDTH) {
        // The last vector overlaps the one before it, and writes the same once more.
        let at = at.min(n - V::WIDTH);
        // SAFETY: `at + WIDTH <= n`, and there are `n` means and `2 · n` elements of each row (checked above).
        unsafe {
            let low = V::read(p.add(2 * at)) + V::read(q.add(2 * at));
            let high = V::read(p.add(2 * at + V::WIDTH)) + V::read(q.add(2 * at + V::WIDTH));
            let (even, odd) = low.split_pairs(high);
            ((V::zero() + even + odd) / divisor).write(y.add(at));
        }
    }
}

/// The means of one row of outputs from the sums of its rows, where a position holds one element.
#[inline(always)]
fn mean_columns<V: Vector>(means: &Means, rows: usize, columns: &[V::Element], y: &mut [V::Element]) {
    let (windows, Even { outputs, columns: count, stride }) = (&means.axes[2].windows, &means.even);
    let divisor = |o: usize| V::Element::from_f64((rows * windows[o].count) as f64);
    let mut alone = 0..windows.len();
    if outputs.len() >= V::WIDTH && (*stride == 1 || *stride == 2 && *count >= 2) {
        let (first, divisor) = (windows[outputs.start].start, V::all(divisor(outputs.start)));
        let mut done = outputs.start;
        while done < outputs.end {
            // The last vector overlaps the one before it, and writes the same once more.
            let at = done.min(outputs.end - V::WIDTH);
            let from = first + (at - outputs.start) * stride;
            let mut sum = V::zero();
            if *stride == 1 {
                for x in columns[from..][..count + V::WIDTH - 1].windows(V::WIDTH) {
                    // SAFETY: there are `WIDTH` elements.
                    sum = sum + unsafe { V::read(x.as_ptr()) };
                }
            } else {
                for k in (1..*count).step_by(2) {
                    let (even, odd) = pairs::<V>(columns, from + k - 1);
                    sum = sum + even + odd;
                }
                if count % 2 == 1 {
                    // This pair reads no element beyond the last window.
                    sum = sum + pairs::<V>(columns, from + count - 2).1;
                }
            }
            let y = &mut y[at..at + V::WIDTH];
            // SAFETY: there are `WIDTH` elements.
            unsafe { (sum / divisor).write(y.as_mut_ptr()) };
            done = at + V::WIDTH;
        }
        alone = 0..outputs.start;
    }
    let behind = if alone.end < windows.len() { outputs.end..windows.len() } else { 0..0 };
    for o in alone.chain(behind) {
        let sum = columns[windows[o].range()].iter().fold(V::Element::zero(), |sum, &x| sum + x);
        y[o] = sum / divisor(o);
    }
}
