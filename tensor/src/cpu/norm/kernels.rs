//! The loops of normalisation over one row or one stretch of a channel.

use crate::cpu::simd::stream;
use crate::cpu::vectors::{LANES, Vector, VectorLoop, for_each, sums, total_in_doubles, update_all};
use crate::cpu::wide::{WideFloat, dispatch};

dispatch! {
    /// `y = (x - mean) · rstd · w + b`, with a weight and a bias for each element.
    pub(super) fn normalise_row<A: WideFloat>(x: &[A], mean: A, rstd: A, w: &[A], b: &[A], y: &mut [A]) {
        let n = y.len();
        let (x, w, b) = (&x[..n], &w[..n], &b[..n]);
        for i in 0..n {
            y[i] = (x[i] - mean) * rstd * w[i] + b[i];
        }
    }
}

dispatch! {
    /// `y = (x - mean) · rstd · w + b`, with one weight and one bias.
    pub(super) fn normalise<A: WideFloat>(x: &[A], mean: A, rstd: A, w: A, b: A, y: &mut [A]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = (x - mean) * rstd * w + b;
        }
    }
}

/// What the gradient of layer normalisation for one row depends on as a whole: with `z = (x - mean) · rstd` and `h = g · w`, the
/// means of `h` and of `h · z`.
pub(super) struct RowSums<'a, A> {
    /// Otherwise the mean is a constant: that of `h` is left out.
    pub centred: bool,
    pub g: &'a [A],
    pub x: &'a [A],
    pub w: &'a [A],
    pub mean: A,
    pub rstd: A,
}

impl<A: WideFloat> VectorLoop<A> for RowSums<'_, A> {
    type Output = [A; 2];

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) -> [A; 2] {
        let RowSums { centred, g, x, w, mean, rstd } = self;
        let (zero, count, middle) = (A::zero(), A::splat(w.len() as f64), V::all(mean));
        let [h, hd] = sums::<V, 3, 2>(
            [w, g, x],
            [zero, zero, mean],
            #[inline(always)]
            |[w, g, x]| {
                let h = g * w;
                [h, h * (x - middle)]
            },
        );
        [if centred { h / count } else { zero }, hd * rstd / count]
    }
}

/// `(dx, dw, db)` of an element from what was found of its row, and from `dw` and `db` of the rows before.
#[inline(always)]
pub(super) fn row_element<V: Vector>(
    [mean, rstd, h, hz]: [V; 4],
    [g, x, w]: [V; 3],
    [dw, db]: [V; 2],
) -> [V; 3] {
    let z = (x - mean) * rstd;
    [(g.mul_add(w, -h) - z * hz) * rstd, g.mul_add(z, dw), db + g]
}

/// The gradient of layer normalisation for a part of a row.
///
/// With `z` and `h` as in [`RowSums`]: `dx = rstd · (h - mean(h) - z · mean(h · z))`, and `dw += g · z`, `db += g`.
pub(super) struct RowBackward<'a, A> {
    pub g: &'a [A],
    pub x: &'a [A],
    pub w: &'a [A],
    pub mean: A,
    pub rstd: A,
    /// The means of `h` and of `h · z`.
    pub sums: [A; 2],
    pub dx: &'a mut [A],
    pub dw: &'a mut [A],
    pub db: &'a mut [A],
}

impl<A: WideFloat> VectorLoop<A> for RowBackward<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) {
        let RowBackward { g, x, w, dx, dw, db, .. } = self;
        let row = [self.mean, self.rstd, self.sums[0], self.sums[1]].map(V::all);
        update_all::<V, 3, 3>(
            [dx, dw, db],
            [g, x, w],
            #[inline(always)]
            |[_, dw, db], x| row_element(row, x, [dw, db]),
        );
    }
}

/// As [`RowSums`] and [`RowBackward`] for two rows, which share each load and store of `dw` and `db`.
pub(super) struct PairBackward<'a, A> {
    pub centred: bool,
    pub g: &'a [A],
    pub x: &'a [A],
    pub w: &'a [A],
    pub mean: &'a [A],
    pub rstd: &'a [A],
    pub dx: &'a mut [A],
    pub dw: &'a mut [A],
    pub db: &'a mut [A],
}

impl<A: WideFloat> VectorLoop<A> for PairBackward<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) {
        let PairBackward { centred, g, x, w, mean, rstd, dx, dw, db } = self;
        let [(g, g1), (x, x1)] = [g, x].map(|x| x.split_at(w.len()));
        let (dx, dx1) = dx.split_at_mut(w.len());
        let s = RowSums { centred, g, x, w, mean: mean[0], rstd: rstd[0] }.run::<V>();
        let t = RowSums { centred, g: g1, x: x1, w, mean: mean[1], rstd: rstd[1] }.run::<V>();
        let s = [mean[0], rstd[0], s[0], s[1]].map(V::all);
        let t = [mean[1], rstd[1], t[0], t[1]].map(V::all);
        update_all::<V, 4, 5>(
            [dx, dx1, dw, db],
            [g, x, g1, x1, w],
            #[inline(always)]
            |[_, _, dw, db], [g, x, g1, x1, w]| {
                let [dx, dw, db] = row_element(s, [g, x, w], [dw, db]);
                let [dx1, dw, db] = row_element(t, [g1, x1, w], [dw, db]);
                [dx, dx1, dw, db]
            },
        );
    }
}

/// `(Σ g, Σ g · z)` with `z = (x - mean) · rstd`: each lane of a run of [`RUN`] elements by itself, and their sum in doubles, as
/// these sums often cancel.
pub(super) struct ChannelSums<'a, A, T> {
    pub g: &'a [A],
    pub x: &'a [A],
    pub mean: A,
    pub rstd: A,
    /// What will be read next in place of `g` and `x`: asked for meanwhile, as stretches are too short for the processor to see
    /// where they lead.
    pub next: [&'a [T]; 2],
}

/// Elements that are summed up before doubles take over: 32 in each lane.
const RUN: usize = 32 * LANES;

impl<A: WideFloat, T> VectorLoop<A> for ChannelSums<'_, A, T> {
    type Output = [f64; 2];

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) -> [f64; 2] {
        let (zero, mean) = (A::zero(), V::all(self.mean));
        let mut total = [0.0; 2];
        for (i, (g, x)) in self.g.chunks(RUN).zip(self.x.chunks(RUN)).enumerate() {
            let [mut sums, mut products] = [[V::zero(); LANES]; 2];
            for_each::<V, 2>(
                [g, x],
                [zero, self.mean],
                #[inline(always)]
                |part, at, _, [g, x]| {
                    if part == 0 {
                        let at = i * RUN + at..i * RUN + at + LANES;
                        stream::prefetch(self.next[0], at.clone());
                        stream::prefetch(self.next[1], at);
                    }
                    sums[part] = sums[part] + g;
                    products[part] = products[part] + g * (x - mean);
                },
            );
            total = [total[0] + total_in_doubles(&sums), total[1] + total_in_doubles(&products)];
        }
        [total[0], total[1] * self.rstd.to_f64()]
    }
}

dispatch! {
    /// `dx = (g · w - h - z · hz) · rstd` with `z = (x - mean) · rstd`.
    pub(super) fn channel_backward<A: WideFloat>(
        g: &[A], x: &[A], mean: A, rstd: A, w: A, h: A, hz: A, dx: &mut [A],
    ) {
        for ((dx, &g), &x) in dx.iter_mut().zip(g).zip(x) {
            let z = (x - mean) * rstd;
            *dx = (g * w - h - z * hz) * rstd;
        }
    }
}
