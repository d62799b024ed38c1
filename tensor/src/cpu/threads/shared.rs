//! One mutable slice shared by the tasks of a region, each writing its own part.

use super::parallel_for;
use std::marker::PhantomData;
use std::ops::Range;

/// Runs `f(i, chunk)` for each `chunk` elements of `data`, in parallel; the last chunk may be shorter.
///
/// Nothing runs when `data` is empty.
///
/// # Panics
/// If `chunk` is 0.
pub fn parallel_chunks_mut<T: Send>(data: &mut [T], chunk: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    assert!(chunk > 0, "parallel_chunks_mut: a chunk has at least one element");
    let len = data.len();
    let data = SharedMut::new(data);
    parallel_for(len.div_ceil(chunk), |i| {
        let start = i * chunk;
        // SAFETY: chunks of different indices are disjoint, and `parallel_for` runs each index once.
        f(i, unsafe { data.slice(start..len.min(start.saturating_add(chunk))) });
    });
}

/// A mutable slice that tasks of one region write at once, each in places of its own.
///
/// For tiles of a matrix and other parts that are not consecutive; for consecutive ones take [`parallel_chunks_mut`].
pub struct SharedMut<'a, T> {
    data: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: a `SharedMut` hands out access to `T`s on whichever thread uses it, which is what `T: Send` allows; that no two
// threads reach the same element is the contract of its unsafe methods.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}
// SAFETY: as a `&mut [T]`, which is `Send` when `T` is.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    /// Shares `data`, which stays borrowed as long as the result.
    pub fn new(data: &'a mut [T]) -> SharedMut<'a, T> {
        SharedMut { data: data.as_mut_ptr(), len: data.len(), borrow: PhantomData }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements in `range`.
    ///
    /// # Panics
    /// If `range` does not lie in the slice.
    ///
    /// # Safety
    /// While the result lives, no element of `range` is reached in another way.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "SharedMut: {range:?} of {}", self.len);
        // SAFETY: the range lies in the slice (checked above), and the caller has it alone.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(range.start), range.len()) }
    }

    /// The address of the first element, for kernels that address tiles by strides.
    ///
    /// Whoever writes through it keeps inside the slice and to elements that no other task reaches.
    pub fn as_mut_ptr(&self) -> *mut T {
        self.data
    }
}
