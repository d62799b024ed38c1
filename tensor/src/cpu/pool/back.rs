//! Where the gradient of each largest element goes, by its code.

use super::max::MaxPool;
use crate::cpu::vectors::{Vector, VectorLoop};
use crate::cpu::wide::WideFloat;

/// Calls `f(output, index)` with the place in the plane that each output's code stands for.
#[inline(always)]
pub(super) fn each(pool: &MaxPool, codes: &[u8], mut f: impl FnMut(usize, usize)) {
    // Where each code stands, from the start of its window: one for every byte, so that none is out of bounds.
    let mut places = [0; 256];
    for (out, rows) in pool.output_rows() {
        pool.places(rows, &mut places);
        for ((i, &code), &start) in out.clone().zip(&codes[out]).zip(&pool.starts) {
            f(i, places[usize::from(code)].wrapping_add(start));
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
        let (outputs, w) = (pool.starts.len(), pool.axes[2].size);
        let Some(slide) = pool.paired() else { return };
        // Both columns of these are inside the input.
        let inside = slide.padding.div_ceil(2)..outputs.min((w + slide.padding) / 2);
        let even = if inside.len() >= V::WIDTH { inside } else { 0..0 };
        if pool.sources.total() * 2 * even.len() < dx.len() {
            dx.fill(A::zero());
        }
        room.resize(outputs, A::zero());
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
                    let to = row * w + pool.starts[at];
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
            for o in (0..even.start).chain(even.end..outputs) {
                let code = usize::from(codes[o]);
                dx[(rows[code / 2] * w + code % 2).wrapping_add(pool.starts[o])] = grad[o];
            }
        }
    }
}
