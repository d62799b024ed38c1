//! CNN and RNN modules for gradus: layers, optimizers, data loading, state files.
//!
//! ```
//! use gradus_nn::{Forward, Init, Linear, Module};
//! use tensor::{Device, Tensor};
//! # fn main() -> tensor::Result<()> {
//! let layer = Linear::new(3, 2, &mut Init::new(42))?;
//! let y = layer.forward(&Tensor::ones([5, 3], &Device::cpu())?.into())?;
//! assert_eq!((y.dims(), layer.num_params()), (&[5, 2][..], 8));
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]

mod activation;
mod clip;
mod conv;
pub mod data;
mod dropout;
mod embedding;
mod fusion;
mod grouped;
mod init;
mod linear;
mod located;
pub mod metrics;
mod module;
mod norm;
pub mod optim;
mod param;
#[cfg(feature = "progress")]
pub mod progress;
mod rnn;
pub mod schedule;
mod sequential;
pub mod state;

pub use crate::activation::{
    AdaptiveAvgPool2d, AdaptiveMaxPool1d, AdaptiveMaxPool2d, AvgPool2d, Elu, Flatten, Gelu, LeakyRelu,
    LogSoftmax, MaxPool2d, Relu, Sigmoid, Silu, Softmax, Tanh,
};
pub use crate::clip::{clip_grad_norm, clip_grad_norm_finite, clip_grad_value};
pub use crate::conv::{Conv1d, Conv2d, Conv3d, ConvTranspose2d};
pub use crate::dropout::Dropout;
pub use crate::embedding::Embedding;
pub use crate::fusion::{FusedConv2d, fuse_conv_bn_eval};
pub use crate::init::{Fan, Init};
pub use crate::linear::Linear;
pub use crate::module::{Entry, Forward, Fusable, Module, Path};
pub use crate::norm::{BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d, GroupNorm, LayerNorm, RmsNorm};
pub use crate::param::{Buffer, Mode, Param, Random};
pub use crate::rnn::{Gru, Lstm, LstmState, Rnn, RnnConfig};
pub use crate::sequential::Sequential;
pub use crate::state::{LoadOptions, load, load_checkpoint, load_with, save, save_checkpoint};
