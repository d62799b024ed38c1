//! Convolutions.

mod naive;

pub(crate) use naive::{conv, conv_grad_input, conv_grad_weight};
