//! The result of an elementwise op, written by many tasks: stretch by stretch, each by one of them.

use crate::Scalar;
use crate::cpu::threads::SharedMut;
use crate::cpu::walk::Run;
use std::ops::Range;

/// The elements of a result in memory order.
pub(crate) struct Results<'a, T>(SharedMut<'a, T>);

impl<'a, T: Scalar> Results<'a, T> {
    pub(crate) fn new(all: &'a mut [T]) -> Results<'a, T> {
        Results(SharedMut::new(all))
    }

    /// Calls `f` for all stretches of a run, of `size` elements at most: with where its operands are, and with the elements of
    /// operand 0, to be written.
    ///
    /// # Safety
    /// No other task writes the elements of the run.
    #[inline(always)]
    pub(crate) unsafe fn write<const N: usize>(
        &self,
        run: Run<N>,
        size: usize,
        mut f: impl FnMut([isize; N], &mut [T]),
    ) {
        for start in (0..run.len).step_by(size.max(1)) {
            let at: [isize; N] = std::array::from_fn(|k| run.at[k] + start as isize * run.step[k]);
            let len = size.min(run.len - start);
            // SAFETY: the caller's promise.
            f(at, unsafe { self.0.slice(at[0] as usize..at[0] as usize + len) });
        }
    }

    /// As [`write`](Self::write), of consecutive elements: `f` gets the places of those that it is to write.
    ///
    /// # Safety
    /// No other task writes elements of `range`.
    pub(crate) unsafe fn write_blocks(
        &self,
        range: Range<usize>,
        size: usize,
        mut f: impl FnMut(Range<usize>, &mut [T]),
    ) {
        let run = Run { at: [range.start as isize], step: [1], len: range.len() };
        let f = |[at]: [isize; 1], y: &mut [T]| f(at as usize..at as usize + y.len(), y);
        // SAFETY: the caller's promise.
        unsafe { self.write(run, size, f) }
    }
}
