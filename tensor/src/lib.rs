//! n-dimensional tensors and the CPU backend of gradus.
//!
//! ```
//! use gradus_tensor::{Device, Tensor};
//! # fn main() -> gradus_tensor::Result<()> {
//! let a = Tensor::randn([2, 3], &Device::cpu())?;
//! let b = a.t()?.matmul(&a)?.softmax(-1)?;
//! assert_eq!(b.dims(), [3, 3]);
//! assert!(b.sum(-1, false)?.all_close(&Tensor::ones([3], &Device::cpu())?, 1e-6, 0.0)?);
//! # Ok(()) }
//! ```
//!
//! Layers, from the user down: [`Tensor`] checks shapes, dtypes and devices and makes views; [`Backend`] has one method
//! per kernel family; [`cpu`] implements it. What the elementwise ops compute stands in the tables of [`op`].

pub mod backend;
pub mod composed;
pub mod cpu;
mod device;
mod dtype;
mod error;
mod layout;
pub mod op;
pub mod random;
mod rnn;
mod shape;
mod spec;
pub mod storage;
mod tensor;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use crate::backend::{Backend, CrossEntropy, Distribution, Reduction};
pub use crate::cpu::f32_mode::{F32Mode, UnknownF32Mode, f32_mode, set_f32_mode, with_f32_mode};
pub use crate::cpu::memory::MemoryStats;
pub use crate::device::{Device, Options};
pub use crate::dtype::{Bool, DType, Element, Kind, Number, Scalar};
pub use crate::error::{Error, ErrorKind, Result};
pub use crate::layout::Layout;
pub use crate::random::{Generator, manual_seed};
pub use crate::rnn::{RnnGrads, RnnInputs, RnnKind, RnnOutputGrads, RnnOutputs, RnnSizes, RnnSpec};
pub use crate::shape::{Dims, MAX_RANK, Shape};
pub use crate::spec::{Conv, Pool, Spatial};
pub use crate::tensor::Tensor;
pub use crate::tensor::pool::MaxPlaces;
pub use crate::tensor::rnn::{rnn, rnn_backward, rnn_bidirectional, rnn_bidirectional_backward};
pub use half::{bf16, f16};
