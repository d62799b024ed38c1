//! Tensors as the matrices and slices that the passes work on.

use crate::Tensor;
use crate::cpu::gemm::{MatRef, Packed};
use crate::cpu::matmul::packed_right;
use crate::cpu::storage::{memory, memory_mut};
use std::sync::Arc;

/// A matrix of any strides.
pub(super) fn matrix(x: &Tensor) -> MatRef<'_, f32> {
    let layout = x.layout();
    MatRef::new(
        memory(x),
        layout.offset(),
        [x.dims()[0], x.dims()[1]],
        [layout.strides()[0], layout.strides()[1]],
    )
}

/// A weight as a packed right operand: kept from a call before if it has not changed since, else packed for this one.
pub(super) fn packed(weight: &Tensor) -> Arc<Packed<f32>> {
    packed_right::<f32>(weight).unwrap_or_else(|| Arc::new(Packed::b(matrix(weight))))
}

/// The elements of a new row-major tensor.
pub(super) fn writable(x: &mut Tensor) -> &mut [f32] {
    debug_assert!(x.layout().is_contiguous() && x.layout().offset() == 0);
    let n = x.numel();
    &mut memory_mut(x).expect("a new tensor is not shared")[..n]
}

/// The distance of rows with so many elements that kernels read side by side. Rows a multiple of 1 KiB apart would meet in few
/// places of a first-level cache.
pub(super) fn padded(width: usize) -> usize {
    let width = width.next_multiple_of(16);
    if width.is_multiple_of(256) { width + 16 } else { width }
}
