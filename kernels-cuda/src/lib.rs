//! The CUDA side of gradus. One binary runs with and without an NVIDIA driver: the driver is opened when a device is
//! first asked for, and [`CudaError`] says why there is none and what to do.
//!
//! ```
//! match gradus_kernels_cuda::devices() {
//!     Ok(devices) => devices.iter().for_each(|device| println!("{device}")),
//!     Err(error) => assert!(error.to_string().starts_with("no CUDA device"), "{error}"),
//! }
//! ```
//!
//! [`device`] gives a GPU as a device for tensors. Its kernels are compiled when the crate is built, if there is an nvcc; the
//! `emulator` runs the same kernels on the processor.

mod error;
#[doc = include_str!("../KERNELS.md")]
pub mod guide {}
mod info;
mod nvcc;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod driver;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod event;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod backend;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod capture;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod gpu;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod graph;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod images;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod launch;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod own;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod pool;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod slabs;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod staging;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod context;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod stream;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod memory;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod emulator;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod module;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod tensor_map;

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[path = "unsupported.rs"]
mod context;

use tensor::{Device, Result};

pub use context::{Context, devices, driver_version, open};
pub use error::{CudaError, CudaVersion, NEEDED};
pub use info::DeviceInfo;

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub use context::Graph;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub use graph::Graph;

/// The GPU `cuda:{index}` as a device for tensors; counted from 0. Every call for one index gives the same device.
///
/// # Errors
///
/// Why there is none and what to do: no driver, no GPU, a driver too old, or a program that was built without kernels.
///
/// ```
/// if let Err(error) = gradus_kernels_cuda::device(0) {
///     println!("{error}");
/// }
/// ```
pub fn device(index: usize) -> Result<Device> {
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    return backend::device(index);
    #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
    return match open(index)? {};
}

/// Gives memory that no tensor uses back to the driver of GPU `index`, so that other programs can have it. Waits for the GPU.
///
/// # Errors
///
/// As [`device`].
pub fn empty_cache(index: usize) -> Result<()> {
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    return Ok(gpu::gpu(index).map(|gpu| gpu.pool.empty_cache())?);
    #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
    return match open(index)? {};
}

/// How many bytes of GPU `index` are free, and how many it has.
///
/// # Errors
///
/// As [`device`].
pub fn memory(index: usize) -> Result<(usize, usize)> {
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    return Ok(memory::free_and_total(open(index)?)?);
    #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
    return match open(index)? {};
}

/// The CUDA compiler of this machine, as `nvcc 13.0.88 (/usr/local/cuda/bin/nvcc)`: what `NVCC` names, else the one in `CUDA_PATH`,
/// `/usr/local/cuda` or `PATH`.
pub fn toolkit() -> Option<String> {
    let nvcc = nvcc::find().filter(|nvcc| nvcc::runs(nvcc))?;
    Some(format!("{} ({})", nvcc::version(&nvcc), nvcc.display()))
}

/// What the kernels of this program were compiled with, and for which GPUs; `None` if no nvcc was there.
pub fn built_with() -> Option<&'static str> {
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    return images::BUILT_WITH;
    #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
    return None;
}
