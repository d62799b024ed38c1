//! The result of an elementwise op, written by many tasks: stretch by stretch, each by one of them.

#[cfg(test)]
mod tests;

use crate::Scalar;
use crate::cpu::isa::Isa;
use crate::cpu::simd::stream;
use crate::cpu::threads::SharedMut;
use crate::cpu::walk::Run;
use std::ops::Range;

/// The elements of a result in memory order.
pub(crate) struct Results<'a, T> {
    all: SharedMut<'a, T>,
    /// The level by which they are written past the caches, if they are.
    stream: Option<Isa>,
}

/// What one task writes of a result.
pub(crate) struct Task<'a, T> {
    results: &'a Results<'a, T>,
    /// Where elements are computed that are written past the caches then.
    block: Option<[T; BLOCK]>,
}

/// The most elements that are computed at a time: as many as operands are gathered at a time.
const BLOCK: usize = crate::cpu::gather::BLOCK;

impl<'a, T: Scalar> Results<'a, T> {
    /// Elements to be changed: what is written may depend on what is there.
    pub(crate) fn new(all: &'a mut [T]) -> Results<'a, T> {
        Results { all: SharedMut::new(all), stream: None }
    }

    /// Elements without a value yet. So many that the caches do not keep them are written past these.
    pub(crate) fn fresh(isa: Isa, all: &'a mut [T]) -> Results<'a, T> {
        let stream = stream::worthwhile(isa, size_of_val(all)).then_some(isa);
        Results { all: SharedMut::new(all), stream }
    }

    /// Whether they are written past the caches.
    pub(crate) fn streams(&self) -> bool {
        self.stream.is_some()
    }

    /// A task's share, in which no other task writes.
    #[inline(always)]
    pub(crate) fn task(&self) -> Task<'_, T> {
        Task { results: self, block: self.stream.map(|_| [T::default(); BLOCK]) }
    }
}

impl<T: Scalar> Task<'_, T> {
    /// Calls `f` for all stretches of a run, of `size` elements at most: with where its operands are, and with the elements of
    /// operand 0, to be written.
    ///
    /// # Safety
    /// No other task writes the elements of the run.
    #[inline(always)]
    pub(crate) unsafe fn write<const N: usize>(
        &mut self,
        run: Run<N>,
        size: usize,
        mut f: impl FnMut([isize; N], &mut [T]),
    ) {
        let size = match self.block {
            // Blocks of whole periods stay so.
            Some(_) if size > BLOCK => stream::BLOCK,
            _ => size.max(1),
        };
        for start in (0..run.len).step_by(size) {
            let at: [isize; N] = std::array::from_fn(|k| run.at[k] + start as isize * run.step[k]);
            let len = size.min(run.len - start);
            // SAFETY: the caller's promise.
            let y = unsafe { self.results.all.slice(at[0] as usize..at[0] as usize + len) };
            match (&mut self.block, self.results.stream) {
                (Some(block), Some(isa)) => {
                    f(at, &mut block[..len]);
                    stream::put(isa, &block[..len], y);
                }
                _ => f(at, y),
            }
        }
    }

    /// As [`write`](Self::write), of consecutive elements: `f` gets the places of those that it is to write.
    ///
    /// # Safety
    /// No other task writes elements of `range`.
    #[inline(always)]
    pub(crate) unsafe fn write_blocks(
        &mut self,
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

impl<T> Drop for Task<'_, T> {
    fn drop(&mut self) {
        if self.block.is_some() {
            stream::finish();
        }
    }
}
