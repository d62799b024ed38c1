//! The same functions for targets without trampolines: there never is a CUDA device.

use tensor::{Device, Result as TensorResult, Tensor};

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

/// Recorded work of a GPU, which cannot exist on this target.
#[derive(Debug)]
pub enum Graph {}

impl Graph {
    /// Always an error on this target.
    ///
    /// # Errors
    ///
    /// That there is no CUDA device.
    pub fn capture<T>(_: &Device, _: impl FnOnce() -> TensorResult<T>) -> TensorResult<(Graph, T)> {
        Err(no_driver().into())
    }

    /// Puts all of the recorded work into the GPU's queue.
    ///
    /// # Errors
    ///
    /// None on this target.
    pub fn replay(&self) -> TensorResult<()> {
        match *self {}
    }

    /// How many replays there were.
    pub fn replays(&self) -> u64 {
        match *self {}
    }

    /// Writes `value` into the memory of `x`.
    ///
    /// # Errors
    ///
    /// None on this target.
    pub fn write(&self, _x: &Tensor, _value: &Tensor) -> TensorResult<()> {
        match *self {}
    }

    /// Whether the indices of the last replay were within range.
    ///
    /// # Errors
    ///
    /// None on this target.
    pub fn check(&self) -> TensorResult<()> {
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
