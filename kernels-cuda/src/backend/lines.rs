//! Lines of elements along a dim, and how many threads work on one: `Group` of `cuda/group.h`.

use tensor::{Error, Result};

use crate::module::Launch;

/// Threads of a block of a kernel over lines: `GROUP_BLOCK` of `cuda/group.h`.
pub(super) const BLOCK: u32 = 256;

/// How many threads work on a line: 1, 32 or [`BLOCK`], as the logarithm. Chosen by the shape alone, so that a result depends on
/// nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) log: u32,
}

impl Group {
    const ONE: Group = Group { log: 0 };
    pub(super) const WARP: Group = Group { log: 5 };
    const WHOLE: Group = Group { log: 8 };

    /// For lines of `n` elements. `inner` of them lie side by side: neighbouring threads then read neighbouring elements if each has
    /// a line of its own.
    pub(super) fn of(lines: usize, n: usize, inner: usize) -> Group {
        match n {
            _ if n <= 8 || (inner >= 32 && lines >= 4096) => Group::ONE,
            _ if n <= 1024 => Group::WARP,
            _ => Group::WHOLE,
        }
    }

    /// A group for each line.
    pub(super) fn launch(self, lines: usize) -> Launch {
        let threads = match self.log {
            0 => (lines.clamp(1, BLOCK as usize) as u32).next_multiple_of(32),
            5 => 128,
            _ => BLOCK,
        };
        Launch::new(((lines as u64) << self.log).div_ceil(u64::from(threads)) as u32, threads)
    }
}

/// An error if one of these numbers of elements or threads is more than a kernel counts.
pub(super) fn countable(op: &'static str, counts: &[usize]) -> Result<()> {
    match counts.iter().max() {
        Some(&most) if most >= 1 << 31 => Err(Error::argument(
            op,
            format!("{most} elements in one operand; on CUDA devices this op takes fewer than 2147483648"),
        )),
        _ => Ok(()),
    }
}

/// Blocks along y, and along z, of a grid.
const MOST_ROWS: usize = 1 << 15;

/// Extents along y and z whose product is `n`, if there are: for kernels with a block, or a few, for each of `n` matrices.
pub(super) fn grid(n: usize) -> Option<(u32, u32)> {
    let layers = (n.div_ceil(MOST_ROWS)..=MOST_ROWS.min(n)).find(|layers| n.is_multiple_of(*layers))?;
    let rows = n / layers;
    (rows <= MOST_ROWS).then_some((rows as u32, layers as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_are_spread_over_a_grid() {
        assert_eq!(grid(1), Some((1, 1)));
        assert_eq!(grid(1 << 15), Some((1 << 15, 1)));
        assert_eq!(grid(3 << 15), Some((1 << 15, 3)));
        assert_eq!(grid((1 << 16) + 1), None);
    }

    #[test]
    fn groups_cover_all_lines() {
        assert_eq!(Group::of(10, 5, 1), Group::ONE);
        assert_eq!(Group::of(10, 500, 1), Group::WARP);
        assert_eq!(Group::of(10, 5000, 1), Group::WHOLE);
        assert_eq!(Group::of(5000, 5000, 64), Group::ONE);
        assert_eq!(Group::ONE.launch(1), Launch::new(1, 32));
        assert_eq!(Group::ONE.launch(1000), Launch::new(4, 256));
        assert_eq!(Group::WARP.launch(5), Launch::new(2, 128));
        assert_eq!(Group::WHOLE.launch(7), Launch::new(7, 256));
    }

    #[test]
    fn what_no_kernel_counts_is_an_error() {
        assert!(countable("sum", &[5, (1 << 31) - 1]).is_ok());
        assert!(countable("sum", &[1 << 31, 5]).is_err());
    }
}
