//! The loops of normalisation over one row or one stretch of a channel.

use super::Moments;
use crate::Scalar;
use crate::cpu::wide::{WideFloat, dispatch};

/// Partial sums that a run of elements is spread over.
const LANES: usize = 32;

/// The lanes added up, in halves.
#[inline(always)]
fn total<A: WideFloat>(mut lanes: [A; LANES]) -> A {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = lanes[i] + lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Adds up `f` of each place, `N` sums at a time.
#[inline(always)]
fn sums<A: WideFloat, const N: usize>(n: usize, mut f: impl FnMut(usize) -> [A; N]) -> [A; N] {
    let mut lanes = [[A::zero(); LANES]; N];
    let whole = n / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for i in 0..LANES {
            let terms = f(start + i);
            for k in 0..N {
                lanes[k][i] = lanes[k][i] + terms[k];
            }
        }
    }
    let mut totals = lanes.map(total);
    for i in whole..n {
        let terms = f(i);
        for k in 0..N {
            totals[k] = totals[k] + terms[k];
        }
    }
    totals
}

dispatch! {
    /// The moments of a leaf: distances from its mean are summed too, which corrects the rounding of that mean.
    pub(super) fn moments<A: WideFloat>(x: &[A]) -> Moments {
        let n = x.len();
        if n == 0 {
            return Moments::default();
        }
        let count = A::splat(n as f64);
        let (chunks, rest) = x.as_chunks::<LANES>();
        let mut lanes = [A::zero(); LANES];
        for chunk in chunks {
            for i in 0..LANES {
                lanes[i] = lanes[i] + chunk[i];
            }
        }
        let mean = rest.iter().fold(total(lanes), |sum, &x| sum + x) / count;
        let (mut firsts, mut seconds) = ([A::zero(); LANES], [A::zero(); LANES]);
        for chunk in chunks {
            for i in 0..LANES {
                let d = chunk[i] - mean;
                firsts[i] = firsts[i] + d;
                seconds[i] = seconds[i] + d * d;
            }
        }
        let (mut first, mut second) = (total(firsts), total(seconds));
        for &x in rest {
            let d = x - mean;
            first = first + d;
            second = second + d * d;
        }
        let off = first / count;
        let m2 = (second - first * off).to_f64();
        Moments { count: n as f64, mean: mean.to_f64() + off.to_f64(), m2: if m2 < 0.0 { 0.0 } else { m2 } }
    }
}

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

dispatch! {
    /// With `z = (x - mean) · rstd` and `h = g · w`: `dx = rstd · (h - mean(h) - z · mean(h · z))`, and `dw += g · z`,
    /// `db += g`.
    pub(super) fn row_backward<A: WideFloat>(
        g: &[A], x: &[A], mean: A, rstd: A, w: &[A], dx: &mut [A], dw: &mut [A], db: &mut [A],
    ) {
        let n = dx.len();
        let (g, x, w, dw, db) = (&g[..n], &x[..n], &w[..n], &mut dw[..n], &mut db[..n]);
        let [h, hz] = sums(n, |i| {
            let (z, h) = ((x[i] - mean) * rstd, g[i] * w[i]);
            [h, h * z]
        });
        let count = A::splat(n as f64);
        let (h, hz) = (h / count, hz / count);
        for i in 0..n {
            let z = (x[i] - mean) * rstd;
            dw[i] = dw[i] + g[i] * z;
            db[i] = db[i] + g[i];
            dx[i] = (g[i] * w[i] - h - z * hz) * rstd;
        }
    }
}

dispatch! {
    /// `(Σ g, Σ g · z)` with `z = (x - mean) · rstd`, in doubles as PyTorch has it: these sums often cancel.
    pub(super) fn channel_sums<A: WideFloat>(g: &[A], x: &[A], mean: A, rstd: A) -> [f64; 2] {
        let n = g.len();
        let x = &x[..n];
        sums(n, |i| [g[i], g[i] * ((x[i] - mean) * rstd)].map(Scalar::to_f64))
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
