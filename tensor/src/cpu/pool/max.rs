//! The largest element of each window.
//!
//! Of equal elements the first in row-major order wins; NaN wins over everything, of several the last, as in PyTorch. A
//! window without a single element, as dilation can make one, gives -∞ and index 0.
//!
//! Outputs whose windows follow each other evenly are computed side by side. Where windows of two or three columns are two
//! columns apart, pairs of vectors are split as they are read; for other strides a plane is first split into as many *phases* as
//! the stride has: phase `p` holds columns `p, p + stride, …`. Where in its window the largest element stands is a *code*,
//! `row · columns + column`, counted in the part of the window inside the input.

use super::windows::{Axis, Even};
use crate::Scalar;
use crate::cpu::vectors::{Vector, VectorLoop};
use crate::cpu::wide::WideFloat;
use crate::op::compare::Comparable;
use std::ops::Range;

/// How to pool the planes of one shape.
pub(super) struct MaxPool<'a> {
    pub(super) axes: &'a [Axis; 3],
    /// Columns of a window that lies inside the input.
    pub(super) columns: usize,
    /// The outputs whose windows have all columns and follow each other evenly.
    pub(super) even: Range<usize>,
    pub(super) way: Way,
    /// The rows of the input that each row of outputs looks at, one list after the other, and where each list ends.
    rows: Vec<usize>,
    ends: Vec<usize>,
    /// Whether each window has elements.
    pub(super) full: bool,
}

/// How the columns of even windows are read.
pub(super) enum Way {
    /// The windows start at every second column from this one.
    Pairs(usize),
    /// From the plane itself or, with a stride, from its phases.
    Phases {
        stride: usize,
        /// Columns of a phase.
        width: usize,
        /// Where the first even window has its columns in the phases of row 0.
        taps: Vec<usize>,
    },
}

impl<'a> MaxPool<'a> {
    pub(super) fn new(axes: &'a [Axis; 3]) -> Self {
        let (windows, [d, h, w]) = (&axes[2].windows, axes.each_ref().map(|axis| axis.size));
        let Even { outputs: even, columns, stride } = Even::new(windows);
        let way = match windows.get(even.start) {
            Some(window) if stride == 2 && window.step == 1 && (2..=3).contains(&columns) => {
                Way::Pairs(window.start)
            }
            window => {
                let width = w.div_ceil(stride);
                let tap = |p: usize| p % stride * (d * h * width) + p / stride;
                Way::Phases {
                    stride,
                    width,
                    taps: window.map_or(vec![], |w| w.elements().map(tap).collect()),
                }
            }
        };
        let (mut rows, mut ends) = (vec![], vec![]);
        for a in &axes[0].windows {
            for b in &axes[1].windows {
                rows.extend(a.elements().flat_map(|i| b.elements().map(move |j| i * h + j)));
                ends.push(rows.len());
            }
        }
        let full = axes.iter().all(|axis| axis.windows.iter().all(|w| w.elements().len() > 0));
        MaxPool { axes, columns, even, way, rows, ends, full }
    }

    /// How many codes there are.
    pub(super) fn codes(&self) -> usize {
        let rows = |axis: &Axis| axis.windows.iter().map(|w| w.elements().len()).max().unwrap_or(0);
        rows(&self.axes[0]) * rows(&self.axes[1]) * self.columns
    }

    /// For each row of outputs: where they are, and the rows of the input that they look at.
    #[inline(always)]
    pub(super) fn output_rows(&self) -> impl Iterator<Item = (Range<usize>, &[usize])> {
        let width = self.axes[2].windows.len();
        (0..self.ends.len()).map(move |o| {
            let from = if o == 0 { 0 } else { self.ends[o - 1] };
            (o * width..(o + 1) * width, &self.rows[from..self.ends[o]])
        })
    }

    /// Whether the even windows, if they are disjoint, are all there are and hold every element of a plane.
    pub(super) fn covers(&self) -> bool {
        let windows = self.axes[2].windows.len();
        let size: usize = self.axes.iter().map(|axis| axis.size).product();
        self.even.len() == windows && self.rows.len() * windows * self.columns == size
    }

    /// Whether no element is in two windows, which are read in pairs and have elements: then gradients can be written in
    /// place of being added.
    pub(super) fn disjoint(&self) -> bool {
        let apart = |axis: &Axis| axis.windows.windows(2).all(|w| w[0].end <= w[1].start);
        matches!(self.way, Way::Pairs(_)) && self.full && self.axes.iter().all(apart)
    }

    /// Where each code of a window stands that looks at these rows, if the window starts at column 0.
    #[inline(always)]
    pub(super) fn places(&self, rows: &[usize], places: &mut [usize]) {
        let (w, step) = (self.axes[2].size, self.axes[2].windows.first().map_or(1, |w| w.step));
        for (row, places) in rows.iter().zip(places.chunks_mut(self.columns.max(1))) {
            places.iter_mut().enumerate().for_each(|(k, place)| *place = row * w + k * step);
        }
    }

    /// Calls `f(output, index)` with the place in the plane that each output's code stands for.
    #[inline(always)]
    pub(super) fn decode(&self, code: impl Fn(usize) -> usize, mut f: impl FnMut(usize, usize)) {
        let windows = &self.axes[2].windows;
        let mut places = vec![0; self.codes()];
        for (out, rows) in self.output_rows() {
            self.places(rows, &mut places);
            for (i, window) in out.zip(windows) {
                let empty = !self.full && (rows.is_empty() || window.elements().len() == 0);
                f(i, if empty { 0 } else { places[code(i)] + window.start });
            }
        }
    }
}

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
    codes: Vec<A>,
    phases: Vec<A>,
    spots: Vec<usize>,
}

impl<A> Room<A> {
    pub(super) fn new() -> Self {
        Room { codes: vec![], phases: vec![], spots: vec![] }
    }
}

/// The number that stands for code 0: counting up from it counts up the bits.
fn code_zero<A: WideFloat>() -> A {
    A::from_f64(if size_of::<A>() == 4 { (1u64 << 23) as f64 } else { (1u64 << 52) as f64 })
}

/// The code in the bits of a number.
#[inline(always)]
fn code<A: WideFloat>(x: A) -> usize {
    let bits = match size_of::<A>() {
        4 => u64::from(bytemuck::cast::<A, u32>(x)),
        _ => bytemuck::cast::<A, u64>(x),
    };
    // Above are the exponents.
    (bits & 0x7f_ffff) as usize
}

/// What is kept of a code.
pub(super) trait Place: Scalar {
    /// The places of a plane.
    fn keep<A: WideFloat>(pool: &MaxPool, codes: &[A], places: &mut [Self]);
}

impl Place for u8 {
    #[inline(always)]
    fn keep<A: WideFloat>(_: &MaxPool, codes: &[A], places: &mut [u8]) {
        places.iter_mut().zip(codes).for_each(|(place, &x)| *place = code(x) as u8);
    }
}

impl Place for i64 {
    #[inline(always)]
    fn keep<A: WideFloat>(pool: &MaxPool, codes: &[A], places: &mut [i64]) {
        pool.decode(|i| code(codes[i]), |out, at| places[out] = at as i64);
    }
}

impl<A: WideFloat, P: Place> VectorLoop<A> for Plane<'_, A, P> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) {
        let Plane { pool, x, y, places, room: Room { codes, phases, spots } } = self;
        let (w, even) = (pool.axes[2].size, &pool.even);
        let side_by_side = pool.columns > 0 && even.len() >= V::WIDTH;
        if let (true, Way::Phases { stride: 2.., .. }) = (side_by_side, &pool.way) {
            split(x, w, &pool.way, phases);
        }
        if places.is_some() {
            codes.resize(y.len(), A::zero());
        }
        let mut codes = places.is_some().then_some(codes.as_mut_slice());
        for (out, rows) in pool.output_rows() {
            let y = &mut y[out.clone()];
            let mut codes = codes.as_deref_mut().map(
                #[inline(always)]
                |codes| &mut codes[out],
            );
            let mut alone = 0..even.start;
            if side_by_side && !rows.is_empty() {
                let y = &mut y[even.clone()];
                let codes = codes.as_deref_mut().map(
                    #[inline(always)]
                    |codes| &mut codes[even.clone()],
                );
                side_by_side_outputs::<V>(pool, x, phases, rows, spots, y, codes);
            } else {
                alone.end = even.end;
            }
            for o in alone.chain(even.end..y.len()) {
                let (best, code) = single(x, rows, w, pool.axes[2].windows[o].elements(), pool.columns);
                y[o] = best;
                if let Some(codes) = &mut codes {
                    codes[o] = code;
                }
            }
        }
        if let (Some(codes), Some(places)) = (codes, places) {
            P::keep(pool, codes, places);
        }
    }
}

/// The even outputs of one row. `spots` is working memory.
#[inline(always)]
fn side_by_side_outputs<V: Vector>(
    pool: &MaxPool,
    x: &[V::Element],
    phases: &[V::Element],
    rows: &[usize],
    spots: &mut Vec<usize>,
    y: &mut [V::Element],
    codes: Option<&mut [V::Element]>,
) {
    let w = pool.axes[2].size;
    match (&pool.way, pool.columns) {
        (Way::Pairs(first), 2) => largest_of::<V, 2>(
            rows,
            y,
            codes,
            #[inline(always)]
            |row, at| {
                let (a, b) = pairs::<V>(x, row * w + first + 2 * at);
                [a, b]
            },
        ),
        (Way::Pairs(first), _) => largest_of::<V, 3>(
            rows,
            y,
            codes,
            #[inline(always)]
            |row, at| {
                // The second pair reads no element beyond the last window.
                let from = row * w + first + 2 * at;
                let ((a, b), (_, c)) = (pairs::<V>(x, from), pairs::<V>(x, from + 1));
                [a, b, c]
            },
        ),
        (Way::Phases { stride, width, taps }, _) => {
            let source = if *stride > 1 { phases } else { x };
            spots.clear();
            spots.extend(rows.iter().flat_map(|row| taps.iter().map(move |tap| row * width + tap)));
            largest_of::<V, 1>(
                spots,
                y,
                codes,
                #[inline(always)]
                |spot, at| {
                    let x = &source[spot + at..][..V::WIDTH];
                    // SAFETY: there are `WIDTH` of them.
                    [unsafe { V::read(x.as_ptr()) }]
                },
            );
        }
    }
}

/// `2 · WIDTH` elements, split in those at even and at odd distances from the first.
#[inline(always)]
pub(super) fn pairs<V: Vector>(x: &[V::Element], from: usize) -> (V, V) {
    let x = &x[from..][..2 * V::WIDTH];
    // SAFETY: there are `2 · WIDTH` of them.
    let (a, b) = unsafe { (V::read(x.as_ptr()), V::read(x.as_ptr().add(V::WIDTH))) };
    a.split_pairs(b)
}

/// The largest of what is read at each of the `places`, which there are, for `V::WIDTH` outputs at a time.
#[inline(always)]
fn largest_of<V: Vector, const K: usize>(
    places: &[usize],
    y: &mut [V::Element],
    mut codes: Option<&mut [V::Element]>,
    read: impl Fn(usize, usize) -> [V; K],
) {
    let n = y.len();
    let mut done = 0;
    while done < n {
        // The last vector overlaps the one before it.
        let at = done.min(n - V::WIDTH);
        let y = &mut y[at..at + V::WIDTH];
        let Some(codes) = &mut codes else {
            let mut best = read(places[0], at)[0];
            for &place in places {
                for x in read(place, at) {
                    // The larger, of equals the first; NaN beats what is larger than nothing.
                    best = V::select(x.is_nan(), x, x.larger(best));
                }
            }
            // SAFETY: `y` has `WIDTH` elements.
            unsafe { best.write(y.as_mut_ptr()) };
            done = at + V::WIDTH;
            continue;
        };
        let codes = &mut codes[at..at + V::WIDTH];
        let mut here = V::all(code_zero());
        let mut best = read(places[0], at)[0];
        let mut code = here;
        for &place in places {
            for x in read(place, at) {
                // Nothing is larger than NaN but a later one.
                let wins = best.lt(x) | x.ne(x);
                best = V::select(wins, x, best);
                code = V::select(wins, here, code);
                here = here + V::one();
            }
        }
        // SAFETY: both have `WIDTH` elements.
        unsafe {
            best.write(y.as_mut_ptr());
            code.write(codes.as_mut_ptr());
        }
        done = at + V::WIDTH;
    }
}

/// The phases of a plane, row by row.
#[inline(always)]
fn split<A: WideFloat>(x: &[A], w: usize, way: &Way, phases: &mut Vec<A>) {
    let &Way::Phases { stride, width, .. } = way else { return };
    let size = x.len() / w * width;
    phases.resize(stride * size, A::zero());
    for (p, phase) in phases.chunks_exact_mut(size).enumerate() {
        for (x, phase) in x.chunks_exact(w).zip(phase.chunks_exact_mut(width)) {
            x.iter().skip(p).step_by(stride).zip(phase).for_each(|(&x, phase)| *phase = x);
        }
    }
}

/// One output, with the elements of its window in each row.
///
/// Without branches: which element is the larger cannot be predicted.
#[inline(always)]
fn single<A: WideFloat>(
    x: &[A],
    rows: &[usize],
    w: usize,
    window: impl Iterator<Item = usize> + Clone,
    columns: usize,
) -> (A, A) {
    let mut found = (-A::splat(f64::INFINITY), code_zero::<A>());
    if let (Some(row), Some(column)) = (rows.first(), window.clone().next()) {
        found.0 = x[row * w + column];
    }
    let mut first = code_zero::<A>();
    for row in rows {
        let mut here = first;
        for column in window.clone() {
            let x = x[row * w + column];
            // As in `largest_of`.
            let wins = (x > found.0) | Comparable::is_nan(x);
            found = (if wins { x } else { found.0 }, if wins { here } else { found.1 });
            here = here + A::one();
        }
        first = first + A::splat(columns as f64);
    }
    found
}
