//! Tensors, automatic differentiation, CNN and RNN modules, and handwritten kernels, in Rust.
//!
//! ```
//! use gradus::prelude::*;
//!
//! # fn main() -> Result<()> {
//! let w = Var::leaf(Tensor::randn([2, 3], &Device::cpu())?);
//! let loss = w.mul(&w)?.sum_all()?;
//! let grads = loss.backward()?;
//! assert!(grads.get(&w)?.all_close(&w.value().mul_scalar(2)?, 1e-6, 0.0)?);
//! # Ok(()) }
//! ```
//!
//! This crate is a thin facade: it re-exports the layers below and is the only one that knows all of them.
//!
//! | crate | owns |
//! |---|---|
//! | [`tensor`] | tensors, layouts, dtypes, errors, the backend contract, the CPU kernels |
//! | [`autograd`] | values with a history, gradients, losses |
//! | [`nn`] | modules, optimizers, data loading, state files |
//!
//! # Features
//! - `cuda`: NVIDIA GPUs as devices `cuda:0`, `cuda:1`, …; a program built with it starts without a driver too
//! - `progress`: progress bars for training loops, in `nn::progress`
#![forbid(unsafe_code)]

pub use autograd;
/// The GPUs themselves: which there are, memory, kernels of one's own, and the emulated GPU.
#[cfg(feature = "cuda")]
pub use kernels_cuda as cuda;
pub use nn;
pub use tensor;

pub use autograd::{Backward, Gradients, Var, grad, gradcheck, no_grad};
pub use nn::module;
pub use nn::state::{load, save};
pub use tensor::{
    Conv, DType, Device, Distribution, Error, F32Mode, Generator, Pool, Result, Shape, Tensor, f32_mode,
    manual_seed, set_f32_mode, with_f32_mode,
};

/// What most programs use.
pub mod prelude {
    pub use crate::{device, load, module, save};
    pub use autograd::{Backward, Gradients, Reduction, Var, grad, no_grad};
    pub use nn::data::{DataLoader, Dataset, TensorDataset};
    pub use nn::optim::{Adam, AdamConfig, AdamW, AdamWConfig, Optimizer, Sgd, SgdConfig};
    pub use nn::{
        BatchNorm1d, BatchNorm2d, Conv1d, Conv2d, Dropout, Embedding, Flatten, Forward, Gru, Init, LayerNorm,
        Linear, Lstm, LstmState, MaxPool2d, Module, Param, Relu, Rnn, RnnConfig, Sequential, clip_grad_norm,
    };
    pub use tensor::{Conv, DType, Device, Error, Generator, Pool, Result, Shape, Tensor, manual_seed};
}

/// Opens a device by name: `cpu`, `cuda` (the first GPU) or `cuda:1`.
///
/// With the feature `cuda`, `emulated` is a GPU on the processor, to try programs and kernels for GPUs: slow, but it finds what they do
/// wrong. It takes a C++ compiler, and the first time minutes; what was compiled is kept in the folder that `GRADUS_EMULATED` names.
///
/// # Errors
/// If there is no such device: the message says why and what to do.
///
/// ```
/// assert_eq!(gradus::device("cpu")?.name(), "cpu");
/// assert!(gradus::device("tpu").unwrap_err().to_string().contains("\"tpu\""));
/// # Ok::<(), gradus::Error>(())
/// ```
pub fn device(name: &str) -> Result<Device> {
    let (kind, index) = name.split_once(':').unwrap_or((name, "0"));
    match (kind, index.parse::<usize>()) {
        ("cpu", Ok(0)) => Ok(Device::cpu()),
        ("cuda", Ok(index)) => open_cuda(index),
        #[cfg(feature = "cuda")]
        ("emulated", Ok(0)) => emulated(),
        _ => Err(tensor::ErrorKind::Device(format!(
            "no device is called {name:?}; there are cpu and cuda:0, cuda:1, …"
        ))
        .into()),
    }
}

#[cfg(feature = "cuda")]
fn open_cuda(index: usize) -> Result<Device> {
    kernels_cuda::device(index)
}

#[cfg(all(feature = "cuda", target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
fn emulated() -> Result<Device> {
    let folder = std::env::var_os("GRADUS_EMULATED").map(std::path::PathBuf::from);
    let folder = folder.unwrap_or_else(|| std::env::temp_dir().join("gradus-emulated"));
    let wrong = |error: kernels_cuda::emulator::EmulatorError| tensor::ErrorKind::Device(error.to_string());
    Ok(kernels_cuda::emulator::device(&[], &folder).map_err(wrong)?)
}

#[cfg(all(
    feature = "cuda",
    not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))
))]
fn emulated() -> Result<Device> {
    Err(tensor::ErrorKind::Device("GPUs are emulated on Linux, x86-64 and aarch64".to_string()).into())
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(_: usize) -> Result<Device> {
    let message =
        "no CUDA device: this program was built without the feature cuda; rebuild with --features cuda";
    Err(tensor::ErrorKind::Device(message.to_string()).into())
}

/// The code of the README, which is compiled and run like any other example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
