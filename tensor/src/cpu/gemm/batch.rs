//! Many products of one shape.

use super::epilogue::{Beta, Bias, Epilogue};
use super::kernel::Kernels;
use super::matrix::{self, MatRef, Target};
use super::scalar::GemmElement;
use crate::cpu::threads;
use std::marker::PhantomData;

/// Matrices of one shape that are read, `[batch, rows, cols]`. Strides count elements; they may be negative or zero.
#[derive(Clone, Copy, Debug)]
pub struct BatchRef<'a, T> {
    data: &'a [T],
    offset: usize,
    dims: [usize; 3],
    strides: [isize; 3],
}

/// Matrices of one shape that are written, `[batch, rows, cols]`. No two of their elements share a place.
#[derive(Debug)]
pub struct BatchMut<'a, T> {
    start: *mut T,
    dims: [usize; 3],
    strides: [isize; 3],
    data: PhantomData<&'a mut [T]>,
}

impl<'a, T> BatchRef<'a, T> {
    /// The matrices whose elements are `data[offset + b·strides[0] + i·strides[1] + j·strides[2]]`.
    ///
    /// # Panics
    /// If an element lies outside `data`.
    pub fn new(data: &'a [T], offset: usize, dims: [usize; 3], strides: [isize; 3]) -> Self {
        matrix::assert_inside(data.len(), offset, &dims, &strides);
        Self { data, offset, dims, strides }
    }

    /// The matrix at an index of the batch, which is below the batch's size.
    fn at(&self, i: usize) -> MatRef<'a, T> {
        let start =
            self.data.as_ptr().wrapping_add(self.offset).wrapping_offset(i as isize * self.strides[0]);
        MatRef::from_parts(start, [self.dims[1], self.dims[2]], [self.strides[1], self.strides[2]])
    }

    /// The whole batch as one matrix with `batch · rows` rows, if the rows follow each other evenly.
    fn stacked(&self) -> Option<MatRef<'a, T>> {
        let [batch, rows, cols] = self.dims;
        (self.strides[0] == rows as isize * self.strides[1]).then(|| {
            let start = self.data.as_ptr().wrapping_add(self.offset);
            MatRef::from_parts(start, [batch * rows, cols], [self.strides[1], self.strides[2]])
        })
    }
}

impl<'a, T> BatchMut<'a, T> {
    /// The matrices whose elements are `data[offset + b·strides[0] + i·strides[1] + j·strides[2]]`.
    ///
    /// # Panics
    /// If an element lies outside `data`, or two elements share a place.
    pub fn new(data: &'a mut [T], offset: usize, dims: [usize; 3], strides: [isize; 3]) -> Self {
        matrix::assert_inside(data.len(), offset, &dims, &strides);
        matrix::assert_disjoint(&dims, &strides);
        Self { start: data.as_mut_ptr().wrapping_add(offset), dims, strides, data: PhantomData }
    }
}

/// Products per matrix from which one product occupies all threads.
const LARGE: usize = 1 << 21;

/// Matrices in a batch from which each thread has some, whatever their size.
const MANY: usize = 32;

/// Products per task when the batch is spread over the threads.
const TASK: usize = 1 << 18;

/// [`gemm_batched`](super::gemm_batched) with some kernels.
pub(super) fn run<T: GemmElement>(
    kernels: &'static Kernels<T::Acc>,
    a: BatchRef<T>,
    b: BatchRef<T>,
    c: BatchMut<T>,
    beta: Beta,
    epilogue: Epilogue<T>,
) {
    let ([batch, m, k], [_, _, n]) = (a.dims, b.dims);
    assert_eq!(b.dims, [batch, k, n], "the matrices of a batch fit together: a {:?}, b {:?}", a.dims, b.dims);
    assert_eq!(c.dims, [batch, m, n], "the results have A's rows and B's columns");
    epilogue.assert_fits(m, n);
    let target = Target { start: c.start, row: c.strides[1], col: c.strides[2] };
    // One B for all rows of all matrices: one tall product.
    if b.strides[0] == 0
        && batch > 0
        && c.strides[0] == m as isize * c.strides[1]
        && !matches!(epilogue.bias, Bias::PerRow(_))
        && let Some(rows) = a.stacked()
    {
        return super::matrix_product(kernels, &rows, &b.at(0), target, beta, &epilogue);
    }
    let step = c.strides[0];
    let one = |i: usize| {
        let start = target.at(0, 0).wrapping_offset(i as isize * step);
        let c = Target { start, ..target };
        super::matrix_product(kernels, &a.at(i), &b.at(i), c, beta, &epilogue);
    };
    let products = m.saturating_mul(n).saturating_mul(k);
    if batch >= MANY || products < LARGE {
        let group = (TASK / products.max(1)).clamp(1, batch.max(1));
        threads::parallel_for(batch.div_ceil(group), |task| {
            (task * group..batch.min((task + 1) * group)).for_each(one);
        });
    } else {
        (0..batch).for_each(one);
    }
}
