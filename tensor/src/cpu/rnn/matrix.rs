//! Tensors as the matrices and slices that the passes work on.

use crate::cpu::gemm::MatRef;
use crate::cpu::storage::{memory, memory_mut};
use crate::{RnnSpec, Tensor};

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
