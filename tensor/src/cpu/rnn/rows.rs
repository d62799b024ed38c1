//! [`RowsMut`]: rows of which several threads write different parts, and asking for them ahead of time.

use crate::cpu::gemm::{MatMut, MatRef};
use std::marker::PhantomData;
use std::ops::Range;

/// Rows of equal length that several threads write, each its own parts.
pub(super) struct RowsMut<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    stride: usize,
    data: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is an exclusive borrow of the slice; its methods leave it to the caller that threads take different parts.
unsafe impl Sync for RowsMut<'_> {}

impl<'a> RowsMut<'a> {
    /// Rows of `width` elements, `stride` apart.
    pub(super) fn new(data: &'a mut [f32], rows: usize, width: usize, stride: usize) -> Self {
        let needed = if rows == 0 { 0 } else { (rows - 1) * stride + width };
        assert!(width <= stride && data.len() >= needed, "the rows lie in the slice, one after the other");
        Self { start: data.as_mut_ptr(), rows, width, stride, data: PhantomData }
    }

    /// Panics unless there are rows up to `row` that have elements up to `width`.
    pub(super) fn assert_has(&self, row: usize, width: usize) {
        assert!(
            row <= self.rows && width <= self.width,
            "{row} rows of {width} in {} of {}",
            self.rows,
            self.width
        );
    }

    #[inline(always)]
    fn at(&self, row: usize, from: usize, count: usize) -> *mut f32 {
        debug_assert!(row < self.rows && from + count <= self.width, "row {row}, elements from {from} on");
        self.start.wrapping_add(row * self.stride + from)
    }

    /// Some elements of a row, to write.
    ///
    /// # Safety
    /// The row has them, and nobody else reaches them meanwhile.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "parts are disjoint, and the caller takes each once")]
    pub(super) unsafe fn part_mut(&self, row: usize, from: usize, count: usize) -> &mut [f32] {
        // SAFETY: rows are inside the slice (checked in `new`), and the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts_mut(self.at(row, from, count), count) }
    }

    /// Some elements of a row, to read.
    ///
    /// # Safety
    /// The row has them, and nobody writes them meanwhile.
    #[inline(always)]
    pub(super) unsafe fn part(&self, row: usize, from: usize, count: usize) -> &[f32] {
        // SAFETY: rows are inside the slice (checked in `new`), and the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts(self.at(row, from, count), count) }
    }

    /// Asks for some elements of a row, which need not exist: see [`ask_for`].
    #[inline(always)]
    pub(super) fn ask_for(&self, row: usize, elements: Range<usize>) {
        ask_for(self.start.wrapping_add(row * self.stride + elements.start), elements.len());
    }

    /// The first columns of some rows as a matrix, to read.
    ///
    /// # Safety
    /// Nobody writes them meanwhile.
    pub(super) unsafe fn matrix(&self, rows: Range<usize>, cols: usize) -> MatRef<'_, f32> {
        let len = if rows.is_empty() { 0 } else { (rows.len() - 1) * self.stride + cols };
        self.assert_has(rows.end, cols);
        // SAFETY: the elements from the first to the last are inside the slice; those between the rows are nobody's.
        let data =
            unsafe { std::slice::from_raw_parts(self.start.wrapping_add(rows.start * self.stride), len) };
        MatRef::new(data, 0, [rows.len(), cols], [self.stride as isize, 1])
    }

    /// Some columns of some rows as a matrix, to write.
    ///
    /// # Safety
    /// Nobody else reaches them meanwhile.
    pub(super) unsafe fn matrix_mut(&self, rows: Range<usize>, cols: Range<usize>) -> MatMut<'_, f32> {
        self.assert_has(rows.end, cols.end);
        let start = self.start.wrapping_add(rows.start * self.stride + cols.start);
        // SAFETY: the elements are inside the slice, and the caller's alone.
        unsafe { MatMut::beside(start, rows.len(), cols.len(), self.stride) }
    }
}

/// Elements of a cache line.
const LINE: usize = 16;

/// Asks for some elements as far as the second-level cache, where the machine can: the address may be any.
///
/// The gates of a task touch a line or two of many places far apart, which the processor's own prefetching does not follow.
#[inline(always)]
pub(super) fn ask_for(first: *const f32, count: usize) {
    for at in (0..count).step_by(LINE) {
        let line = first.wrapping_add(at);
        // SAFETY: every x86-64 has the instruction, which reads nothing that the program could see.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T1>(line.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }
}
