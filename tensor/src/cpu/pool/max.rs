//! The largest element of each window.
//!
//! Of equal elements the first in row-major order wins; NaN wins over everything. A window without a single element, as
//! dilation can make one, gives -∞ and index 0.
//!
//! Outputs whose windows follow each other evenly are computed side by side, without a branch on what is compared.

use super::windows::{Axis, Window, for_each_row};
use crate::Scalar;
use crate::cpu::isa::Isa;

/// Outputs that are computed together.
struct Block {
    /// The first.
    out: usize,
    /// How many: 8, 4 or 1.
    lanes: usize,
    /// From window to window.
    stride: usize,
}

/// How to pool the planes of one shape.
pub(super) struct MaxPool<'a> {
    axes: &'a [Axis; 3],
    blocks: Vec<Block>,
    isa: Isa,
}

impl<'a> MaxPool<'a> {
    pub(super) fn new(axes: &'a [Axis; 3], isa: Isa) -> Self {
        let windows = &axes[2].windows;
        let mut blocks = vec![];
        let mut out = 0;
        while out < windows.len() {
            let (lanes, stride) = [8, 4]
                .into_iter()
                .find_map(|n| Some((n, even(windows.get(out..out + n)?)?)))
                .unwrap_or((1, 1));
            blocks.push(Block { out, lanes, stride });
            out += lanes;
        }
        MaxPool { axes, blocks, isa }
    }

    /// Pools one plane.
    pub(super) fn plane<T: Scalar>(&self, x: &[T], y: &mut [T], index: &mut [i64]) {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2")]
        unsafe fn avx2<T: Scalar>(pool: &MaxPool, x: &[T], y: &mut [T], index: &mut [i64]) {
            pool.rows(x, y, index);
        }
        match self.isa {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a level is only ever one that the machine has.
            Isa::Avx2 | Isa::Avx512 | Isa::Amx => unsafe { avx2(self, x, y, index) },
            _ => self.rows(x, y, index),
        }
    }

    #[inline(always)]
    fn rows<T: Scalar>(&self, x: &[T], y: &mut [T], index: &mut [i64]) {
        let mut rows = vec![];
        let [_, h, w] = self.axes.each_ref().map(|axis| axis.size);
        for_each_row(self.axes, |out, a, b| {
            rows.clear();
            rows.extend(a.elements().flat_map(|i| b.elements().map(move |j| (i * h + j) * w)));
            for block in &self.blocks {
                let window = &self.axes[2].windows[block.out];
                let at = out.start + block.out;
                let (y, index) = (&mut y[at..][..block.lanes], &mut index[at..][..block.lanes]);
                match (block.lanes, block.stride) {
                    (8, 1) => together::<T, 8>(x, &rows, window, 1, y, index),
                    (8, 2) => together::<T, 8>(x, &rows, window, 2, y, index),
                    (8, stride) => together::<T, 8>(x, &rows, window, stride, y, index),
                    (4, stride) => together::<T, 4>(x, &rows, window, stride, y, index),
                    _ => together::<T, 1>(x, &rows, window, 1, y, index),
                }
            }
        });
    }
}

/// The distance of windows that have elements, as many each, and lie at equal distances.
fn even(windows: &[Window]) -> Option<usize> {
    let (first, stride) = (&windows[0], windows[1].start.checked_sub(windows[0].start)?);
    let len = |w: &Window| w.elements().len();
    let fits = |(i, w): (usize, &Window)| w.start == first.start + i * stride && len(w) == len(first);
    (stride > 0 && len(first) > 0 && windows.iter().enumerate().all(fits)).then_some(stride)
}

/// N outputs, over the rows that start at `rows`; `window` is the first one's.
#[inline(always)]
fn together<T: Scalar, const N: usize>(
    x: &[T],
    rows: &[usize],
    window: &Window,
    stride: usize,
    y: &mut [T],
    index: &mut [i64],
) {
    let (Some(&row), Some(k)) = (rows.first(), window.elements().next()) else {
        y.fill(T::from_f64(f64::NEG_INFINITY));
        return index.fill(0);
    };
    let (first, span) = (row + k, (N - 1) * stride + 1);
    let start = &x[first..][..span];
    let (mut best, mut at) = ([start[0]; N], [0u32; N]);
    for l in 0..N {
        best[l] = start[l * stride];
    }
    for &row in rows {
        for k in window.elements() {
            let x = &x[row + k..][..span];
            // From the window's first element: 32 bits make for twice as many lanes.
            let here = (row + k - first) as u32;
            for l in 0..N {
                let x = x[l * stride];
                // NaN, which is not <= anything, wins once.
                #[allow(clippy::neg_cmp_op_on_partial_ord, clippy::eq_op)]
                let wins = !(x <= best[l]) & (best[l] == best[l]);
                best[l] = if wins { x } else { best[l] };
                at[l] = if wins { here } else { at[l] };
            }
        }
    }
    y.copy_from_slice(&best);
    for (l, index) in index.iter_mut().enumerate() {
        *index = (first + l * stride) as i64 + i64::from(at[l]);
    }
}
