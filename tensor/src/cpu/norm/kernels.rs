//! The loops of normalisation over one row or one stretch of a channel.

use crate::cpu::vectors::{Vector, VectorLoop, sums, sums_in_doubles, update_all};
use crate::cpu::wide::{WideFloat, dispatch};
use crate::op::Real;

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

/// The gradient of layer normalisation for one row of `n`, or two, which then share each load and store of `dw` and `db`.
///
/// With `z = (x - mean) · rstd` and `h = g · w`: `dx = rstd · (h - mean(h) - z · mean(h · z))`, and `dw += g · z`, `db += g`,
/// one row after the other.
///
/// Unless `centred`, the mean is a constant: `mean(h)` is left out.
pub(super) struct RowsBackward<'a, A> {
    pub centred: bool,
    pub g: &'a [A],
    pub x: &'a [A],
    pub mean: &'a [A],
    pub rstd: &'a [A],
    pub w: &'a [A],
    pub dx: &'a mut [A],
    pub dw: &'a mut [A],
    pub db: &'a mut [A],
}

impl<A: WideFloat> VectorLoop<A> for RowsBackward<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) {
        let RowsBackward { centred, g, x, mean, rstd, w, dx, dw, db } = self;
        let n = w.len();
        let rows = [g, x].map(|x| x.split_at(n));
        let [(g, g1), (x, x1)] = rows;
        let s = RowStats::<V>::new(centred, [g, x, w], mean[0], rstd[0]);
        if mean.len() == 1 {
            return update_all::<V, 3, 3>(
                [dx, dw, db],
                [g, x, w],
                #[inline(always)]
                |[_, dw, db], [g, x, w]| {
                    let z = s.normalised(x);
                    [s.slope(g, z, w), g.mul_add(z, dw), db + g]
                },
            );
        }
        let t = RowStats::<V>::new(centred, [g1, x1, w], mean[1], rstd[1]);
        let (dx, dx1) = dx.split_at_mut(n);
        update_all::<V, 4, 5>(
            [dx, dx1, dw, db],
            [g, x, g1, x1, w],
            #[inline(always)]
            |[_, _, dw, db], [g, x, g1, x1, w]| {
                let (z, z1) = (s.normalised(x), t.normalised(x1));
                let dw = g1.mul_add(z1, g.mul_add(z, dw));
                [s.slope(g, z, w), t.slope(g1, z1, w), dw, db + g + g1]
            },
        );
    }
}

/// What the gradient of a row depends on as a whole: its mean and rstd, and the means of `h` and of `h · z`.
#[derive(Clone, Copy)]
struct RowStats<V> {
    mean: V,
    rstd: V,
    h: V,
    hz: V,
}

impl<V: Vector> RowStats<V> {
    #[inline(always)]
    fn new(centred: bool, [g, x, w]: [&[V::Element]; 3], mean: V::Element, rstd: V::Element) -> Self {
        let (zero, count, middle) = (V::Element::zero(), V::Element::splat(w.len() as f64), V::all(mean));
        let [h, hd] = sums::<V, 3, 2>(
            [w, g, x],
            [zero, zero, mean],
            #[inline(always)]
            |[w, g, x]| {
                let h = g * w;
                [h, h * (x - middle)]
            },
        );
        let h = if centred { h / count } else { zero };
        let [mean, rstd, h, hz] = [mean, rstd, h, hd * rstd / count].map(V::all);
        RowStats { mean, rstd, h, hz }
    }

    /// `z`.
    #[inline(always)]
    fn normalised(self, x: V) -> V {
        (x - self.mean) * self.rstd
    }

    /// `dx`.
    #[inline(always)]
    fn slope(self, g: V, z: V, w: V) -> V {
        (g.mul_add(w, -self.h) - z * self.hz) * self.rstd
    }
}

/// `(Σ g, Σ g · z)` with `z = (x - mean) · rstd`: each lane of a run of [`RUN`] elements by itself, and their sum in doubles, as
/// these sums often cancel.
pub(super) struct ChannelSums<'a, A> {
    pub g: &'a [A],
    pub x: &'a [A],
    pub mean: A,
    pub rstd: A,
}

/// Elements that are summed up before doubles take over: 32 in each lane.
const RUN: usize = 1024;

impl<A: WideFloat> VectorLoop<A> for ChannelSums<'_, A> {
    type Output = [f64; 2];

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) -> [f64; 2] {
        let (zero, mean) = (A::zero(), V::all(self.mean));
        let mut total = [0.0; 2];
        for (g, x) in self.g.chunks(RUN).zip(self.x.chunks(RUN)) {
            let sums = sums_in_doubles::<V, 2, 2>(
                [g, x],
                [zero, self.mean],
                #[inline(always)]
                |[g, x]| [g, g * (x - mean)],
            );
            total = [total[0] + sums[0], total[1] + sums[1]];
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
