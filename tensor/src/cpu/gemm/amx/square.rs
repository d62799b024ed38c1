//! Squares of 32 x 32 sums, by themselves and in a larger matrix.

use super::BLOCK;
use bytemuck::Pod;

/// Rows that lie this many bytes apart, or a multiple of it, share the sets of the first-level cache; squares of such a matrix are copied.
const ALIAS: usize = 4096;

/// A square of sums by itself.
#[repr(align(64))]
pub(super) struct Square<S>(pub(super) [[S; BLOCK]; BLOCK]);

impl<S: Pod> Square<S> {
    pub(super) fn zero() -> Self {
        Square([[S::zeroed(); BLOCK]; BLOCK])
    }
}

/// Where the sums of a strip are; rows are contiguous.
pub(super) struct Sums<S> {
    pub(super) start: *mut S,
    pub(super) row: isize,
    pub(super) height: usize,
    pub(super) width: usize,
    /// From a square to the next, in rows and columns: 32, or 0 if all are in one place, one after the other.
    pub(super) step: usize,
}

impl<S: Pod> Sums<S> {
    /// The first element of a square.
    pub(super) fn at(&self, i: usize, j: usize) -> *mut S {
        self.start.wrapping_offset((i * self.step) as isize * self.row).wrapping_add(j * self.step)
    }

    /// Whether a kernel should write a square, or its upper half, here: it is whole, and its rows do not crowd the cache.
    pub(super) fn is_direct(&self, i: usize, j: usize, short: bool) -> bool {
        let lines = if short { BLOCK / 2 } else { BLOCK };
        i * BLOCK + lines <= self.height
            && (j + 1) * BLOCK <= self.width
            && !(self.row.unsigned_abs() * size_of::<S>()).is_multiple_of(ALIAS)
    }

    /// The rows of a square that exist, and their length.
    fn rows(&self, i: usize, j: usize) -> (impl Iterator<Item = *mut S> + use<S>, usize) {
        let (start, row) = (self.at(i, j), self.row);
        let rows =
            (0..BLOCK.min(self.height - i * BLOCK)).map(move |r| start.wrapping_offset(r as isize * row));
        (rows, BLOCK.min(self.width - j * BLOCK))
    }

    /// Copies a square; what does not exist is zero.
    ///
    /// # Safety
    /// The sums belong to the caller.
    pub(super) unsafe fn load(&self, i: usize, j: usize, square: &mut Square<S>) {
        *square = Square::zero();
        let (rows, len) = self.rows(i, j);
        for (row, to) in rows.zip(&mut square.0) {
            // SAFETY: the row and `len` elements of it exist, and are the caller's.
            to[..len].copy_from_slice(unsafe { std::slice::from_raw_parts(row, len) });
        }
    }

    /// Writes what exists of a square: `f(old, new)` for each element.
    ///
    /// # Safety
    /// The sums belong to the caller.
    pub(super) unsafe fn store(&self, i: usize, j: usize, square: &Square<S>, f: impl Fn(S, S) -> S) {
        let (rows, len) = self.rows(i, j);
        for (row, from) in rows.zip(&square.0) {
            // SAFETY: as in `load`.
            let row = unsafe { std::slice::from_raw_parts_mut(row, len) };
            for (x, value) in row.iter_mut().zip(from) {
                *x = f(*x, *value);
            }
        }
    }
}
