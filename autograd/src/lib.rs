//! Reverse-mode automatic differentiation for gradus.
//!
//! A [`Var`] is a tensor with a history. Ops on it compute at once and record how to go back; [`Var::backward`] walks
//! the record.
//!
//! ```
//! use gradus_autograd::Var;
//! use tensor::{Device, Tensor};
//! # fn main() -> tensor::Result<()> {
//! let w = Var::leaf(Tensor::from_slice(&[1f32, 2., 3.], [3], &Device::cpu())?);
//! let loss = w.mul(&w)?.sum_all()?;
//! let grads = loss.backward()?;
//! assert_eq!(grads.get(&w)?.to_vec::<f32>()?, [2., 4., 6.]);
//! # Ok(()) }
//! ```
//!
//! Rules are written in differentiable ops, so a gradient has gradients of its own when asked for with
//! [`Backward::create_graph`]. This crate never looks inside a buffer.
#![forbid(unsafe_code)]

mod backward;
mod check;
mod node;
mod ops;
mod var;

pub use crate::backward::{Backward, Gradients, grad};
pub use crate::check::{CheckOptions, gradcheck, gradgradcheck};
pub use crate::node::{is_recording, no_grad};
pub use crate::ops::{BatchNormStats, ClassLoss, Reduction, RnnResult, RnnVars, rnn, rnn_bidirectional};
pub use crate::var::{Backprop, Var};
