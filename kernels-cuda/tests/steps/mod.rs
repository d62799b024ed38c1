//! Steps of optimizers, for the tests of a file.

use tensor::backend::SgdStep;

/// A first step down the gradient, without momentum or decay.
pub(crate) fn down(lr: f64) -> SgdStep {
    SgdStep {
        lr,
        momentum: 0.0,
        dampening: 0.0,
        weight_decay: 0.0,
        nesterov: false,
        first: true,
        grad_scale: 1.0,
    }
}
