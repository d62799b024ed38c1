//! Operands of an elementwise kernel whose runs are short: read in blocks, in the order of the result.
//!
//! A kernel costs as much to call as some hundred elements cost to compute. Where an operand is broadcast along the
//! innermost dims, or a slice of few columns, several of its runs are put together first.

use crate::cpu::map::Operand;
use crate::cpu::storage::memory;
use crate::cpu::walk::Walk;
use crate::{Layout, Scalar, Tensor};
use std::mem::MaybeUninit;
use std::ops::Range;

/// The most elements read at a time: a few blocks of as many fit into the first-level cache.
pub(crate) const BLOCK: usize = 512;

/// An operand, and how to go through it.
pub(crate) struct Gather<'a, T> {
    memory: &'a [T],
    walk: Walk<2>,
}

/// Where a block is put together, and what it holds: it need not be done again for an operand that repeats.
pub(crate) struct Room<T> {
    block: [MaybeUninit<T>; BLOCK],
    /// The place in its period that the first element has, and how many there are.
    holds: Option<(usize, usize)>,
}

impl<T> Room<T> {
    pub(crate) fn new() -> Room<T> {
        Room { block: [const { MaybeUninit::uninit() }; BLOCK], holds: None }
    }
}

impl<'a, T: Scalar> Gather<'a, T> {
    /// The elements of `x` in the order that `layout`, which is dense and of its shape, has in memory.
    pub(crate) fn new(layout: &Layout, x: &'a Tensor) -> Gather<'a, T> {
        let (walk, memory) = (Walk::new([layout, x.layout()]), memory::<T>(x));
        walk.check_inside([layout.bounds().map_or(0, |(_, high)| high + 1), memory.len()]);
        Gather { memory, walk }
    }

    /// After how many elements they repeat, if they do within a block.
    pub(crate) fn period(&self) -> Option<usize> {
        self.walk.period().filter(|&n| n <= BLOCK)
    }

    /// The elements in `range`, of which there are no more than fit into a block.
    pub(crate) fn read<'b>(&'b self, range: Range<usize>, room: &'b mut Room<T>) -> Operand<'b, T> {
        let (at, len) = (self.walk.start(), range.len());
        match self.walk.only_step() {
            Some(1) => return Operand::Slice(&self.memory[at as usize + range.start..][..len]),
            Some(0) => return Operand::Scalar(self.memory[at as usize]),
            _ => {}
        }
        let wanted = self.period().map(|period| (range.start % period, len));
        let there =
            matches!((room.holds, wanted), (Some((a, has)), Some((b, wants))) if a == b && wants <= has);
        if !there {
            // SAFETY: the walk lies inside the memory (checked when it was made) and has more than one dim or another step.
            unsafe { self.walk.gather(self.memory.as_ptr(), range.start, &mut room.block[..len]) };
            room.holds = wanted;
        }
        // SAFETY: as many elements were written, just now or before.
        Operand::Slice(unsafe { std::slice::from_raw_parts(room.block.as_ptr().cast(), len) })
    }
}

/// How many elements to read at a time: whole periods, so that every block begins at the same place of them.
pub(crate) fn block_size<const N: usize>(periods: [Option<usize>; N]) -> usize {
    let period = periods.into_iter().flatten().find(|&n| n > 0);
    period.map_or(BLOCK, |n| BLOCK - BLOCK % n)
}
