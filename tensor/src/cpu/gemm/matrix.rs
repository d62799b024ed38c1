//! Matrices as the product sees them: a slice, an offset and two strides, proven to stay inside the slice.

use std::marker::PhantomData;

/// A matrix that is read. Strides count elements; they may be negative or zero.
#[derive(Debug)]
pub struct MatRef<'a, T> {
    start: *const T,
    rows: usize,
    cols: usize,
    row_stride: isize,
    col_stride: isize,
    data: PhantomData<&'a [T]>,
}

/// A matrix that is written. No two of its elements share a place.
#[derive(Debug)]
pub struct MatMut<'a, T> {
    start: *mut T,
    rows: usize,
    cols: usize,
    row_stride: isize,
    col_stride: isize,
    data: PhantomData<&'a mut [T]>,
}

impl<T> Clone for MatRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for MatRef<'_, T> {}

// SAFETY: a `MatRef` is a shared borrow of the slice that it was made from.
unsafe impl<T: Sync> Send for MatRef<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for MatRef<'_, T> {}

/// Panics unless every index `offset + Σ i·stride`, `i < dim`, is below `len`.
pub(super) fn assert_inside(len: usize, offset: usize, dims: &[usize], strides: &[isize]) {
    if dims.contains(&0) {
        return;
    }
    let (mut low, mut high) = (offset as i128, offset as i128);
    for (&dim, &stride) in dims.iter().zip(strides) {
        let reach = (dim as i128 - 1) * stride as i128;
        if reach < 0 { low += reach } else { high += reach }
    }
    assert!(
        low >= 0 && high < len as i128,
        "a matrix of dims {dims:?}, strides {strides:?} and offset {offset} leaves its {len} elements"
    );
}

/// Panics unless distinct indices lead to distinct elements: each stride must step over all that the smaller ones span.
pub(super) fn assert_disjoint(dims: &[usize], strides: &[isize]) {
    if dims.contains(&0) {
        return;
    }
    // The strides in ascending order, by insertion: there are two or three of them.
    let mut axes = [(0, 0); 3];
    let mut count = 0;
    for (&dim, &stride) in dims.iter().zip(strides).filter(|(dim, _)| **dim > 1) {
        let at = axes[..count].iter().take_while(|(_, other)| *other <= stride.unsigned_abs()).count();
        axes.copy_within(at..count, at + 1);
        axes[at] = (dim, stride.unsigned_abs());
        count += 1;
    }
    let mut span = 0u128;
    for &(dim, stride) in &axes[..count] {
        let stride = stride as u128;
        assert!(
            stride > span,
            "a matrix of dims {dims:?} and strides {strides:?} overlaps itself and cannot be written"
        );
        span += stride * (dim as u128 - 1);
    }
}

impl<'a, T> MatRef<'a, T> {
    /// The matrix whose element (i, j) is `data[offset + i·strides[0] + j·strides[1]]`.
    ///
    /// # Panics
    /// If an element lies outside `data`.
    pub fn new(data: &'a [T], offset: usize, dims: [usize; 2], strides: [isize; 2]) -> Self {
        assert_inside(data.len(), offset, &dims, &strides);
        let start = data.as_ptr().wrapping_add(offset);
        Self::from_parts(start, dims, strides)
    }

    /// A row-major matrix that fills `data`.
    pub fn row_major(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::new(data, 0, [rows, cols], [cols as isize, 1])
    }

    /// The caller has proven the bounds for the lifetime `'a`.
    pub(super) fn from_parts(start: *const T, dims: [usize; 2], strides: [isize; 2]) -> Self {
        Self {
            start,
            rows: dims[0],
            cols: dims[1],
            row_stride: strides[0],
            col_stride: strides[1],
            data: PhantomData,
        }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Distance between rows.
    pub fn row_stride(&self) -> isize {
        self.row_stride
    }

    /// Distance between columns.
    pub fn col_stride(&self) -> isize {
        self.col_stride
    }

    /// The transposed matrix.
    pub fn t(&self) -> Self {
        Self::from_parts(self.start, [self.cols, self.rows], [self.col_stride, self.row_stride])
    }

    /// A pointer to the element (i, j), which is inside the slice if `i < rows` and `j < cols`.
    #[inline(always)]
    pub(super) fn at(&self, i: usize, j: usize) -> *const T {
        self.start.wrapping_offset(i as isize * self.row_stride + j as isize * self.col_stride)
    }
}

impl<'a, T> MatMut<'a, T> {
    /// The matrix whose element (i, j) is `data[offset + i·strides[0] + j·strides[1]]`.
    ///
    /// # Panics
    /// If an element lies outside `data`, or two elements share a place.
    pub fn new(data: &'a mut [T], offset: usize, dims: [usize; 2], strides: [isize; 2]) -> Self {
        assert_inside(data.len(), offset, &dims, &strides);
        assert_disjoint(&dims, &strides);
        let start = data.as_mut_ptr().wrapping_add(offset);
        Self {
            start,
            rows: dims[0],
            cols: dims[1],
            row_stride: strides[0],
            col_stride: strides[1],
            data: PhantomData,
        }
    }

    /// The rows of a matrix that others write beside it, each `stride` after the one before.
    ///
    /// # Safety
    /// For the lifetime `'a`, nobody else reaches `rows` times `cols` elements, those of a row contiguous from
    /// `start + row · stride` on.
    pub(in crate::cpu) unsafe fn beside(start: *mut T, rows: usize, cols: usize, stride: usize) -> Self {
        assert!(cols <= stride || rows <= 1, "the rows of a matrix do not overlap");
        Self { start, rows, cols, row_stride: stride as isize, col_stride: 1, data: PhantomData }
    }

    /// A row-major matrix that fills `data`.
    pub fn row_major(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        Self::new(data, 0, [rows, cols], [cols as isize, 1])
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Where the elements are, for the threads that write disjoint parts of them.
    pub(super) fn target(&mut self) -> Target<T> {
        Target { start: self.start, row: self.row_stride, col: self.col_stride }
    }
}

/// The places of a result's elements, without their number: several threads hold it and each writes its own part.
#[derive(Debug)]
pub(super) struct Target<T> {
    pub(super) start: *mut T,
    pub(super) row: isize,
    pub(super) col: isize,
}

impl<T> Clone for Target<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Target<T> {}

// SAFETY: whoever dereferences the pointers of a `Target` answers for disjoint elements on different threads.
unsafe impl<T: Send> Send for Target<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Target<T> {}

impl<T> Target<T> {
    /// The place of the element (i, j).
    #[inline(always)]
    pub(super) fn at(&self, i: usize, j: usize) -> *mut T {
        self.start.wrapping_offset(i as isize * self.row + j as isize * self.col)
    }

    /// The transposed result.
    pub(super) fn t(self) -> Self {
        Self { start: self.start, row: self.col, col: self.row }
    }
}
