//! The windows of a pooling: along each dim, where each output position looks, and which rows of a plane that makes.

use crate::{Pool, Shape};
use std::ops::Range;

/// The windows along one dim.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// The size of the input.
    pub size: usize,
    /// The window of each output position.
    pub windows: Vec<Window>,
    /// How they follow each other, if they do so evenly.
    pub slide: Option<Slide>,
}

/// Windows that follow each other evenly: that of output `o` has elements `o · stride - padding + k · step` for `k < kernel`, as far as they
/// are inside the input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slide {
    pub kernel: usize,
    pub stride: usize,
    pub step: usize,
    pub padding: usize,
}

impl Slide {
    /// Whether windows are read by pairs of vectors: those of two or three elements that are two apart.
    pub(super) fn paired(&self) -> bool {
        self.stride == 2 && self.step == 1 && (2..=3).contains(&self.kernel)
    }
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

/// The windows along a dim that have all columns and follow each other evenly.
#[derive(Clone, Debug)]
pub(super) struct Even {
    /// Their outputs.
    pub outputs: Range<usize>,
    /// Elements of each.
    pub columns: usize,
    /// From one to the next.
    pub stride: usize,
}

impl Even {
    pub(super) fn new(windows: &[Window]) -> Even {
        let columns = windows.iter().map(|w| w.elements().len()).max().unwrap_or(0);
        let first = windows.iter().position(|w| w.elements().len() == columns).unwrap_or(0);
        let start = |o: usize| windows.get(o).map(|w| w.start);
        let stride = start(first + 1).zip(start(first)).map_or(1, |(b, a)| b.saturating_sub(a)).max(1);
        let follows = |&o: &usize| {
            start(o) == start(first).map(|s| s + (o - first) * stride)
                && windows[o].elements().len() == columns
        };
        let end = (first..windows.len()).take_while(follows).last().map_or(first, |o| o + 1);
        Even { outputs: first..end, columns, stride }
    }
}

/// For each row, others that it takes something from.
pub(super) struct Lists {
    all: Vec<usize>,
    /// Where each list ends.
    ends: Vec<usize>,
}

impl Lists {
    /// For every depth and every height those of some depths and some heights, of which there are `count`.
    pub(super) fn new<I: Iterator<Item = usize> + Clone>(depths: &[I], heights: &[I], count: usize) -> Lists {
        let (mut all, mut ends) = (vec![], Vec::with_capacity(depths.len() * heights.len()));
        for a in depths {
            for b in heights {
                all.extend(a.clone().flat_map(|i| b.clone().map(move |j| i * count + j)));
                ends.push(all.len());
            }
        }
        Lists { all, ends }
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// How many others all rows take from, each counted as often as it is taken from.
    pub(super) fn total(&self) -> usize {
        self.all.len()
    }

    /// What row `row` takes from, in rising order.
    #[inline(always)]
    pub(super) fn of(&self, row: usize) -> &[usize] {
        &self.all[if row == 0 { 0 } else { self.ends[row - 1] }..self.ends[row]]
    }

    /// All that some rows take from, and perhaps others between.
    pub(super) fn span(&self, rows: Range<usize>) -> Range<usize> {
        let of = rows.map(|row| self.of(row));
        let ends = of.filter_map(|list| Some((*list.first()?, list.last()? + 1)));
        ends.reduce(|all, (first, end)| (all.0.min(first), all.1.max(end))).map_or(0..0, |(a, b)| a..b)
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
            return Axis { size, windows: vec![Window { start: 0, end: 1, step: 1, count: 1 }], slide: None };
        };
        let (padding, step) = (pool.padding[p], pool.dilation[p]);
        let slide = Slide { kernel: pool.kernel[p], stride: pool.stride[p], step, padding };
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
        Axis { size, windows: (0..out[i]).map(window).collect(), slide: Some(slide) }
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
        let even = out[i] > 0 && size[i] > 0 && size[i].is_multiple_of(out[i]);
        let slide = even.then(|| {
            let kernel = size[i] / out[i];
            Slide { kernel, stride: kernel, step: 1, padding: 0 }
        });
        Axis { size: size[i], windows: (0..out[i]).map(window).collect(), slide }
    })
}
