//! The sizes that blocks come in: multiples of 64 bytes up to 512, then eight steps per octave.
//!
//! A request is rounded up by less than 64 bytes in the first range and by less than an eighth in the second.

use super::ALIGNMENT;

/// One of the block sizes, by its rank.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Class(u16);

/// The number of block sizes.
pub(super) const CLASSES: usize = 8 + 8 * (LARGEST.ilog2() - FIRST_OCTAVE) as usize;

/// The number of block sizes up to 1 MB: those that threads keep in lists of their own.
pub(super) const SMALL_CLASSES: usize = 8 + 8 * (20 - FIRST_OCTAVE) as usize;

/// The largest block: a power of two whose size in bytes an allocation may have.
const LARGEST: usize = 1 << (usize::BITS - 2);

/// The steps of octave `k`, which begins after 2ᵏ bytes, are 2ᵏ⁻³ bytes; the first has steps of one line.
const FIRST_OCTAVE: u32 = 9;

impl Class {
    /// The smallest class that holds `bytes` bytes, if there is one; `bytes` is not 0.
    pub(super) fn of(bytes: usize) -> Option<Class> {
        debug_assert!(bytes > 0);
        if bytes > LARGEST {
            return None;
        }
        let last = bytes - 1;
        if bytes <= 1 << FIRST_OCTAVE {
            return Some(Class((last / ALIGNMENT) as u16));
        }
        let octave = last.ilog2();
        let step = last >> (octave - 3); // 8..16
        Some(Class((octave - FIRST_OCTAVE) as u16 * 8 + step as u16))
    }

    /// The size in bytes of its blocks, a multiple of [`ALIGNMENT`].
    pub(super) fn capacity(self) -> usize {
        let rank = self.rank();
        if rank < 8 {
            return (rank + 1) * ALIGNMENT;
        }
        let octave = FIRST_OCTAVE as usize + (rank - 8) / 8;
        (rank % 8 + 9) << (octave - 3)
    }

    /// The place among the classes in ascending order, less than [`CLASSES`].
    pub(super) fn rank(self) -> usize {
        self.0.into()
    }

    /// The class with this rank.
    pub(super) fn with_rank(rank: usize) -> Class {
        debug_assert!(rank < CLASSES);
        Class(rank as u16)
    }

    /// Whether threads keep its blocks in lists of their own.
    pub(super) fn is_small(self) -> bool {
        self.rank() < SMALL_CLASSES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_is_the_smallest_that_holds_its_own_capacity() {
        for rank in 0..CLASSES {
            let capacity = Class::with_rank(rank).capacity();
            assert_eq!(Class::of(capacity), Some(Class::with_rank(rank)));
            assert!(capacity.is_multiple_of(ALIGNMENT));
            if rank + 1 < CLASSES {
                assert_eq!(Class::of(capacity + 1), Some(Class::with_rank(rank + 1)));
            }
        }
        assert_eq!(Class::with_rank(CLASSES - 1).capacity(), LARGEST);
    }

    #[test]
    fn rounding_up_wastes_less_than_a_line_or_an_eighth() {
        for bytes in (1..100_000).chain((100_000..1 << 30).step_by(99_991)) {
            let waste = Class::of(bytes).unwrap().capacity() - bytes;
            assert!(waste < ALIGNMENT.max(bytes / 8 + 1), "{bytes} bytes waste {waste}");
        }
    }

    #[test]
    fn the_small_classes_end_at_one_megabyte() {
        assert!(Class::of(1 << 20).unwrap().is_small());
        assert!(!Class::of((1 << 20) + 1).unwrap().is_small());
    }

    #[test]
    fn sizes_beyond_the_address_space_have_no_class() {
        assert_eq!(Class::of(LARGEST + 1), None);
        assert_eq!(Class::of(usize::MAX), None);
    }
}
