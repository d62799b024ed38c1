//! The loops of softmax: rows in the cache, or a panel of columns side by side.
//!
//! Exponentials are those of differences from the largest, times a unit that cancels: see [`Vector::exp_below`].
//! NaN needs no care: wherever it stands, the sum of the exponentials is NaN, and so is the whole result.

use super::short;
use crate::cpu::short::SHORT;
use crate::cpu::vectors::{Vector, VectorLoop, largest, map, map_sum, sums, update};
use crate::cpu::wide::WideFloat;

/// Softmax of rows of `n`: `y = e^(x - top) / Σ`, or for the logarithm `(x - top) - log Σ`.
pub(super) struct Rows<'a, A> {
    pub n: usize,
    pub log: bool,
    pub x: &'a [A],
    pub y: &'a mut [A],
}

impl<A: WideFloat> VectorLoop<A> for Rows<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) {
        if self.n <= SHORT {
            return short::rows::<V>(self);
        }
        for (x, y) in self.x.chunks_exact(self.n).zip(self.y.chunks_exact_mut(self.n)) {
            let top = V::all(largest::<V>(x));
            let least = -V::Element::splat(f64::INFINITY);
            if self.log {
                let [sum] = sums::<V, 1, 1>(
                    [x],
                    [least],
                    #[inline(always)]
                    |[x]| [(x - top).exp_below()],
                );
                let log_sum = V::all((sum * V::Element::splat(1.0 / V::UNIT)).ln());
                map::<V, 1>(
                    [x],
                    y,
                    #[inline(always)]
                    |[x]| (x - top) - log_sum,
                );
            } else {
                let sum = map_sum::<V, 1>(
                    [x],
                    [least],
                    y,
                    #[inline(always)]
                    |[x]| (x - top).exp_below(),
                );
                let scale = V::all(V::Element::one() / sum);
                update::<V, 0>(
                    y,
                    [],
                    #[inline(always)]
                    |e, []| e * scale,
                );
            }
        }
    }
}

/// The gradient of [`Rows`] from its result: `y · (g - Σ g·y)`, or `g - e^y · Σ g` for the logarithm.
pub(super) struct RowsBackward<'a, A> {
    pub n: usize,
    pub log: bool,
    pub g: &'a [A],
    pub y: &'a [A],
    pub dx: &'a mut [A],
}

impl<A: WideFloat> VectorLoop<A> for RowsBackward<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) {
        if self.n <= SHORT {
            return short::rows_backward::<V>(self);
        }
        let zero = V::Element::zero();
        let rows = self.g.chunks_exact(self.n).zip(self.y.chunks_exact(self.n));
        for ((g, y), dx) in rows.zip(self.dx.chunks_exact_mut(self.n)) {
            if self.log {
                let [sum] = sums::<V, 1, 1>(
                    [g],
                    [zero],
                    #[inline(always)]
                    |[g]| [g],
                );
                let sum = V::all(sum);
                map::<V, 2>(
                    [g, y],
                    dx,
                    #[inline(always)]
                    |[g, y]| g - y.exp() * sum,
                );
            } else {
                let [dot] = sums::<V, 2, 1>(
                    [g, y],
                    [zero; 2],
                    #[inline(always)]
                    |[g, y]| [g * y],
                );
                let dot = V::all(dot);
                map::<V, 2>(
                    [g, y],
                    dx,
                    #[inline(always)]
                    |[g, y]| (g - dot) * y,
                );
            }
        }
    }
}

/// Softmax of the columns of a panel `[n, columns]`, in place; `top` holds the largest of each column, `sum` has room for
/// as many.
pub(super) struct Columns<'a, A> {
    pub log: bool,
    pub panel: &'a mut [A],
    pub top: &'a [A],
    pub sum: &'a mut [A],
}

impl<A: WideFloat> VectorLoop<A> for Columns<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) {
        let Columns { log, panel, top, sum } = self;
        let columns = top.len();
        sum.fill(V::Element::zero());
        for row in panel.chunks_exact_mut(columns) {
            if log {
                update::<V, 1>(
                    row,
                    [top],
                    #[inline(always)]
                    |x, [top]| x - top,
                );
                update::<V, 1>(
                    sum,
                    [row],
                    #[inline(always)]
                    |sum, [x]| sum + x.exp_below(),
                );
            } else {
                update::<V, 1>(
                    row,
                    [top],
                    #[inline(always)]
                    |x, [top]| (x - top).exp_below(),
                );
                update::<V, 1>(
                    sum,
                    [row],
                    #[inline(always)]
                    |sum, [e]| sum + e,
                );
            }
        }
        update::<V, 0>(
            sum,
            [],
            #[inline(always)]
            |sum, []| if log { (sum * V::splat(1.0 / V::UNIT)).ln() } else { V::one() / sum },
        );
        for row in panel.chunks_exact_mut(columns) {
            update::<V, 1>(
                row,
                [sum],
                #[inline(always)]
                |y, [s]| if log { y - s } else { y * s },
            );
        }
    }
}

/// The gradient of [`Columns`] from its result `y`, into it.
pub(super) struct ColumnsBackward<'a, A> {
    pub log: bool,
    pub g: &'a [A],
    pub y: &'a mut [A],
    pub sum: &'a mut [A],
}

impl<A: WideFloat> VectorLoop<A> for ColumnsBackward<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) {
        let ColumnsBackward { log, g, y, sum } = self;
        let columns = sum.len();
        sum.fill(V::Element::zero());
        for (g, y) in g.chunks_exact(columns).zip(y.chunks_exact(columns)) {
            update::<V, 2>(
                sum,
                [g, y],
                #[inline(always)]
                |sum, [g, y]| sum + if log { g } else { g * y },
            );
        }
        for (g, y) in g.chunks_exact(columns).zip(y.chunks_exact_mut(columns)) {
            update::<V, 2>(
                y,
                [g, sum],
                #[inline(always)]
                |y, [g, s]| if log { g - y.exp() * s } else { (g - s) * y },
            );
        }
    }
}
