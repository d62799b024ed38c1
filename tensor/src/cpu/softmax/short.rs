//! Softmax of short rows, as many at a time as a vector has lanes.

use super::kernels::{Rows, RowsBackward};
use crate::cpu::short::{ShortRows, lanes};
use crate::cpu::vectors::Vector;

/// [`Rows`] that are short.
#[inline(always)]
pub(super) fn rows<V: Vector>(all: Rows<V::Element>) {
    let Rows { n, log, x, y } = all;
    let (rows, size) = (ShortRows::<V>::new(n), V::WIDTH * n);
    for (x, y) in x.chunks(size).zip(y.chunks_mut(size)) {
        let here = x.len() / n;
        let [top] = rows.fold::<1, 1>(
            here,
            V::splat(f64::NEG_INFINITY),
            |r| [&x[r * n..]],
            #[inline(always)]
            |_, [top], [x]| [x.larger(top)],
            #[inline(always)]
            |a, b| a.larger(b),
        );
        let tops = lanes(top);
        if log {
            let [sum] = rows.fold::<1, 1>(
                here,
                V::zero(),
                |r| [&x[r * n..]],
                #[inline(always)]
                |r, [sum], [x]| [sum + (x - V::all(tops[r])).exp_below()],
                #[inline(always)]
                |a, b| a + b,
            );
            let log_sums = lanes((sum * V::splat(1.0 / V::UNIT)).ln());
            for r in 0..here {
                let (top, log_sum) = (V::all(tops[r]), V::all(log_sums[r]));
                rows.map(
                    y,
                    [r * n],
                    [],
                    [&x[r * n..]],
                    #[inline(always)]
                    |[], [x]| ([(x - top) - log_sum], []),
                );
            }
            continue;
        }
        for r in 0..here {
            let top = V::all(tops[r]);
            rows.map(
                y,
                [r * n],
                [],
                [&x[r * n..]],
                #[inline(always)]
                |[], [x]| ([(x - top).exp_below()], []),
            );
        }
        let [sum] = rows.fold::<1, 1>(
            here,
            V::zero(),
            |r| [&y[r * n..]],
            #[inline(always)]
            |_, [sum], [e]| [sum + e],
            #[inline(always)]
            |a, b| a + b,
        );
        let scales = lanes(V::one() / sum);
        for r in 0..here {
            let scale = V::all(scales[r]);
            rows.map(
                &mut [],
                [],
                [&mut y[r * n..]],
                [],
                #[inline(always)]
                |[e], []| ([], [e * scale]),
            );
        }
    }
}

/// [`RowsBackward`] that are short.
#[inline(always)]
pub(super) fn rows_backward<V: Vector>(all: RowsBackward<V::Element>) {
    let RowsBackward { n, log, g, y, dx } = all;
    let (rows, size) = (ShortRows::<V>::new(n), V::WIDTH * n);
    for ((g, y), dx) in g.chunks(size).zip(y.chunks(size)).zip(dx.chunks_mut(size)) {
        let here = g.len() / n;
        let row = |r: usize| [&g[r * n..], &y[r * n..]];
        let [sum] = rows.fold::<2, 1>(
            here,
            V::zero(),
            row,
            #[inline(always)]
            |_, [sum], [g, y]| [sum + if log { g } else { g * y }],
            #[inline(always)]
            |a, b| a + b,
        );
        let sums = lanes(sum);
        for r in 0..here {
            let sum = V::all(sums[r]);
            rows.map(
                dx,
                [r * n],
                [],
                row(r),
                #[inline(always)]
                |[], [g, y]| ([if log { g - y.exp() * sum } else { (g - sum) * y }], []),
            );
        }
    }
}
