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
//! There are no kernels in this version, so no tensor can live on a GPU yet.

mod error;
mod info;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod driver;

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

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[path = "unsupported.rs"]
mod context;

use tensor::{Device, Result};

pub use context::{Context, devices, open};
pub use error::{CudaError, CudaVersion, NEEDED};
pub use info::DeviceInfo;

/// The GPU `cuda:{index}` as a device for tensors; counted from 0.
///
/// # Errors
///
/// Why there is none and what to do. This version has no kernels, so on a machine with a GPU that is the reason:
/// [`CudaError::KernelsNotBuilt`].
///
/// ```
/// let error = gradus_kernels_cuda::device(0).unwrap_err();
/// println!("{error}");
/// ```
pub fn device(index: usize) -> Result<Device> {
    let context = open(index)?;
    Err(CudaError::KernelsNotBuilt { device: context.info().name.clone() }.into())
}
