//! The largest element of each window.
//!
//! Of equal elements the first in row-major order wins; NaN wins over everything. A window without a single element, as
//! dilation can make one, gives -∞ and index 0.
//!
//! Outputs whose windows follow each other evenly are computed side by side. So that their elements lie side by side too, a
//! plane is first split into as many *phases* as the stride has: phase `p` holds columns `p, p + stride, …`. Where in its
//! window the largest element stands is a *code*, `row · columns + column`, counted in the part of the window inside the input.

use super::windows::{Axis, for_each_row};
use crate::Scalar;
use crate::cpu::vectors::{Vector, VectorLoop};
use crate::cpu::wide::WideFloat;
use crate::op::ArgOp;

/// How to pool the planes of one shape.
pub(super) struct MaxPool<'a> {
    axes: &'a [Axis; 3],
    /// Columns of a window that lies inside the input.
    columns: usize,
    /// The outputs whose windows have all columns and follow each other evenly.
    even: std::ops::Range<usize>,
    stride: usize,
    /// Where the first even window has its columns in the phases of row 0.
    taps: Vec<usize>,
    /// Columns of a phase.
    width: usize,
    /// Whether each window has elements.
    pub(super) full: bool,
}

impl<'a> MaxPool<'a> {
    pub(super) fn new(axes: &'a [Axis; 3]) -> Self {
        let (windows, [d, h, w]) = (&axes[2].windows, axes.each_ref().map(|axis| axis.size));
        let columns = windows.iter().map(|w| w.elements().len()).max().unwrap_or(0);
        let first = windows.iter().position(|w| w.elements().len() == columns).unwrap_or(0);
        let start = |o: usize| windows.get(o).map(|w| w.start);
        let stride = start(first + 1).zip(start(first)).map_or(1, |(b, a)| b.saturating_sub(a)).max(1);
        let follows = |&o: &usize| {
            start(o) == start(first).map(|s| s + (o - first) * stride)
                && windows[o].elements().len() == columns
        };
        let end = (first..windows.len()).take_while(follows).last().map_or(first, |o| o + 1);
        let width = w.div_ceil(stride);
        let tap = |p: usize| p % stride * (d * h * width) + p / stride;
        let taps = windows.get(first).map_or(vec![], |w| w.elements().map(tap).collect());
        let full = axes.iter().all(|axis| axis.windows.iter().all(|w| w.elements().len() > 0));
        MaxPool { axes, columns, even: first..end, stride, taps, width, full }
    }

    /// How many codes there are.
    pub(super) fn codes(&self) -> usize {
        let rows = |axis: &Axis| axis.windows.iter().map(|w| w.elements().len()).max().unwrap_or(0);
        rows(&self.axes[0]) * rows(&self.axes[1]) * self.columns
    }

    /// Calls `f(output, index)` with the place in the plane that each output's code stands for.
    #[inline(always)]
    fn decode(&self, code: impl Fn(usize) -> usize, mut f: impl FnMut(usize, usize)) {
        let [_, h, w] = self.axes.each_ref().map(|axis| axis.size);
        let mut places = vec![];
        for_each_row(self.axes, |out, a, b| {
            places.clear();
            for row in a.elements().flat_map(|i| b.elements().map(move |j| (i * h + j) * w)) {
                let step = self.axes[2].windows.first().map_or(1, |w| w.step);
                places.extend((0..self.columns).map(|k| row + k * step));
            }
            for (i, window) in out.zip(&self.axes[2].windows) {
                let empty = !self.full && (places.is_empty() || window.elements().len() == 0);
                f(i, if empty { 0 } else { places[code(i)] + window.start });
            }
        });
    }
}

/// One plane: its largest elements into `y` and, if asked for, their codes.
pub(super) struct Plane<'a, A> {
    pub pool: &'a MaxPool<'a>,
    pub x: &'a [A],
    pub y: &'a mut [A],
    pub codes: Option<&'a mut [A]>,
    /// Working memory.
    pub phases: &'a mut Vec<A>,
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
    fn keep<A: WideFloat>(_: &MaxPool, codes: &[A], places: &mut [u8]) {
        places.iter_mut().zip(codes).for_each(|(place, &x)| *place = code(x) as u8);
    }
}

impl Place for i64 {
    fn keep<A: WideFloat>(pool: &MaxPool, codes: &[A], places: &mut [i64]) {
        pool.decode(|i| code(codes[i]), |out, at| places[out] = at as i64);
    }
}

/// Where the gradients of a plane go.
pub(super) trait Targets: Sync {
    /// Calls `f(output, index)` for each output of a plane.
    fn each(&self, plane: usize, f: impl FnMut(usize, usize));
}

/// By indices, `size` for each plane.
pub(super) struct Indices<'a> {
    pub index: &'a [i64],
    pub size: usize,
}

impl Targets for Indices<'_> {
    #[inline(always)]
    fn each(&self, plane: usize, mut f: impl FnMut(usize, usize)) {
        let index = &self.index[plane * self.size..][..self.size];
        index.iter().enumerate().for_each(|(out, &at)| f(out, at as usize));
    }
}

/// By codes, `size` for each plane.
pub(super) struct Codes<'a> {
    pub pool: MaxPool<'a>,
    pub codes: &'a [u8],
    pub size: usize,
}

impl Targets for Codes<'_> {
    #[inline(always)]
    fn each(&self, plane: usize, f: impl FnMut(usize, usize)) {
        let codes = &self.codes[plane * self.size..][..self.size];
        self.pool.decode(|i| usize::from(codes[i]), f);
    }
}

impl<A: WideFloat> VectorLoop<A> for Plane<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) {
        let Plane { pool, x, y, mut codes, phases } = self;
        let [_, h, w] = pool.axes.each_ref().map(|axis| axis.size);
        let side_by_side = pool.columns > 0 && pool.even.len() >= V::WIDTH;
        if side_by_side && pool.stride > 1 {
            split(x, w, pool, phases);
        }
        let source = if pool.stride > 1 { phases.as_slice() } else { x };
        let mut rows = vec![];
        for_each_row(pool.axes, |out, a, b| {
            rows.clear();
            rows.extend(a.elements().flat_map(|i| b.elements().map(move |j| i * h + j)));
            let y = &mut y[out.clone()];
            let mut codes = codes.as_deref_mut().map(|codes| &mut codes[out]);
            let mut alone = 0..pool.even.start;
            if side_by_side && !rows.is_empty() {
                let n = pool.even.len();
                let y = &mut y[pool.even.clone()];
                let mut codes = codes.as_deref_mut().map(|codes| &mut codes[pool.even.clone()]);
                let mut done = 0;
                while done < n {
                    // The last vector overlaps the one before it.
                    let at = done.min(n - V::WIDTH);
                    let codes = codes.as_deref_mut().map(|codes| &mut codes[at..at + V::WIDTH]);
                    let y = &mut y[at..at + V::WIDTH];
                    match pool.taps.as_slice() {
                        [t0, t1] => together::<V, 2>(source, at, &rows, pool.width, &[*t0, *t1], y, codes),
                        [t0, t1, t2] => {
                            together::<V, 3>(source, at, &rows, pool.width, &[*t0, *t1, *t2], y, codes)
                        }
                        taps => together_any::<V>(source, at, &rows, pool.width, taps, y, codes),
                    }
                    done = at + V::WIDTH;
                }
            } else {
                alone.end = pool.even.end;
            }
            for o in alone.chain(pool.even.end..y.len()) {
                let (best, code) = single(x, &rows, w, pool.axes[2].windows[o].elements(), pool.columns);
                y[o] = best;
                if let Some(codes) = &mut codes {
                    codes[o] = code;
                }
            }
        });
    }
}

/// The phases of a plane, row by row.
#[inline(always)]
fn split<A: WideFloat>(x: &[A], w: usize, pool: &MaxPool, phases: &mut Vec<A>) {
    let size = x.len() / w * pool.width;
    phases.resize(pool.stride * size, A::zero());
    if pool.stride == 2 {
        let (even, odd) = phases.split_at_mut(size);
        let halves = even.chunks_exact_mut(pool.width).zip(odd.chunks_exact_mut(pool.width));
        for (x, (even, odd)) in x.chunks_exact(w).zip(halves) {
            let (pairs, rest) = x.as_chunks::<2>();
            for ((pair, even), odd) in pairs.iter().zip(&mut *even).zip(odd) {
                (*even, *odd) = (pair[0], pair[1]);
            }
            rest.iter().for_each(|&x| even[pool.width - 1] = x);
        }
        return;
    }
    for (p, phase) in phases.chunks_exact_mut(size).enumerate() {
        for (x, phase) in x.chunks_exact(w).zip(phase.chunks_exact_mut(pool.width)) {
            x.iter().skip(p).step_by(pool.stride).zip(phase).for_each(|(&x, phase)| *phase = x);
        }
    }
}

/// As [`together_any`], for a number of columns known to the compiler.
#[inline(always)]
fn together<V: Vector, const K: usize>(
    source: &[V::Element],
    at: usize,
    rows: &[usize],
    width: usize,
    taps: &[usize; K],
    y: &mut [V::Element],
    codes: Option<&mut [V::Element]>,
) {
    together_any::<V>(source, at, rows, width, taps, y, codes);
}

/// `V::WIDTH` outputs from the `at`-th even one.
#[inline(always)]
fn together_any<V: Vector>(
    source: &[V::Element],
    at: usize,
    rows: &[usize],
    width: usize,
    taps: &[usize],
    y: &mut [V::Element],
    codes: Option<&mut [V::Element]>,
) {
    assert!(y.len() == V::WIDTH);
    let read = |row: usize, tap: usize| {
        let x = &source[row * width + tap + at..][..V::WIDTH];
        // SAFETY: there are `WIDTH` of them.
        unsafe { V::read(x.as_ptr()) }
    };
    let mut best = read(rows[0], taps[0]);
    let Some(codes) = codes else {
        for &row in rows {
            for &tap in taps {
                let x = read(row, tap);
                // The larger, of equals the first; NaN beats what is larger than nothing.
                best = V::select(x.is_nan(), x, x.larger(best));
            }
        }
        // SAFETY: `y` has room for `WIDTH` (checked above).
        return unsafe { best.write(y.as_mut_ptr()) };
    };
    assert!(codes.len() == V::WIDTH);
    let mut here = V::all(code_zero());
    let mut code = here;
    for &row in rows {
        for &tap in taps {
            let x = read(row, tap);
            // NaN, which is not <= anything, wins once.
            let wins = !x.le(best) & best.eq(best);
            best = V::select(wins, x, best);
            code = V::select(wins, here, code);
            here = here + V::one();
        }
    }
    // SAFETY: both have room for `WIDTH` (checked above).
    unsafe {
        best.write(y.as_mut_ptr());
        code.write(codes.as_mut_ptr());
    }
}

/// One output, with the elements of its window in each row.
#[inline(always)]
fn single<A: WideFloat>(
    x: &[A],
    rows: &[usize],
    w: usize,
    window: impl Iterator<Item = usize> + Clone,
    columns: usize,
) -> (A, A) {
    let mut best = (-A::splat(f64::INFINITY), code_zero::<A>());
    let mut any = false;
    for (r, row) in rows.iter().enumerate() {
        for (k, column) in window.clone().enumerate() {
            let x = x[row * w + column];
            if !any || ArgOp::ArgMax.replaces(x, best.0) {
                best = (x, code_zero::<A>() + A::from_f64((r * columns + k) as f64));
                any = true;
            }
        }
    }
    best
}
