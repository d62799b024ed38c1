//! Where the gradient of each largest element goes: by its index in the plane, or by its code.

use super::max::{MaxPool, Way};
use crate::cpu::vectors::{Vector, VectorLoop};
use crate::cpu::wide::WideFloat;

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
    fn each(&self, plane: usize, mut f: impl FnMut(usize, usize)) {
        let codes = &self.codes[plane * self.size..][..self.size];
        // Where each code stands, from the start of its window: one for every byte, so that none is out of bounds.
        let mut places = [0; 256];
        for (out, rows) in self.pool.output_rows() {
            self.pool.places(rows, &mut places);
            let windows = &self.pool.axes[2].windows;
            for ((i, &code), window) in out.clone().zip(&codes[out]).zip(windows) {
                f(i, places[usize::from(code)] + window.start);
            }
        }
    }
}

/// The gradient of one plane whose windows have no element in common: each is written whole, zeros and all.
pub(super) struct Disjoint<'a, A> {
    pub pool: &'a MaxPool<'a>,
    pub codes: &'a [u8],
    pub grad: &'a [A],
    pub dx: &'a mut [A],
    /// Working memory.
    pub room: &'a mut Vec<A>,
}

impl<A: WideFloat> VectorLoop<A> for Disjoint<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) {
        let Disjoint { pool, codes, grad, dx, room } = self;
        let (windows, w) = (&pool.axes[2].windows, pool.axes[2].size);
        let Way::Pairs(first) = pool.way else { return };
        // Windows of three columns are not disjoint, so there are two.
        let even = if pool.even.len() >= V::WIDTH { pool.even.clone() } else { 0..0 };
        if even.is_empty() || !pool.covers() {
            dx.fill(A::zero());
        }
        room.resize(windows.len(), A::zero());
        for (out, rows) in pool.output_rows() {
            let (codes, grad) = (&codes[out.clone()], &grad[out]);
            for (wide, &code) in room.iter_mut().zip(codes) {
                *wide = A::from_f64(f64::from(code));
            }
            let mut done = even.start;
            while done < even.end {
                // The last vector overlaps the one before it, and writes the same once more.
                let at = done.min(even.end - V::WIDTH);
                let (g, code) = (&grad[at..at + V::WIDTH], &room[at..at + V::WIDTH]);
                // SAFETY: both have `WIDTH` elements.
                let (g, code) = unsafe { (V::read(g.as_ptr()), V::read(code.as_ptr())) };
                let mut here = V::zero();
                for row in rows {
                    let to = row * w + first + 2 * (at - even.start);
                    let left = V::select(code.eq(here), g, V::zero());
                    let right = V::select(code.eq(here + V::one()), g, V::zero());
                    let (low, high) = left.join_pairs(right);
                    let dx = &mut dx[to..to + 2 * V::WIDTH];
                    // SAFETY: there is room for `2 · WIDTH` elements.
                    unsafe {
                        low.write(dx.as_mut_ptr());
                        high.write(dx.as_mut_ptr().add(V::WIDTH));
                    }
                    here = here + V::splat(2.0);
                }
                done = at + V::WIDTH;
            }
            for o in (0..even.start).chain(even.end..windows.len()) {
                let code = usize::from(codes[o]);
                dx[rows[code / pool.columns] * w + windows[o].start + code % pool.columns] = grad[o];
            }
        }
    }
}
