//! The GPUs of this machine and their primary contexts, which this crate shares with every other user of CUDA in the
//! process.
//!
//! A context once opened is kept until the process ends: dropping the last handle of a primary context would free
//! everything that other libraries hold in it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use cust::CudaFlags;
use cust::context::CurrentContext;
use cust::device::{Device, DeviceAttribute};

use crate::driver::{self, check};
use crate::error::NEEDED;
use crate::{CudaError, CudaVersion, DeviceInfo};

/// What is known of each GPU, in the order of `cuda:0`, `cuda:1`, ...; never empty.
///
/// # Errors
///
/// Why there is none: no driver, a driver too old, or no GPU.
pub fn devices() -> Result<Vec<DeviceInfo>, CudaError> {
    (0..count()?).map(|index| describe(index, handle(index)?)).collect()
}

/// The primary context of GPU `index`, made current on this thread. Every call for one index gives the same context.
///
/// # Errors
///
/// As [`devices`], or [`CudaError::NoSuchDevice`] if there are too few, or what the driver answered: 46
/// (`CUDA_ERROR_DEVICE_UNAVAILABLE`) if another process has the GPU for itself.
pub fn open(index: usize) -> Result<Context, CudaError> {
    static OPENED: Mutex<BTreeMap<usize, Context>> = Mutex::new(BTreeMap::new());
    let count = count()?;
    if index >= count {
        return Err(CudaError::NoSuchDevice { index, count });
    }
    // The map is only written as the last step below, so a panic elsewhere leaves it whole.
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let context = match opened.get(&index) {
        Some(context) => *context,
        None => {
            let device = handle(index)?;
            let info = describe(index, device)?;
            let primary = check("cuDevicePrimaryCtxRetain", cust::context::Context::new(device))?;
            // Leaked on purpose, once for each GPU: see the head of this file.
            *opened.entry(index).or_insert(Context(Box::leak(Box::new(Opened { info, primary }))))
        }
    };
    context.make_current()?;
    Ok(context)
}

/// An opened GPU; a cheap handle that any thread may hold.
#[derive(Clone, Copy)]
pub struct Context(&'static Opened);

struct Opened {
    info: DeviceInfo,
    primary: cust::context::Context,
}

impl Context {
    /// What is known of the GPU.
    pub fn info(&self) -> &'static DeviceInfo {
        &self.0.info
    }

    /// How many multiprocessors the GPU has.
    ///
    /// # Errors
    ///
    /// What the driver answered.
    pub fn multiprocessors(&self) -> Result<usize, CudaError> {
        let count = handle(self.0.info.index)?.get_attribute(DeviceAttribute::MultiprocessorCount);
        Ok(check("cuDeviceGetAttribute", count)?.unsigned_abs() as usize)
    }

    /// Makes this the context of the calling thread's driver calls. A thread that has not done so has none.
    ///
    /// # Errors
    ///
    /// What the driver answered.
    pub fn make_current(&self) -> Result<(), CudaError> {
        check("cuCtxSetCurrent", CurrentContext::set_current(&self.0.primary))
    }

    /// Waits until everything started in this context is done.
    ///
    /// # Errors
    ///
    /// What the driver answered, which may be the failure of a kernel started before.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.make_current()?;
        check("cuCtxSynchronize", CurrentContext::synchronize())
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({:?})", self.0.info)
    }
}

impl PartialEq for Context {
    /// Whether both are the same GPU.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for Context {}

/// The latest CUDA version that the driver supports.
///
/// # Errors
///
/// [`CudaError::NoDriver`] where there is none, or what it answered.
pub fn driver_version() -> Result<CudaVersion, CudaError> {
    if let Some(reason) = driver::absence() {
        return Err(CudaError::NoDriver { reason: reason.to_owned() });
    }
    let version = check("cuDriverGetVersion", cust::CudaApiVersion::get())?;
    Ok(CudaVersion { major: version.major().unsigned_abs(), minor: version.minor().unsigned_abs() })
}

/// Starts the driver and counts its GPUs: at least one.
fn count() -> Result<usize, CudaError> {
    let found = driver_version()?;
    if found < NEEDED {
        return Err(CudaError::DriverTooOld { found, needed: NEEDED });
    }
    match cust::init(CudaFlags::empty()) {
        Err(cust::error::CudaError::NoDevice) => return Err(CudaError::NoDevice),
        started => check("cuInit", started)?,
    }
    match check("cuDeviceGetCount", Device::num_devices())? {
        0 => Err(CudaError::NoDevice),
        count => Ok(count as usize),
    }
}

fn handle(index: usize) -> Result<Device, CudaError> {
    let ordinal = u32::try_from(index).expect("below the driver's count, which is a u32");
    check("cuDeviceGet", Device::get_device(ordinal))
}

fn describe(index: usize, device: Device) -> Result<DeviceInfo, CudaError> {
    let attribute = |which| check("cuDeviceGetAttribute", device.get_attribute(which));
    let major = attribute(DeviceAttribute::ComputeCapabilityMajor)?.unsigned_abs();
    let minor = attribute(DeviceAttribute::ComputeCapabilityMinor)?.unsigned_abs();
    Ok(DeviceInfo {
        index,
        name: check("cuDeviceGetName", device.name())?,
        compute_capability: (major, minor),
        total_memory: check("cuDeviceTotalMem_v2", device.total_memory())?,
    })
}
