//! Layer normalisation of short rows, as many at a time as a vector has lanes.

use super::kernels::row_element;
use crate::cpu::short::{ShortRows, lanes, read};
use crate::cpu::vectors::{Vector, VectorLoop};
use crate::cpu::wide::WideFloat;

/// `y = (x - mean) · rstd · w + b` with `rstd = 1 / √(variance + eps)`, for rows of `n` elements.
///
/// Moments are those of [`Moments::of`](super::Moments::of): by the corrected two-pass formula.
pub(super) struct ShortForward<'a, A> {
    /// Otherwise the mean is 0, and the variance the mean of the squares.
    pub centred: bool,
    pub n: usize,
    pub eps: f64,
    pub x: &'a [A],
    /// Weights and biases, and zeros up to a multiple of 16.
    pub w: &'a [A],
    pub b: &'a [A],
    pub y: &'a mut [A],
    /// Of each row.
    pub mean: &'a mut [A],
    pub rstd: &'a mut [A],
}

impl<A: WideFloat> VectorLoop<A> for ShortForward<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) {
        let ShortForward { centred, n, eps, x, w, b, y, mean, rstd } = self;
        let (rows, count) = (ShortRows::<V>::new(n), V::splat(n as f64));
        let groups = mean.chunks_mut(V::WIDTH).zip(rstd.chunks_mut(V::WIDTH)).enumerate();
        for (i, (mean, rstd)) in groups {
            let (first, here) = (i * V::WIDTH * n, mean.len());
            let row = |r: usize| [&x[first + r * n..]];
            let (middle, square);
            if centred {
                let [sum] = rows.fold::<1, 1>(
                    here,
                    V::zero(),
                    row,
                    #[inline(always)]
                    |_, [sum], [x]| [sum + x],
                    #[inline(always)]
                    |a, b| a + b,
                );
                let near = sum / count;
                let means = lanes(near);
                let [first, second] = rows.fold::<1, 2>(
                    here,
                    V::zero(),
                    row,
                    #[inline(always)]
                    |r, [first, second], [x]| {
                        let d = x - V::all(means[r]);
                        [first + d, d.mul_add(d, second)]
                    },
                    #[inline(always)]
                    |a, b| a + b,
                );
                let off = first / count;
                (middle, square) = (near + off, second - first * off);
            } else {
                middle = V::zero();
                [square] = rows.fold::<1, 1>(
                    here,
                    V::zero(),
                    row,
                    #[inline(always)]
                    |_, [sum], [x]| [x.mul_add(x, sum)],
                    #[inline(always)]
                    |a, b| a + b,
                );
            }
            let means = lanes(middle);
            let mut rstds = lanes(square);
            for rstd in &mut rstds[..V::WIDTH] {
                let m2 = rstd.to_f64();
                let variance = if m2 < 0.0 { 0.0 } else { m2 } / n as f64;
                *rstd = A::from_f64((variance + eps).sqrt().recip());
            }
            mean.copy_from_slice(&means[..here]);
            rstd.copy_from_slice(&rstds[..here]);
            for r in 0..here {
                let (mean, rstd) = (V::all(means[r]), V::all(rstds[r]));
                rows.map(
                    y,
                    [first + r * n],
                    [],
                    [&x[first + r * n..], w, b],
                    #[inline(always)]
                    |[], [x, w, b]| ([((x - mean) * rstd).mul_add(w, b)], []),
                );
            }
        }
    }
}

/// Elements of the rows whose gradients are found at a time: they stay in the first cache, and so do the gradients, until both
/// passes over them are done.
const GROUP: usize = 1024;

/// The gradient of [`ShortForward`]: as [`RowBackward`](super::kernels::RowBackward) for each row.
pub(super) struct ShortBackward<'a, A> {
    pub centred: bool,
    pub n: usize,
    pub g: &'a [A],
    pub x: &'a [A],
    /// Weights, and zeros up to a multiple of 16.
    pub w: &'a [A],
    /// Of each row.
    pub mean: &'a [A],
    pub rstd: &'a [A],
    pub dx: &'a mut [A],
    /// As long as `w`; what is beyond the row is of no meaning.
    pub dw: &'a mut [A],
    pub db: &'a mut [A],
}

impl<A: WideFloat> VectorLoop<A> for ShortBackward<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) {
        let ShortBackward { centred, n, g, x, w, mean, rstd, dx, dw, db } = self;
        let (rows, count) = (ShortRows::<V>::new(n), V::splat(n as f64));
        let group = (GROUP / n).max(2).min(V::WIDTH);
        let groups = mean.chunks(group).zip(rstd.chunks(group)).enumerate();
        for (i, (mean, rstd)) in groups {
            let first = i * group * n;
            let [h, hd] = rows.fold::<3, 2>(
                mean.len(),
                V::zero(),
                #[inline(always)]
                |r| [&g[first + r * n..], &x[first + r * n..], w],
                #[inline(always)]
                |r, [h, hd], [g, x, w]| {
                    let t = g * w;
                    [h + t, t.mul_add(x - V::all(mean[r]), hd)]
                },
                #[inline(always)]
                |a, b| a + b,
            );
            let h = lanes(if centred { h / count } else { V::zero() });
            let hz = lanes(hd * read(rstd, 0) / count);
            // Two rows share each load and store of the gradients of the parameters.
            for r in (0..mean.len()).step_by(2) {
                let at = first + r * n;
                let (g, x) = (&g[at..], &x[at..]);
                let s = [mean[r], rstd[r], h[r], hz[r]].map(V::all);
                if r + 1 == mean.len() {
                    rows.map(
                        dx,
                        [at],
                        [&mut *dw, &mut *db],
                        [g, x, w],
                        #[inline(always)]
                        |old, x| {
                            let [dx, dw, db] = row_element(s, x, old);
                            ([dx], [dw, db])
                        },
                    );
                    continue;
                }
                let t = [mean[r + 1], rstd[r + 1], h[r + 1], hz[r + 1]].map(V::all);
                rows.map(
                    dx,
                    [at, at + n],
                    [&mut *dw, &mut *db],
                    [g, x, &g[n..], &x[n..], w],
                    #[inline(always)]
                    |old, [g, x, g1, x1, w]| {
                        let [dx, dw, db] = row_element(s, [g, x, w], old);
                        let [dx1, dw, db] = row_element(t, [g1, x1, w], [dw, db]);
                        ([dx, dx1], [dw, db])
                    },
                );
            }
        }
    }
}
