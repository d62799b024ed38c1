//! [`Unit`]: the elements of a row that one vector holds.

use crate::cpu::simd::lanes::{Lanes, MAX_WIDTH};
use crate::cpu::simd::two::Two;
use std::ops::Range;

/// Some units of a row that fit a vector.
#[derive(Clone, Copy)]
pub(super) struct Unit {
    pub first: usize,
    pub count: usize,
}

/// What is done for units: vectors of any kind, as many units at a time as one has lanes.
pub(super) trait ForUnit {
    /// Does it.
    ///
    /// # Safety
    /// The instructions of the vectors exist; what else is needed, the implementation says.
    unsafe fn call<V: Lanes>(&self, unit: Unit);
}

/// Calls `f` for some units of a row: two vectors of them by turns, then one, then a partial one.
///
/// # Safety
/// As for `f`.
#[inline(always)]
pub(super) unsafe fn for_units<V: Lanes>(units: Range<usize>, f: &impl ForUnit) {
    let mut first = units.start;
    // SAFETY: the caller's promise.
    unsafe {
        while units.end - first >= 2 * V::WIDTH {
            f.call::<Two<V>>(Unit { first, count: 2 * V::WIDTH });
            first += 2 * V::WIDTH;
        }
        while first < units.end {
            let count = V::WIDTH.min(units.end - first);
            f.call::<V>(Unit { first, count });
            first += count;
        }
    }
}

impl Unit {
    /// The first elements of a slice, one for each of these units; zeros beside a partial vector.
    #[inline(always)]
    pub(super) fn load<V: Lanes>(self, units: &[f32]) -> V {
        let units = &units[..self.count];
        if self.count == V::WIDTH {
            // SAFETY: the slice has `WIDTH` elements.
            return unsafe { V::load(units.as_ptr()) };
        }
        let mut lanes = [0.0; MAX_WIDTH];
        lanes[..self.count].copy_from_slice(units);
        // SAFETY: the array has `MAX_WIDTH >= WIDTH` elements.
        unsafe { V::load(lanes.as_ptr()) }
    }

    /// Writes a slice with an element for each of these units.
    #[inline(always)]
    pub(super) fn store<V: Lanes>(self, value: V, units: &mut [f32]) {
        let units = &mut units[..self.count];
        if self.count == V::WIDTH {
            // SAFETY: the slice has `WIDTH` elements.
            return unsafe { value.store(units.as_mut_ptr()) };
        }
        let mut lanes = [0.0; MAX_WIDTH];
        // SAFETY: the array has `MAX_WIDTH >= WIDTH` elements.
        unsafe { value.store(lanes.as_mut_ptr()) };
        units.copy_from_slice(&lanes[..self.count]);
    }
}
