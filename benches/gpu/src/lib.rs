//! Gradus behind a C interface, for measurements on GPUs beside PyTorch: `scripts/gpu-check` bundles it with the Python that calls it.
//!
//! A *case* is an op or a step of training with its inputs, in several sets that take turns, so that caches do not hold them. Tensors and
//! cases are named by numbers above 0; 0 and negative answers are errors, which [`ffi::gradus_error`] explains.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

pub mod ffi;
pub mod models;
pub mod ops;
