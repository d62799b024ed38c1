//! How a product is cut into blocks. Everything here is a function of the shape alone: no result, and not even the cut,
//! depends on the number of threads.

use std::ops::Range;

/// The blocks of k. Their bounds fix the order of every sum.
#[derive(Clone, Copy, Debug)]
pub(super) struct KBlocks {
    steps: usize,
    depth: usize,
}

/// Cuts `steps` into blocks of nearly equal depth, at most `most`. No steps are one empty block.
pub(super) fn k_blocks(steps: usize, most: usize) -> KBlocks {
    let depth = if steps <= most {
        steps
    } else {
        steps.div_ceil(steps.div_ceil(most)).next_multiple_of(4).min(most)
    };
    KBlocks { steps, depth }
}

impl KBlocks {
    /// How many blocks there are; at least one.
    pub(super) fn count(&self) -> usize {
        if self.depth == 0 { 1 } else { self.steps.div_ceil(self.depth) }
    }

    /// The depth of all but the last.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// The steps of a block.
    pub(super) fn get(&self, i: usize) -> Range<usize> {
        i * self.depth..self.steps.min((i + 1) * self.depth)
    }
}

/// Cuts `m` rows into tiles of `mr`, where they need not be whole panels. What is left over at the end shares the rows of the last
/// tile if it has few: a tile of one or two rows has too few sums to keep the multipliers busy.
pub(super) fn tiles(m: usize, mr: usize) -> impl Iterator<Item = Range<usize>> {
    let rest = m % mr;
    let shared = m > mr && rest > 0 && rest <= mr / 2;
    let mut start = 0;
    std::iter::from_fn(move || {
        let left = m - start;
        let height = if shared && left == mr + rest { left.div_ceil(2) } else { left.min(mr) };
        let tile = start..start + height;
        start += height;
        (height > 0).then_some(tile)
    })
}

/// Which dimension of C is cut into strips, one task each. The operand on the other side is packed once and shared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Split {
    /// Strips of rows: each task packs its rows of A, and all read one packed B.
    Rows,
    /// Strips of columns: each task packs its columns of B, and all read one packed A.
    Cols,
}

/// The longer side is cut, so that the shorter operand is the one that is held.
pub(super) fn split(m: usize, n: usize) -> Split {
    if m >= n { Split::Rows } else { Split::Cols }
}

/// Products per task that are worth a hand-over to another thread: about 10 us.
const TASK: usize = 1 << 19;

/// Tasks that suffice to keep a machine evenly busy.
const TASKS: usize = 32;

/// The most values of a strip: half of a second-level cache of 1 MiB, in `f32`.
const STRIP: usize = 96 * 1024;

/// The length of the strips that `len` lines are cut into, a multiple of `width`.
///
/// `other` is the length of the other side and `depth` that of a block of k. Strips of columns are the wider, since each
/// step of B is usually a contiguous run as long as the strip.
pub(super) fn strip(
    split: Split,
    len: usize,
    other: usize,
    steps: usize,
    depth: usize,
    width: usize,
) -> usize {
    let products = len.saturating_mul(other).saturating_mul(steps);
    let wanted = (products / TASK).clamp(1, TASKS);
    let most = (STRIP / depth.max(1) / width).max(1).min(256_usize.div_ceil(width)) * width;
    let least = match split {
        Split::Rows => 24_usize,
        Split::Cols => 64,
    };
    let least = least.next_multiple_of(width).min(most);
    let strip = len.div_ceil(wanted).next_multiple_of(width).clamp(least, most);
    // Strips of equal length, rather than a short one at the end.
    len.div_ceil(len.div_ceil(strip)).next_multiple_of(width)
}

/// The most values of the shared operand that are packed at a time: 16 MiB in `f32`.
const HELD: usize = 4 << 20;

/// The most lines of the shared operand that are packed at a time, a multiple of `width`.
pub(super) fn held(steps: usize, width: usize) -> usize {
    (HELD / steps.max(1) / width).clamp(1, 1 << 16) * width
}

/// Rows of A whose block stays in the second-level cache while the columns pass.
pub(super) fn row_block(depth: usize, mr: usize) -> usize {
    (48 * 1024 / depth.max(1) / mr).max(4) * mr
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_the_rows_in_order_and_none_is_low_beside_another() {
        for mr in [4, 6, 8] {
            for m in 0..60 {
                let tiles: Vec<_> = tiles(m, mr).collect();
                assert_eq!(tiles.iter().cloned().flatten().collect::<Vec<_>>(), (0..m).collect::<Vec<_>>());
                assert!(tiles.iter().all(|tile| (1..=mr).contains(&tile.len())));
                assert!(
                    m <= mr || tiles.iter().all(|tile| tile.len() >= mr / 2),
                    "{m} rows in tiles of {mr}"
                );
            }
        }
    }
}
