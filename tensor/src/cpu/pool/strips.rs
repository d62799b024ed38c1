//! The largest element of each window.
//!
//! Of equal elements the first in row-major order wins; NaN wins over everything, of several the last, as in PyTorch. A
//! window without a single element, as dilation can make one, gives -∞ and index 0.
//!
//! Windows that follow each other evenly are taken side by side, in strips as wide as a vector from the first row to the last: what a row
//! of windows shares with the next is kept. First the largest element of each part of a row is found, then the largest of these: that
//! keeps the order.

use super::codes::{Place, code_zero};
use super::deal::{Frame, pairs};
use super::max::MaxPool;
use crate::cpu::short::lanes;
use crate::cpu::vectors::{LANES, Vector, VectorLoop};
use crate::cpu::wide::WideFloat;
use crate::op::compare::Comparable;

/// One plane: its largest elements into `y` and, if asked for, their places.
pub(super) struct Plane<'a, A, P> {
    pub pool: &'a MaxPool<'a>,
    pub x: &'a [A],
    pub y: &'a mut [A],
    pub places: Option<&'a mut [P]>,
    pub room: &'a mut Room<A>,
}

/// Working memory for planes of one shape.
pub(super) struct Room<A> {
    /// A framed plane.
    framed: Vec<A>,
    /// The code of the first column of each window inside the input.
    first: Vec<A>,
    /// The codes of the outputs.
    codes: Vec<A>,
}

impl<A: WideFloat> Room<A> {
    /// For so many outputs a plane, with codes if they are asked for.
    pub(super) fn new(pool: &MaxPool, outputs: usize, codes: bool) -> Self {
        let first = pool.axes[2].windows.iter().zip(&pool.starts).map(|(window, &start)| {
            let skipped = window.start.wrapping_sub(start) / window.step;
            code_zero::<A>() + A::from_f64(skipped.min(pool.columns) as f64)
        });
        let mut first: Vec<A> = first.collect();
        first.resize(first.len() + LANES, code_zero());
        Room {
            framed: pool.frame.as_ref().map_or(vec![], |frame| frame.room()),
            first,
            codes: if codes { vec![code_zero(); outputs] } else { vec![] },
        }
    }
}

impl<A: WideFloat, P: Place> VectorLoop<A> for Plane<'_, A, P> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) {
        let Plane { pool, x, y, places, room } = self;
        match places {
            None => largest_of_plane::<V, false>(pool, x, y, room),
            Some(places) => {
                largest_of_plane::<V, true>(pool, x, y, room);
                P::keep(pool, &room.codes, places);
            }
        }
    }
}

/// The largest elements of one plane, with `CODES` their codes in `room`.
#[inline(always)]
fn largest_of_plane<V: Vector, const CODES: bool>(
    pool: &MaxPool,
    x: &[V::Element],
    y: &mut [V::Element],
    room: &mut Room<V::Element>,
) {
    let Room { framed, first, codes } = room;
    let Some(frame) = &pool.frame else { return one_by_one(pool, x, y, codes) };
    let outputs = pool.starts.len();
    let x = match frame.bare && outputs >= V::WIDTH {
        true => x,
        false => {
            frame.fill::<V>(x, framed);
            framed
        }
    };
    let mut done = 0;
    while done < outputs {
        // The last strip overlaps the one before it.
        let at = done.min(outputs.saturating_sub(V::WIDTH));
        let strip = Strip { pool, frame, x, at, first: &first[at..] };
        // NaN is seldom: where there is one, the strip is taken once more.
        if strip.run::<V, false, CODES>(y, codes) {
            strip.run::<V, true, CODES>(y, codes);
        }
        done = at + V::WIDTH;
    }
}

/// As many windows of each row as a vector has lanes.
struct Strip<'a, A> {
    pool: &'a MaxPool<'a>,
    frame: &'a Frame,
    /// The plane, framed.
    x: &'a [A],
    /// The first of the windows.
    at: usize,
    /// From it on the codes of their first columns inside the input.
    first: &'a [A],
}

impl<A: WideFloat> Strip<'_, A> {
    /// Finds the largest elements; with `CARE`, of elements that may be NaN, otherwise it says whether one may be.
    #[inline(always)]
    fn run<V: Vector<Element = A>, const CARE: bool, const CODES: bool>(
        &self,
        y: &mut [A],
        codes: &mut [A],
    ) -> bool {
        let Strip { frame, x, at, .. } = *self;
        match (frame.stride, frame.taps.as_slice()) {
            (2, [_, _]) => self.rows::<V, CARE, CODES>(
                y,
                codes,
                #[inline(always)]
                |row| {
                    let (a, b) = pairs::<V>(x, row + 2 * at);
                    largest_of::<V, CARE, CODES, 2>([a, b])
                },
            ),
            (2, _) => self.rows::<V, CARE, CODES>(
                y,
                codes,
                #[inline(always)]
                |row| {
                    // The second pair reads no element beyond the last window.
                    let from = row + 2 * at;
                    let ((a, b), (_, c)) = (pairs::<V>(x, from), pairs::<V>(x, from + 1));
                    largest_of::<V, CARE, CODES, 3>([a, b, c])
                },
            ),
            (_, taps) => self.rows::<V, CARE, CODES>(
                y,
                codes,
                #[inline(always)]
                |row| largest_of_taps::<V, CARE, CODES>(&x[row + at..], taps),
            ),
        }
    }

    /// `of_row(start)` finds the largest elements of the windows' parts of the row that starts there, their columns, and the sums of
    /// all.
    #[inline(always)]
    fn rows<V: Vector<Element = A>, const CARE: bool, const CODES: bool>(
        &self,
        y: &mut [A],
        codes: &mut [A],
        of_row: impl Fn(usize) -> [V; 3],
    ) -> bool {
        let Strip { pool, frame, at, first, .. } = *self;
        assert!(first.len() >= V::WIDTH, "there is a first column for each window");
        // SAFETY: there are `WIDTH` elements.
        let first = unsafe { V::read(first.as_ptr()) };
        let (per_row, mut last, mut kept) = (V::splat(pool.columns as f64), usize::MAX, [V::zero(); 2]);
        // A sum with NaN is NaN; without, only sums of infinities of both signs are.
        let mut seen = V::zero();
        for (out, rows) in pool.output_rows() {
            let (mut found, mut before) = ([V::splat(f64::NEG_INFINITY), first], V::zero());
            for (i, &row) in rows.iter().enumerate() {
                if row != last {
                    let [largest, column, sum] = of_row(row * frame.width);
                    // Nothing is larger than the padding where all is -∞.
                    kept = [largest, if CODES { column.larger(first) } else { column }];
                    seen = seen + sum;
                    last = row;
                }
                before = if i == 0 { before } else { before + per_row };
                found = match i {
                    0 => kept,
                    _ => larger_of::<V, CARE, CODES>(found, [kept[0], kept[1] + before]),
                };
            }
            put(y, out.start + at, out.end, found[0]);
            if CODES {
                put(codes, out.start + at, out.end, found[1]);
            }
        }
        !CARE && lanes(seen).iter().any(|sum| Comparable::is_nan(*sum))
    }
}

/// Writes the lanes that are before `end`; those after it may be overwritten, as they have their turn later.
#[inline(always)]
fn put<V: Vector>(y: &mut [V::Element], at: usize, end: usize, value: V) {
    let y = &mut y[at..];
    if y.len() >= V::WIDTH {
        // SAFETY: there is room for `WIDTH` elements.
        return unsafe { value.write(y.as_mut_ptr()) };
    }
    y[..end - at].copy_from_slice(&lanes(value)[..end - at]);
}

/// The largest of elements of one row, its column, and the sum of all.
#[inline(always)]
fn largest_of<V: Vector, const CARE: bool, const CODES: bool, const K: usize>(x: [V; K]) -> [V; 3] {
    let mut here = V::all(code_zero());
    let (mut found, mut sum) = ([x[0], here], x[0]);
    for k in 1..K {
        here = here + V::one();
        found = larger_of::<V, CARE, CODES>(found, [x[k], here]);
        sum = sum + x[k];
    }
    [found[0], found[1], sum]
}

/// As [`largest_of`], of elements that stand at each of the `taps`.
#[inline(always)]
fn largest_of_taps<V: Vector, const CARE: bool, const CODES: bool>(
    x: &[V::Element],
    taps: &[usize],
) -> [V; 3] {
    #[inline(always)]
    fn read<V: Vector>(x: &[V::Element]) -> V {
        let x = &x[..V::WIDTH];
        // SAFETY: there are `WIDTH` elements.
        unsafe { V::read(x.as_ptr()) }
    }
    let mut here = V::all(code_zero());
    let mut sum = read::<V>(&x[taps[0]..]);
    let mut found = [sum, here];
    for &tap in &taps[1..] {
        let x = read::<V>(&x[tap..]);
        here = here + V::one();
        found = larger_of::<V, CARE, CODES>(found, [x, here]);
        sum = sum + x;
    }
    [found[0], found[1], sum]
}

/// The largest so far, or the next element.
#[inline(always)]
fn larger_of<V: Vector, const CARE: bool, const CODES: bool>(best: [V; 2], next: [V; 2]) -> [V; 2] {
    if !CARE && !CODES {
        return [next[0].larger(best[0]), best[1]];
    }
    // Nothing is larger than NaN but a later one.
    let larger = best[0].lt(next[0]);
    let wins = if CARE { larger | next[0].ne(next[0]) } else { larger };
    [V::select(wins, next[0], best[0]), V::select(wins, next[1], best[1])]
}

/// The largest elements of a plane whose windows do not follow each other evenly, or are few, and their codes if there is room for them.
///
/// Without branches: which element is the larger cannot be predicted.
#[inline(always)]
fn one_by_one<A: WideFloat>(pool: &MaxPool, x: &[A], y: &mut [A], codes: &mut [A]) {
    let w = pool.axes[2].size;
    for (out, rows) in pool.output_rows() {
        for (o, window) in out.zip(&pool.axes[2].windows) {
            let mut found = (-A::splat(f64::INFINITY), code_zero::<A>());
            let mut first = code_zero::<A>();
            for row in rows {
                let mut here = first;
                for column in window.elements() {
                    let x = x[row * w + column];
                    // As in `larger_of`.
                    let wins = (x > found.0) | Comparable::is_nan(x);
                    found = (if wins { x } else { found.0 }, if wins { here } else { found.1 });
                    here = here + A::one();
                }
                first = first + A::splat(pool.columns as f64);
            }
            y[o] = found.0;
            if let Some(code) = codes.get_mut(o) {
                *code = found.1;
            }
        }
    }
}
