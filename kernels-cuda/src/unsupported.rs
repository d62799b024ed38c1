//! The same functions for targets without trampolines: there never is a CUDA device.

use crate::{CudaError, CudaVersion, DeviceInfo};

/// Always an error on this target.
///
/// # Errors
///
/// [`CudaError::NoDriver`].
pub fn devices() -> Result<Vec<DeviceInfo>, CudaError> {
    Err(no_driver())
}

/// Always an error on this target.
///
/// # Errors
///
/// [`CudaError::NoDriver`].
pub fn open(_index: usize) -> Result<Context, CudaError> {
    Err(no_driver())
}

/// Always an error on this target.
///
/// # Errors
///
/// [`CudaError::NoDriver`].
pub fn driver_version() -> Result<CudaVersion, CudaError> {
    Err(no_driver())
}

/// An opened GPU, which cannot exist on this target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {}

impl Context {
    /// What is known of the GPU.
    pub fn info(&self) -> &'static DeviceInfo {
        match *self {}
    }

    /// Makes this the context of the calling thread's driver calls.
    ///
    /// # Errors
    ///
    /// None on this target.
    pub fn make_current(&self) -> Result<(), CudaError> {
        match *self {}
    }

    /// Waits until everything started in this context is done.
    ///
    /// # Errors
    ///
    /// None on this target.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        match *self {}
    }
}

fn no_driver() -> CudaError {
    let reason = format!(
        "CUDA is used on Linux, x86-64 and aarch64, and this program is for {} on {}",
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    CudaError::NoDriver { reason }
}
