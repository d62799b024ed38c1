//! The windows of a pooling: along each dim, where each output position looks.

use crate::{Pool, Shape};
use std::ops::Range;

/// The windows along one dim.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// The size of the input.
    pub size: usize,
    /// The window of each output position.
    pub windows: Vec<Window>,
}

/// Elements `start, start + step, …` below `end`, clipped to the input.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// The first element inside the input.
    pub start: usize,
    /// Past the last.
    pub end: usize,
    /// From one element to the next.
    pub step: usize,
    /// What an average divides by.
    pub count: usize,
}

impl Window {
    /// The elements.
    pub(super) fn elements(&self) -> impl ExactSizeIterator<Item = usize> + Clone {
        (self.start..self.end).step_by(self.step)
    }

    /// The elements of a window without steps.
    pub(super) fn range(&self) -> Range<usize> {
        self.start..self.end.max(self.start)
    }
}

/// Extents of the planes of `[n, c, spatial…]`, padded to three.
pub(super) fn plane(shape: Shape) -> [usize; 3] {
    let missing = 5 - shape.rank();
    std::array::from_fn(|i| i.checked_sub(missing).map_or(1, |i| shape.dims()[i + 2]))
}

/// Sliding windows along each dim.
pub(super) fn sliding(x: Shape, y: Shape, pool: &Pool) -> [Axis; 3] {
    let (missing, out) = (5 - x.rank(), plane(y));
    std::array::from_fn(|i| {
        let size = plane(x)[i];
        let Some(p) = i.checked_sub(missing) else {
            return Axis { size, windows: vec![Window { start: 0, end: 1, step: 1, count: 1 }] };
        };
        let (padding, step) = (pool.padding[p], pool.dilation[p]);
        let window = |o: usize| {
            let first = o * pool.stride[p];
            let reach = first + (pool.kernel[p] - 1) * step + 1;
            let skipped = padding.saturating_sub(first).div_ceil(step);
            let start = (first + skipped * step).saturating_sub(padding);
            let end = reach.saturating_sub(padding).min(size);
            let count = match (pool.divisor_override, pool.count_include_pad) {
                // The divisors of the dims are multiplied: one of them is the given one.
                (Some(divisor), _) => {
                    if i == 2 {
                        divisor
                    } else {
                        1
                    }
                }
                (None, true) => reach.min(size + 2 * padding) - first,
                (None, false) => end.saturating_sub(start),
            };
            Window { start, end, step, count }
        };
        Axis { size, windows: (0..out[i]).map(window).collect() }
    })
}

/// Windows that divide each dim into nearly equal parts.
pub(super) fn adaptive(x: Shape, y: Shape) -> [Axis; 3] {
    let (size, out) = (plane(x), plane(y));
    std::array::from_fn(|i| {
        let window = |o: usize| {
            let (start, end) = (o * size[i] / out[i], ((o + 1) * size[i]).div_ceil(out[i]));
            Window { start, end, step: 1, count: end - start }
        };
        Axis { size: size[i], windows: (0..out[i]).map(window).collect() }
    })
}

/// Calls `f(output, rows)` for every row of outputs of a plane: the outputs' indices, the windows above and across it.
#[inline(always)]
pub(super) fn for_each_row(axes: &[Axis; 3], mut f: impl FnMut(Range<usize>, &Window, &Window)) {
    let width = axes[2].windows.len();
    let mut start = 0;
    for a in &axes[0].windows {
        for b in &axes[1].windows {
            f(start..start + width, a, b);
            start += width;
        }
    }
}
