//! Walking several strided operands together: dims that lie together are merged, the innermost run is handed out whole.

use crate::cpu::threads::parallel_for;
use crate::shape::MAX_RANK;
use crate::{Layout, Shape};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Elements per task: small enough to balance, large enough to pay for the handing out.
pub(crate) const GRAIN: usize = 16 * 1024;

/// `N` operands of one shape, in the memory order of the first.
#[derive(Clone, Debug)]
pub(crate) struct Walk<const N: usize> {
    dims: [usize; MAX_RANK],
    strides: [[isize; N]; MAX_RANK],
    offsets: [isize; N],
    rank: usize,
    numel: usize,
}

/// Consecutive elements: where each operand starts, and how far apart its elements are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<const N: usize> {
    pub(crate) at: [isize; N],
    pub(crate) step: [isize; N],
    pub(crate) len: usize,
}

impl<const N: usize> Walk<N> {
    /// The walk over operands of equal shapes.
    pub(crate) fn new(layouts: [&Layout; N]) -> Walk<N> {
        let shape = layouts[0].shape();
        debug_assert!(layouts.iter().all(|l| l.shape() == shape));
        if layouts.iter().all(|l| l.is_contiguous()) {
            return Walk::flat(shape.numel(), layouts.map(|l| l.offset() as isize));
        }
        Walk::over(shape, layouts.map(|l| l.offset() as isize), |d| layouts.map(|l| l.strides()[d]))
    }

    /// The walk over `numel` consecutive elements of every operand.
    fn flat(numel: usize, offsets: [isize; N]) -> Walk<N> {
        let mut walk = Walk { dims: [1; MAX_RANK], strides: [[0; N]; MAX_RANK], offsets, rank: 1, numel };
        (walk.dims[0], walk.strides[0]) = (numel, [1; N]);
        walk
    }

    /// The walk over a shape with the strides of each dim given.
    pub(crate) fn over(shape: Shape, offsets: [isize; N], strides: impl Fn(usize) -> [isize; N]) -> Walk<N> {
        let mut order: [usize; MAX_RANK] = std::array::from_fn(|i| i);
        let mut count = 0;
        for d in 0..shape.rank() {
            if shape.dims()[d] != 1 {
                order[count] = d;
                count += 1;
            }
        }
        let order = &mut order[..count];
        // Outermost first: by the stride of the first operand, ties in the order of the shape.
        order.sort_by_key(|&d| std::cmp::Reverse(strides(d)[0].unsigned_abs()));
        let mut walk =
            Walk { dims: [1; MAX_RANK], strides: [[0; N]; MAX_RANK], offsets, rank: 0, numel: shape.numel() };
        for &d in order.iter() {
            let (n, s) = (shape.dims()[d], strides(d));
            let outer = walk.rank.wrapping_sub(1);
            let merges =
                walk.rank > 0 && (0..N).all(|k| walk.strides[outer][k] == s[k].wrapping_mul(n as isize));
            if merges {
                walk.dims[outer] *= n;
                walk.strides[outer] = s;
            } else {
                walk.dims[walk.rank] = n;
                walk.strides[walk.rank] = s;
                walk.rank += 1;
            }
        }
        walk
    }

    /// How many elements there are.
    pub(crate) fn numel(&self) -> usize {
        self.numel
    }

    /// Panics unless every element of each operand lies inside a slice of this length: the layouts of a tensor do.
    pub(crate) fn check_inside(&self, lens: [usize; N]) {
        for k in (0..N).filter(|_| self.numel > 0) {
            let reach = |sign: isize| -> isize {
                (0..self.rank).map(|d| (self.strides[d][k] * sign).max(0) * (self.dims[d] as isize - 1)).sum()
            };
            let (low, high) = (self.offsets[k] - reach(-1), self.offsets[k] + reach(1));
            assert!(
                low >= 0 && (high as usize) < lens[k],
                "operand {k} of a walk reaches {low}..={high} of {}",
                lens[k]
            );
        }
    }

    /// Hands out elements `start..end` of the walk as runs.
    pub(crate) fn runs(&self, start: usize, end: usize, mut f: impl FnMut(Run<N>)) {
        if start >= end {
            return;
        }
        let Some(last) = self.rank.checked_sub(1) else {
            return f(Run { at: self.offsets, step: [0; N], len: 1 });
        };
        let step = self.strides[last];
        let mut index = [0usize; MAX_RANK];
        let mut rest = start;
        for d in (0..self.rank).rev() {
            index[d] = rest % self.dims[d];
            rest /= self.dims[d];
        }
        let mut at = self.offsets;
        for (i, strides) in index.iter().zip(&self.strides).take(self.rank) {
            for k in 0..N {
                at[k] += *i as isize * strides[k];
            }
        }
        let mut left = end - start;
        loop {
            let len = (self.dims[last] - index[last]).min(left);
            f(Run { at, step, len });
            left -= len;
            if left == 0 {
                return;
            }
            // To the start of the next innermost row: carry outwards.
            for k in 0..N {
                at[k] -= index[last] as isize * step[k];
            }
            index[last] = 0;
            let mut d = last;
            while d > 0 {
                d -= 1;
                index[d] += 1;
                for k in 0..N {
                    at[k] += self.strides[d][k];
                }
                if index[d] < self.dims[d] {
                    break;
                }
                for k in 0..N {
                    at[k] -= self.dims[d] as isize * self.strides[d][k];
                }
                index[d] = 0;
            }
        }
    }

    /// Elements of an innermost run.
    pub(crate) fn run_len(&self) -> usize {
        self.rank.checked_sub(1).map_or(1, |last| self.dims[last])
    }

    /// Calls `f` with the stretches of `GRAIN` elements in memory order, on all threads.
    pub(crate) fn parallel_grains(&self, f: impl Fn(Range<usize>) + Sync) {
        parallel_for(
            self.numel.div_ceil(GRAIN),
            |task| f(task * GRAIN..((task + 1) * GRAIN).min(self.numel)),
        );
    }

    /// Hands out all elements as runs, on all threads: which elements share a task depends on the shape alone.
    pub(crate) fn parallel_runs(&self, f: impl Fn(Run<N>) + Sync) {
        self.parallel_grains(|grain| self.runs(grain.start, grain.end, &f));
    }
}

impl Walk<2> {
    /// The only step of operand 1, if it has one for all elements.
    pub(crate) fn only_step(&self) -> Option<isize> {
        match self.rank {
            0 => Some(0),
            1 => Some(self.strides[0][1]),
            _ => None,
        }
    }

    /// Where operand 1 is for the first element.
    pub(crate) fn start(&self) -> isize {
        self.offsets[1]
    }

    /// After how many elements those of operand 1 repeat, if all but the innermost dim do nothing but that.
    pub(crate) fn period(&self) -> Option<usize> {
        let last = self.rank.checked_sub(1)?;
        (last > 0 && self.strides[..last].iter().all(|s| s[1] == 0)).then_some(self.dims[last])
    }

    /// Copies the elements of operand 1 from element `start` on: short runs, with as little as possible to do for each.
    ///
    /// # Safety
    /// The walk, of at least one dim and `start + to.len()` elements, lies inside what `from` points to.
    pub(crate) unsafe fn gather<T: Copy>(&self, from: *const T, start: usize, to: &mut [MaybeUninit<T>]) {
        let last = self.rank - 1;
        let (n, step) = (self.dims[last], self.strides[last][1]);
        let (rows, row_step) = match last.checked_sub(1) {
            Some(d) => (self.dims[d], self.strides[d][1]),
            None => (1, 0),
        };
        let (mut row, mut skipped, mut done) = (start / n, start % n, 0);
        while done < to.len() {
            // Where the plane of the row begins.
            let (mut at, mut rest) = (self.offsets[1], row / rows);
            for d in (0..last.saturating_sub(1)).rev() {
                at += (rest % self.dims[d]) as isize * self.strides[d][1];
                rest /= self.dims[d];
            }
            for r in row % rows..rows {
                let to = &mut to[done..];
                let count = (n - skipped).min(to.len());
                // SAFETY: these are elements of the walk, which the caller vouches for.
                unsafe {
                    let from = from.offset(at + r as isize * row_step + skipped as isize * step);
                    let each = to[..count].iter_mut();
                    match step {
                        1 => each.enumerate().for_each(|(i, to)| _ = to.write(*from.add(i))),
                        0 => each.for_each(|to| _ = to.write(*from)),
                        _ => {
                            each.enumerate().for_each(|(i, to)| _ = to.write(*from.offset(i as isize * step)))
                        }
                    }
                }
                (done, skipped, row) = (done + count, 0, row + 1);
                if count == to.len() {
                    break;
                }
            }
        }
    }
}

/// A plane whose rows are consecutive in the source and whose columns are consecutive in the target of a walk.
pub(crate) struct Crossing {
    /// The walk over the planes: where each starts.
    pub(crate) outer: Walk<2>,
    /// Rows of the source.
    pub(crate) rows: usize,
    /// Columns of the source.
    pub(crate) columns: usize,
    /// From a row of the source to the next.
    pub(crate) from_row: isize,
    /// From a column in the target to the next.
    pub(crate) to_column: isize,
}

impl Walk<2> {
    /// The plane of the innermost dim of operand 0, the target, and that of operand 1, where they are two.
    pub(crate) fn crossing(&self) -> Option<Crossing> {
        let last = self.rank.checked_sub(1)?;
        let across = (0..last).rev().find(|&d| self.strides[d][1] == 1)?;
        if self.numel == 0
            || self.strides[last][0] != 1
            || self.strides[last][1] == 0
            || self.dims[across] < 4
        {
            return None;
        }
        let mut outer = self.clone();
        // Both dims stay, with one element.
        for d in [across, last] {
            outer.numel /= outer.dims[d].max(1);
            outer.dims[d] = 1;
        }
        Some(Crossing {
            outer,
            rows: self.dims[last],
            columns: self.dims[across],
            from_row: self.strides[last][1],
            to_column: self.strides[across][0],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_visit_what_positions_visit() {
        let base = Layout::contiguous(Shape::from([3, 4, 5]));
        let views = [
            base,
            base.transpose(0, 2),
            base.slice(1, 1, 2, 2),
            base.flip(0).flip(2),
            base.slice(0, 2, 1, 1),
            base.slice(2, 0, 0, 1),
        ];
        for view in views {
            let flat = Layout::contiguous(view.shape());
            let walk = Walk::new([&flat, &view]);
            let mut seen = vec![];
            let n = view.shape().numel();
            for (start, end) in [(0, n / 3), (n / 3, n)] {
                walk.runs(start, end, |run| {
                    for i in 0..run.len as isize {
                        seen.push((
                            (run.at[0] + i * run.step[0]) as usize,
                            (run.at[1] + i * run.step[1]) as usize,
                        ));
                    }
                });
            }
            let expected: Vec<_> = flat.positions().zip(view.positions()).collect();
            assert_eq!(seen, expected, "{view:?}");
            let memory: Vec<usize> = (0..60).collect();
            for start in (0..n).filter(|_| walk.only_step().is_none()) {
                let mut to = vec![std::mem::MaybeUninit::uninit(); (n - start).min(17)];
                // SAFETY: the view lies in the memory of its base, which has 60 elements.
                unsafe { walk.gather(memory.as_ptr(), start, &mut to) };
                for (to, (_, at)) in to.iter().zip(&expected[start..]) {
                    // SAFETY: all of them were written.
                    assert_eq!(unsafe { to.assume_init() }, *at, "{view:?} from {start}");
                }
            }
        }
    }

    #[test]
    fn a_permuted_dense_pair_is_one_run() {
        let base = Layout::contiguous(Shape::from([2, 3, 4])).transpose(0, 2);
        let mut count = 0;
        Walk::new([&base, &base]).runs(0, 24, |run| count += run.len / 24);
        assert_eq!(count, 1);
    }
}
