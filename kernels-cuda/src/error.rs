//! Why there is no CUDA device, or what the driver answered; each message says what to do.

use std::fmt;

use tensor::ErrorKind;

/// A version of CUDA, such as 13.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CudaVersion {
    /// The 13 of 13.0.
    pub major: u32,
    /// The 0 of 13.0.
    pub minor: u32,
}

impl fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The CUDA version that a driver must support. Programs for 13.0 run on driver 580 and all later ones.
pub const NEEDED: CudaVersion = CudaVersion { major: 13, minor: 0 };

/// Why a CUDA device cannot be used.
///
/// The message begins with `no CUDA device` wherever that is the trouble.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The driver's library cannot be opened, or does not exist for this target.
    #[error(
        "no CUDA device: there is no NVIDIA driver ({reason}): install driver 580 or newer, or run on the CPU"
    )]
    NoDriver {
        /// What the system said.
        reason: String,
    },

    /// The driver works, but lists no GPU.
    #[error(
        "no CUDA device: the NVIDIA driver finds no GPU: see whether `nvidia-smi -L` lists one and whether \
         CUDA_VISIBLE_DEVICES hides it, or run on the CPU"
    )]
    NoDevice,

    /// The driver cannot load kernels compiled for CUDA `needed`.
    #[error(
        "no CUDA device: the NVIDIA driver supports CUDA {found} and {needed} is needed: \
         install driver 580 or newer, or run on the CPU"
    )]
    DriverTooOld {
        /// What the driver supports.
        found: CudaVersion,
        /// What the kernels are compiled for.
        needed: CudaVersion,
    },

    /// There are GPUs, but fewer than asked for.
    #[error("no CUDA device {index}: the GPUs here are cuda:0 to cuda:{}", .count.saturating_sub(1))]
    NoSuchDevice {
        /// The device that was asked for, counted from 0.
        index: usize,
        /// How many there are.
        count: usize,
    },

    /// There is a GPU, but nothing to run on it: nvcc was not found when the program was built.
    #[error(
        "no CUDA device: this program was built without kernels for the {device}, as no nvcc was found: install the CUDA \
         toolkit 13.0 (scripts/cuda-toolkit does) and build again with NVCC set, or run on the CPU"
    )]
    KernelsNotBuilt {
        /// The name of the GPU.
        device: String,
    },

    /// There is a GPU, and a folder was named for its kernels, which has none.
    #[error(
        "no CUDA device: no kernels can be read from {folder}, which GRADUS_CUDA_KERNELS names: {reason}"
    )]
    KernelsUnreadable {
        /// The folder.
        folder: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The GPU has too little memory left.
    #[error("cuda:{index}: {requested} bytes do not fit: {free} of {total} are free")]
    OutOfMemory {
        /// The device.
        index: usize,
        /// How many bytes were asked for.
        requested: usize,
        /// How many were free just after.
        free: usize,
        /// How many the device has.
        total: usize,
    },

    /// Something has no place in a graph.
    #[error("{what} cannot be captured in a graph: do it before the capture or after a replay")]
    NotCapturable {
        /// What was done.
        what: &'static str,
    },

    /// A driver function failed.
    #[error("{call}: the CUDA driver answered {code} ({name})")]
    Driver {
        /// The driver function.
        call: &'static str,
        /// What it answered, as a plain number: newer drivers have codes that no list here knows.
        code: u32,
        /// The name of that code, such as `CUDA_ERROR_OUT_OF_MEMORY`.
        name: String,
    },
}

impl From<CudaError> for tensor::Error {
    fn from(error: CudaError) -> Self {
        match error {
            CudaError::OutOfMemory { index, requested, .. } => {
                ErrorKind::OutOfMemory { device: format!("cuda:{index}"), bytes: requested }.into()
            }
            other => ErrorKind::Device(other.to_string()).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensor_errors_say_the_same() {
        let error = tensor::Error::from(CudaError::NoDevice);
        assert_eq!(error.to_string(), CudaError::NoDevice.to_string());
        let error = CudaError::OutOfMemory { index: 1, requested: 64, free: 0, total: 8 };
        assert_eq!(
            tensor::Error::from(error).kind(),
            &ErrorKind::OutOfMemory { device: "cuda:1".into(), bytes: 64 }
        );
    }

    #[test]
    fn every_message_that_says_there_is_no_device_begins_so() {
        let errors = [
            CudaError::NoDriver { reason: "libcuda.so.1: not found".into() },
            CudaError::NoDevice,
            CudaError::DriverTooOld { found: CudaVersion { major: 12, minor: 4 }, needed: NEEDED },
            CudaError::NoSuchDevice { index: 7, count: 2 },
            CudaError::KernelsNotBuilt { device: "NVIDIA H200".into() },
            CudaError::KernelsUnreadable {
                folder: "kernels".into(),
                reason: "it has no cubins or fatbins".into(),
            },
        ];
        for error in errors {
            assert!(error.to_string().starts_with("no CUDA device"), "{error}");
        }
    }

    #[test]
    fn messages_hold_the_figures() {
        let error = CudaError::DriverTooOld { found: CudaVersion { major: 12, minor: 4 }, needed: NEEDED };
        assert!(error.to_string().contains("supports CUDA 12.4 and 13.0 is needed"), "{error}");
        let error = CudaError::NoSuchDevice { index: 7, count: 2 };
        assert_eq!(error.to_string(), "no CUDA device 7: the GPUs here are cuda:0 to cuda:1");
    }
}
