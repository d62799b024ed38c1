//! Where tensors live: a cheap handle to a backend.

use crate::cpu::Cpu;
use crate::{Backend, DType};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A cheap handle to a backend. Two handles are equal when they share it.
#[derive(Clone)]
pub struct Device(Arc<dyn Backend>);

impl Device {
    /// A device over a backend of one's own.
    pub fn new(backend: impl Backend) -> Device {
        Device(Arc::new(backend))
    }

    /// The processor: always there.
    pub fn cpu() -> Device {
        Device::cpu_ref().clone()
    }

    pub(crate) fn cpu_ref() -> &'static Device {
        static CPU: OnceLock<Device> = OnceLock::new();
        CPU.get_or_init(|| Device::new(Cpu))
    }

    /// What runs the kernels.
    pub fn backend(&self) -> &dyn Backend {
        &*self.0
    }

    /// `cpu`, `cuda:0`, …
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Waits until everything that was asked of the device is done.
    pub fn synchronize(&self) -> crate::Result<()> {
        self.0.synchronize()
    }
}

impl PartialEq for Device {
    fn eq(&self, other: &Device) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Device {}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The dtype and the device of a new tensor: a `&Device` alone means `float32`.
///
/// ```
/// use gradus_tensor::{DType, Device, Tensor};
/// # fn main() -> gradus_tensor::Result<()> {
/// let cpu = Device::cpu();
/// assert_eq!(Tensor::zeros([2], &cpu)?.dtype(), DType::F32);
/// assert_eq!(Tensor::zeros([2], (DType::I64, &cpu))?.dtype(), DType::I64);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The type of the elements.
    pub dtype: DType,
    /// Where they live.
    pub device: &'a Device,
}

impl<'a> From<&'a Device> for Options<'a> {
    fn from(device: &'a Device) -> Self {
        Options { dtype: DType::F32, device }
    }
}

impl<'a> From<(DType, &'a Device)> for Options<'a> {
    fn from((dtype, device): (DType, &'a Device)) -> Self {
        Options { dtype, device }
    }
}
