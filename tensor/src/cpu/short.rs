//! Rows so short that what is done once for each costs more than their elements: they are taken as many at a time as a vector has
//! lanes.
//!
//! Element `i` of a row goes to partial result `i % 16` at every width. Those of all rows are then combined by pairs of neighbours,
//! 15 times, which leaves the result of each row in a lane of one vector: what follows from it is computed for all rows at once.

use super::vectors::{LANES, Vector};
use crate::op::Real;

/// The longest row that is short.
pub(crate) const SHORT: usize = 256;

/// Partial results of a row.
pub(crate) const PARTS: usize = 16;

/// Rows of `n` elements as vectors.
pub(crate) struct ShortRows<V: Vector> {
    n: usize,
    /// Which lanes belong to a row where its last stretch of 16 elements is not whole.
    masks: [V::Mask; PARTS],
}

impl<V: Vector> ShortRows<V> {
    #[inline(always)]
    pub(crate) fn new(n: usize) -> Self {
        let mut inside = [V::Element::zero(); PARTS];
        inside[..n % PARTS].fill(V::Element::one());
        let mut masks = [V::zero().eq(V::one()); PARTS];
        for part in 0..PARTS / V::WIDTH {
            // SAFETY: `part · WIDTH + WIDTH <= PARTS`.
            masks[part] = unsafe { V::read(inside[part * V::WIDTH..].as_ptr()) }.eq(V::one());
        }
        ShortRows { n, masks }
    }

    /// Takes the vectors of rows `0..rows`, at most [`WIDTH`](Vector::WIDTH), with which the operands start, into `M` results each:
    /// `f(row, results, vectors)` gives the results with one more vector, and `combine` makes one of two. Lane `r` belongs to row `r`.
    #[inline(always)]
    pub(crate) fn fold<'a, const N: usize, const M: usize>(
        &self,
        rows: usize,
        init: V,
        operands: impl Fn(usize) -> [&'a [V::Element]; N],
        f: impl Fn(usize, [V; M], [V; N]) -> [V; M],
        combine: impl Fn(V, V) -> V,
    ) -> [V; M]
    where
        V: 'a,
    {
        let mut all = [[init; PARTS]; M];
        let (count, whole) = (PARTS / V::WIDTH, self.n / PARTS * PARTS);
        for r in 0..rows.min(V::WIDTH) {
            let x = operands(r);
            assert!(x.iter().all(|x| x.len() >= self.n), "operands hold the row");
            let mut parts = [[init; M]; PARTS];
            for start in (0..whole).step_by(PARTS) {
                for part in 0..count {
                    let mut vectors = [V::zero(); N];
                    for k in 0..N {
                        // SAFETY: `start + PARTS <= n`, and all operands have `n` elements (checked above).
                        vectors[k] = unsafe { V::read(x[k].as_ptr().add(start + part * V::WIDTH)) };
                    }
                    parts[part] = f(r, parts[part], vectors);
                }
            }
            if whole < self.n {
                for part in 0..count {
                    let at = whole + part * V::WIDTH;
                    if at < self.n {
                        let mut vectors = [V::zero(); N];
                        for k in 0..N {
                            vectors[k] = read(x[k], at);
                        }
                        let new = f(r, parts[part], vectors);
                        for k in 0..M {
                            parts[part][k] = V::select(self.masks[part], new[k], parts[part][k]);
                        }
                    }
                }
            }
            for part in 0..count {
                for k in 0..M {
                    all[k][r * count + part] = parts[part][k];
                }
            }
        }
        let mut totals = [init; M];
        for k in 0..M {
            let parts = &mut all[k];
            for half in [PARTS / 2, PARTS / 4, PARTS / 8, PARTS / 16] {
                for i in 0..half {
                    let (even, odd) = parts[2 * i].split_pairs(parts[2 * i + 1]);
                    parts[i] = combine(even, odd);
                }
            }
            totals[k] = parts[0];
        }
        totals
    }

    /// `(y, sums) = f(sums, x)` for each vector of a row, with which operands and `sums` start; `y[k]` is written from `places[k]` on.
    #[inline(always)]
    pub(crate) fn map<const M: usize, const K: usize, const N: usize>(
        &self,
        y: &mut [V::Element],
        places: [usize; M],
        sums: [&mut [V::Element]; K],
        x: [&[V::Element]; N],
        f: impl Fn([V; K], [V; N]) -> ([V; M], [V; K]),
    ) {
        let n = self.n;
        assert!(x.iter().all(|x| x.len() >= n), "operands hold the row");
        assert!(sums.iter().all(|sums| sums.len() >= n), "sums hold the row");
        assert!(places.iter().all(|&at| at <= y.len() && y.len() - at >= n), "results hold the row");
        let whole = n / V::WIDTH * V::WIDTH;
        let (mut old, mut vectors) = ([V::zero(); K], [V::zero(); N]);
        for at in (0..whole).step_by(V::WIDTH) {
            // SAFETY: `at + WIDTH <= n`, and there are `n` elements of each operand and result (checked above).
            unsafe {
                for k in 0..K {
                    old[k] = V::read(sums[k].as_ptr().add(at));
                }
                for k in 0..N {
                    vectors[k] = V::read(x[k].as_ptr().add(at));
                }
                let (results, new) = f(old, vectors);
                for k in 0..M {
                    results[k].write(y.as_mut_ptr().add(places[k] + at));
                }
                for k in 0..K {
                    new[k].write(sums[k].as_mut_ptr().add(at));
                }
            }
        }
        if whole < n {
            let mask = self.masks[whole % PARTS / V::WIDTH];
            for k in 0..K {
                old[k] = read(sums[k], whole);
            }
            for k in 0..N {
                vectors[k] = read(x[k], whole);
            }
            let (results, new) = f(old, vectors);
            for k in 0..M {
                write(y, places[k] + whole, mask, results[k]);
            }
            for k in 0..K {
                write(sums[k], whole, mask, new[k]);
            }
        }
    }
}

/// The vector at `at`; lanes beyond the end hold 0.
#[inline(always)]
pub(crate) fn read<V: Vector>(x: &[V::Element], at: usize) -> V {
    let x = &x[at..];
    if x.len() >= V::WIDTH {
        // SAFETY: there are `WIDTH` of them.
        return unsafe { V::read(x.as_ptr()) };
    }
    let mut lanes = [V::Element::zero(); LANES];
    lanes[..x.len()].copy_from_slice(x);
    // SAFETY: there are `LANES >= WIDTH` of them.
    unsafe { V::read(lanes.as_ptr()) }
}

/// Writes the lanes of the mask to `y` from `at` on, as far as it goes.
#[inline(always)]
fn write<V: Vector>(y: &mut [V::Element], at: usize, mask: V::Mask, value: V) {
    let value = V::select(mask, value, read(y, at));
    let y = &mut y[at..];
    if y.len() >= V::WIDTH {
        // SAFETY: there is room for `WIDTH` elements.
        return unsafe { value.write(y.as_mut_ptr()) };
    }
    let count = y.len();
    y.copy_from_slice(&lanes(value)[..count]);
}

/// The lanes of a vector, and zeros.
#[inline(always)]
pub(crate) fn lanes<V: Vector>(x: V) -> [V::Element; LANES] {
    let mut lanes = [V::Element::zero(); LANES];
    // SAFETY: there is room for `LANES >= WIDTH` elements.
    unsafe { x.write(lanes.as_mut_ptr()) };
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::isa;
    use crate::cpu::vectors::{VectorLoop, Vectorised};

    /// Sums and largest elements of rows, and the rows doubled, each beside the next.
    struct Both<'a> {
        n: usize,
        x: &'a [f32],
        y: &'a mut [f32],
    }

    impl VectorLoop<f32> for Both<'_> {
        type Output = Vec<(f32, f32)>;

        #[inline(always)]
        fn run<V: Vector<Element = f32>>(self) -> Vec<(f32, f32)> {
            let Both { n, x, y } = self;
            let (rows, size) = (ShortRows::<V>::new(n), n * V::WIDTH);
            let mut results = vec![];
            for (x, y) in x.chunks(size).zip(y.chunks_mut(size)) {
                let here = x.len() / n;
                let fold = |init: f32, f: fn(f32, f32) -> f32| {
                    let combine = |a: V, b: V| {
                        let (a, b) = (lanes(a), lanes(b));
                        let all: [f32; LANES] = std::array::from_fn(|i| f(a[i], b[i]));
                        read::<V>(&all, 0)
                    };
                    let [all] = rows.fold::<1, 1>(
                        here,
                        V::all(init),
                        |r| [&x[r * n..]],
                        |_, [a], [x]| [combine(a, x)],
                        combine,
                    );
                    lanes(all)
                };
                let (sums, tops) = (fold(0.0, |a, b| a + b), fold(f32::NEG_INFINITY, f32::max));
                results.extend((0..here).map(|r| (sums[r], tops[r])));
                for r in 0..here {
                    rows.map(y, [r * n], [], [&x[r * n..]], |[], [x]| ([x + x], []));
                }
            }
            results
        }
    }

    #[test]
    fn rows_of_every_length_end_where_they_end() {
        for n in 1..70 {
            let x: Vec<f32> = (0..37 * n).map(|i| ((i * 37 + 11) % 101) as f32 - 50.0).collect();
            let expected: Vec<(f32, f32)> = x
                .chunks(n)
                .map(|row| (row.iter().sum(), row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b))))
                .collect();
            for &level in isa::available() {
                let mut y = vec![0.0; x.len()];
                assert_eq!(f32::vectorised(level, Both { n, x: &x, y: &mut y }), expected, "{n} {level}");
                assert!(x.iter().zip(&y).all(|(x, y)| 2.0 * x == *y), "{n} {level}");
            }
        }
    }
}
