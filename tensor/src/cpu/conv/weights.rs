//! The weights of a pass, and what was made of them for an earlier one.

use super::pass::Pass;
use crate::Tensor;
use crate::cpu::storage::derived;
use std::any::Any;
use std::sync::Arc;

/// A weight, and the memory that keeps what is made of it; see [`derived`].
pub(super) struct Weights<'a, T> {
    /// Every weight, in row-major order.
    pub values: &'a [T],
    tensor: &'a Tensor,
    backward: bool,
}

impl<T> Clone for Weights<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Weights<'_, T> {}

/// What packed weights depend on beside the weights themselves.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Form {
    groups: usize,
    outs: usize,
    /// The taps of each phase along each dim.
    taps: Vec<[Vec<usize>; 3]>,
}

/// Packed weights.
pub(super) struct Kept<P> {
    form: Form,
    /// What was made.
    pub value: P,
}

impl<'a, T> Weights<'a, T> {
    /// The weights of `tensor`, whose elements in row-major order are `values`, for a pass forwards or `backward`.
    pub(super) fn new(tensor: &'a Tensor, values: &'a [T], backward: bool) -> Self {
        Weights { values, tensor, backward }
    }

    /// The same in another type.
    pub(super) fn cast<U: bytemuck::Pod>(self) -> Weights<'a, U>
    where
        T: bytemuck::Pod,
    {
        Weights { values: bytemuck::cast_slice(self.values), tensor: self.tensor, backward: self.backward }
    }

    /// What `make` makes of the weights for a pass; that of an earlier pass of the same form, from the second use on until
    /// the weights change. `what` has a name for it forwards and one backwards.
    pub(super) fn kept<P: Any + Send + Sync>(
        self,
        what: [&'static str; 2],
        pass: &Pass,
        make: impl Fn() -> P,
    ) -> Arc<Kept<P>> {
        let taps = |phase: &super::pass::Phase| {
            phase.taps.each_ref().map(|taps| taps.iter().map(|tap| tap.index).collect())
        };
        let form =
            Form { groups: pass.groups, outs: pass.outs, taps: pass.phases.iter().map(taps).collect() };
        let new = || Kept { form: form.clone(), value: make() };
        let what = what[usize::from(self.backward)];
        let kept = derived(self.tensor, what, self.tensor.layout(), || Ok(new()));
        // One weight may serve convolutions of several forms, of which one is kept.
        kept.filter(|kept: &Arc<Kept<P>>| kept.form == form).unwrap_or_else(|| Arc::new(new()))
    }
}
