//! Tensors as the matrices and slices that the passes work on.

use crate::cpu::gemm::{MatRef, Packed};
use crate::cpu::matmul::packed_right;
use crate::cpu::storage::{memory, memory_mut};
use crate::{RnnSpec, Tensor};
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

/// The state after the step at `time`, to be written, and the one before it, unless that is the initial one; each has
/// `state` elements.
pub(super) fn neighbours(
    spec: RnnSpec,
    states: &mut [f32],
    state: usize,
    time: usize,
) -> (Option<&[f32]>, &mut [f32]) {
    if spec.reverse {
        let (own, later) = states.split_at_mut((time + 1) * state);
        (later.get(..state), &mut own[time * state..])
    } else {
        let (earlier, own) = states.split_at_mut(time * state);
        (time.checked_sub(1).map(|before| &earlier[before * state..]), &mut own[..state])
    }
}
