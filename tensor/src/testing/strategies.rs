//! Strategies for property tests: shapes and views that shrink to what a human can draw.

use crate::{Device, Result, Tensor};
use proptest::prelude::*;

/// Shapes of up to `rank` dims of 0 to 5 elements, seldom 0.
pub fn shapes(rank: usize) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1 => Just(0usize), 12 => 1..=5usize], 0..=rank)
}

/// One step from a tensor to a view of it; dims and indices are taken modulo what the tensor has.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Swaps two dims.
    Transpose(usize, usize),
    /// Runs a dim backwards.
    Flip(usize),
    /// Takes every `step`-th element from `start`.
    Slice(usize, usize, usize),
    /// A new dim of extent 1.
    Unsqueeze(usize),
    /// A new leading dim, broadcast.
    Expand(usize),
}

impl Step {
    /// The view.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        let rank = x.rank();
        if rank == 0 && !matches!(self, Step::Unsqueeze(_) | Step::Expand(_)) {
            return Ok(x.clone());
        }
        let dim = |d: usize| (d % rank) as isize;
        match self {
            Step::Transpose(a, b) => x.transpose(dim(a), dim(b)),
            Step::Flip(d) => x.flip([dim(d)]),
            Step::Slice(d, start, step) => {
                let start = start % (x.dims()[d % rank] + 1);
                x.slice(dim(d), Some(start as isize), None, step)
            }
            Step::Unsqueeze(_) | Step::Expand(_) if rank >= 5 => Ok(x.clone()),
            Step::Unsqueeze(d) => x.unsqueeze((d % (rank + 1)) as isize),
            Step::Expand(n) => x.broadcast_to([&[n], x.dims()].concat()),
        }
    }
}

/// Up to four steps.
pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4usize, 0..4usize).prop_map(|(a, b)| Step::Transpose(a, b)),
        (0..4usize).prop_map(Step::Flip),
        (0..4usize, 0..5usize, 1..4usize).prop_map(|(d, start, step)| Step::Slice(d, start, step)),
        (0..4usize).prop_map(Step::Unsqueeze),
        (1..3usize).prop_map(Step::Expand),
    ];
    prop::collection::vec(step, 0..=4)
}

/// A view of `0, 1, 2, …` as float32 on the CPU.
pub fn views(rank: usize) -> impl Strategy<Value = Tensor> {
    (shapes(rank), steps()).prop_filter_map("a view that exists", |(shape, steps)| {
        let n: usize = shape.iter().product();
        let x = Tensor::arange(0, n, 1, &Device::cpu()).and_then(|x| x.reshape(shape)).ok()?;
        steps.iter().try_fold(x, |x, step| step.apply(&x)).ok()
    })
}
