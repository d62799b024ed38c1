//! The gradient of the mean of each window: of each element the sum of the shares of the windows that hold it.
//!
//! Rows of gradients are added up first, over all whose windows hold a row of the input, then the columns. Every element is written
//! once.

use super::average::{Means, add_positions, over_rows};
use super::windows::{Axis, Even, Lists};
use crate::Scalar;
use crate::cpu::vectors::{LANES, Vector, VectorLoop};
use crate::cpu::wide::WideFloat;
use crate::op::Real;
use std::ops::Range;

/// How to spread gradients over planes of one shape.
pub(super) struct Shares<'a, A> {
    means: &'a Means<'a>,
    /// The rows of outputs whose windows hold each row of the input.
    pub sources: Lists,
    /// The windows that hold each element of a row.
    holders: Vec<Range<usize>>,
    /// What each element of a row of gradients is divided by, but for the windows above and across, and ones up to whole vectors.
    counts: Vec<A>,
    /// The outputs `o` of which each holds elements `start, …, start + stride - 1`, with no later window and with as many earlier
    /// ones as all of these.
    even: Range<usize>,
}

/// The windows that hold each element: they and their ends follow each other.
fn holders(axis: &Axis) -> Vec<Range<usize>> {
    let (windows, mut first, mut end) = (&axis.windows, 0, 0);
    let held = |i: usize| {
        while first < windows.len() && windows[first].range().end <= i {
            first += 1;
        }
        while end < windows.len() && windows[end].start <= i {
            end += 1;
        }
        first..end.max(first)
    };
    (0..axis.size).map(held).collect()
}

impl<'a, A: Scalar> Shares<'a, A> {
    pub(super) fn new(means: &'a Means<'a>) -> Self {
        let [depths, heights, holders] = means.axes.each_ref().map(holders);
        let sources = Lists::new(&depths, &heights, means.axes[1].windows.len());
        let windows = &means.axes[2].windows;
        let counts =
            windows.iter().flat_map(|w| std::iter::repeat_n(A::from_f64(w.count as f64), means.inner));
        let Even { outputs, columns, stride } = &means.even;
        let regular = |o: &usize| {
            (0..*stride).all(|e| {
                let holder = holders.get(windows[*o].start + e);
                holder == Some(&((o + 1).saturating_sub((columns - e).div_ceil(*stride))..o + 1))
            })
        };
        let mut even = 0..0;
        if *stride <= 2 && columns >= stride {
            let start = outputs.start + columns.div_ceil(*stride) - 1;
            even = start..(start..outputs.end).take_while(regular).last().map_or(start, |o| o + 1);
        }
        let mut counts: Vec<A> = counts.collect();
        counts.resize(counts.len().next_multiple_of(LANES), A::from_f64(1.0));
        Shares { means, sources, counts, holders, even }
    }
}

/// The gradients of some rows of the input of one plane.
pub(super) struct Spread<'a, A> {
    pub shares: &'a Shares<'a, A>,
    /// Rows of the input.
    pub rows: Range<usize>,
    /// The rows of gradients from this one on.
    pub start: usize,
    pub g: &'a [A],
    /// Working memory.
    pub room: &'a mut Vec<A>,
    pub dx: &'a mut [A],
}

impl<A: WideFloat> VectorLoop<A> for Spread<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) {
        let Spread { shares: Shares { means, sources, holders, counts, even }, rows, start, g, room, dx } =
            self;
        let ([_, width], [_, out]) = (means.input(), means.output());
        room.resize(out.next_multiple_of(LANES), A::zero());
        let mut last = None;
        for (k, row) in rows.enumerate() {
            let takers = sources.of(row);
            if last == Some(takers) {
                // It has the same windows above and across.
                dx.copy_within((k - 1) * width..k * width, k * width);
                continue;
            }
            last = Some(takers);
            room.fill(A::zero());
            for &taker in takers {
                let count = V::splat(means.counts[taker] as f64);
                over_rows::<V, 2>(
                    out,
                    room,
                    [&g[(taker - start) * out..], counts],
                    #[inline(always)]
                    |sum, [g, columns]| sum + g / (count * columns),
                );
            }
            let dx = &mut dx[k * width..(k + 1) * width];
            match means.inner {
                1 => spread_columns::<V>(means, holders, even, room, dx),
                inner => {
                    for (dx, held) in dx.chunks_exact_mut(inner).zip(holders) {
                        add_positions::<V>(&room[held.start * inner..held.end * inner], dx, None);
                    }
                }
            }
        }
    }
}

/// One row of the input from the shares of its windows, where a position holds one element.
#[inline(always)]
fn spread_columns<V: Vector>(
    means: &Means,
    holders: &[Range<usize>],
    even: &Range<usize>,
    shares: &[V::Element],
    dx: &mut [V::Element],
) {
    let Even { columns, stride, .. } = means.even;
    let mut held = 0..0;
    if even.len() >= V::WIDTH {
        let first = means.axes[2].windows[even.start].start;
        held = first..first + even.len() * stride;
        let mut done = 0;
        while done < even.len() {
            // The last vector overlaps the one before it, and writes the same once more.
            let at = done.min(even.len() - V::WIDTH);
            let last = even.start + at;
            let dx = &mut dx[first + at * stride..][..V::WIDTH * stride];
            if stride == 1 {
                // SAFETY: there are `WIDTH` elements.
                unsafe { sum_held::<V>(shares, last, columns.div_ceil(stride)).write(dx.as_mut_ptr()) };
            } else {
                let even = sum_held::<V>(shares, last, columns.div_ceil(2));
                let (low, high) = even.join_pairs(sum_held(shares, last, columns / 2));
                // SAFETY: there are `2 · WIDTH` elements.
                unsafe {
                    low.write(dx.as_mut_ptr());
                    high.write(dx.as_mut_ptr().add(V::WIDTH));
                }
            }
            done = at + V::WIDTH;
        }
    }
    for i in (0..held.start).chain(held.end..dx.len()) {
        dx[i] = shares[holders[i].clone()].iter().fold(V::Element::zero(), |sum, &x| sum + x);
    }
}

/// For each of `WIDTH` windows from `last` on, the sum of its share and of those before it, `count` in all.
#[inline(always)]
fn sum_held<V: Vector>(shares: &[V::Element], last: usize, count: usize) -> V {
    let mut sum = V::zero();
    for x in shares[last + 1 - count..][..count + V::WIDTH - 1].windows(V::WIDTH) {
        // SAFETY: there are `WIDTH` elements.
        sum = sum + unsafe { V::read(x.as_ptr()) };
    }
    sum
}
