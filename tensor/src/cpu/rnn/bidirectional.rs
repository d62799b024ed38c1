//! Both directions of a layer side by side, where one of them alone would leave threads waiting: the directions do not depend on
//! each other, so they have twice the tasks for every time that threads wait for each other.
//!
//! Each task computes what it computes in one direction alone: not a bit depends on the way that is chosen.

use super::cut::Cut;
use super::{direction, forward, rnn, rnn_backward, suits};
use crate::cpu::f32_mode::{f32_mode, with_f32_mode};
use crate::cpu::isa::{isa, with_isa};
use crate::cpu::threads;
use crate::{Error, Result, RnnGrads, RnnInputs, RnnKind, RnnOutputGrads, RnnOutputs, RnnSpec};
use std::sync::OnceLock;

/// The most recurrent weights, of both directions, that the last cache keeps from step to step: 16 MiB.
const WEIGHTS: usize = 4 << 20;

/// How two directions share the threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// One after the other, each on all threads.
    InTurn,
    /// Each on a thread of its own, which waits for nobody.
    OnTwoThreads,
    /// Each step of both in one phase.
    InPhases,
}

impl Way {
    /// The way for two layers of a kind.
    fn of(kind: RnnKind, inputs: [&RnnInputs; 2]) -> Result<Way> {
        let [sizes, other] = [inputs[0].sizes(kind)?, inputs[1].sizes(kind)?];
        let (threads, products) = (threads::num_threads(), kind.gates() * sizes.hidden);
        let fits = 2 * products * sizes.hidden <= WEIGHTS;
        if threads == 1 || sizes != other || !fits || inputs.iter().any(|inputs| !suits(inputs, sizes)) {
            return Ok(Way::InTurn);
        }
        let tasks = Cut::new(sizes.n, sizes.hidden, products).tasks();
        Ok(match () {
            () if threads == 2 || tasks == 1 => Way::OnTwoThreads,
            () if tasks < 2 * threads => Way::InPhases,
            () => Way::InTurn,
        })
    }
}

/// The direction of each of two layers.
fn specs(kind: RnnKind) -> [RnnSpec; 2] {
    [false, true].map(|reverse| RnnSpec { kind, reverse })
}

/// A layer that runs forwards and one that runs in reverse.
pub(crate) fn rnn_bidirectional(
    kind: RnnKind,
    inputs: [&RnnInputs; 2],
    training: bool,
) -> Result<[RnnOutputs; 2]> {
    let specs = specs(kind);
    let run = |i: usize| rnn(specs[i], inputs[i], training);
    match Way::of(kind, inputs)? {
        Way::InTurn => Ok([run(0)?, run(1)?]),
        Way::OnTwoThreads => on_two_threads(run),
        Way::InPhases => {
            let sizes = inputs[0].sizes(kind)?;
            let directions = [(specs[0], inputs[0]), (specs[1], inputs[1])];
            two(forward(kind, &directions, sizes, training)?)
        }
    }
}

/// The gradients of [`rnn_bidirectional`].
pub(crate) fn rnn_bidirectional_backward(
    kind: RnnKind,
    inputs: [&RnnInputs; 2],
    outputs: [&RnnOutputs; 2],
    grads: [RnnOutputGrads; 2],
) -> Result<[RnnGrads; 2]> {
    let specs = specs(kind);
    let run = |i: usize| {
        let RnnOutputGrads { output, h_n, c_n } = grads[i];
        rnn_backward(specs[i], inputs[i], outputs[i], output, h_n, c_n)
    };
    match Way::of(kind, inputs)? {
        Way::InTurn => Ok([run(0)?, run(1)?]),
        Way::OnTwoThreads => on_two_threads(run),
        Way::InPhases => {
            let sizes = inputs[0].sizes(kind)?;
            let of = |i: usize| direction(specs[i], inputs[i], sizes, outputs[i], grads[i]);
            two(super::backward(kind, &[of(0)?, of(1)?], sizes)?)
        }
    }
}

/// Runs `f(0)` and `f(1)`, on two threads if there are as many, with the settings of the calling thread.
fn on_two_threads<R: Send + Sync>(f: impl Fn(usize) -> Result<R> + Sync) -> Result<[R; 2]> {
    let (isa, mode) = (isa(), f32_mode());
    let results = [const { OnceLock::new() }; 2];
    threads::parallel_for(2, |i| {
        let result = with_isa(isa, || with_f32_mode(mode, || f(i)));
        assert!(results[i].set(result).is_ok(), "each direction runs once");
    });
    let results = results.into_iter().filter_map(OnceLock::into_inner);
    two(results.collect::<Result<Vec<R>>>()?)
}

/// The results of two directions.
fn two<R>(results: Vec<R>) -> Result<[R; 2]> {
    results.try_into().map_err(|_| Error::argument("rnn", "there is a result for each direction"))
}
