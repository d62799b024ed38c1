//! An emulated GPU: kernels run on the processor, behind a driver that stands in for NVIDIA's.
//!
//! A kernel that is written against `cuda/device.h` has two meanings. nvcc compiles it for a GPU; a C++ compiler makes a library of
//! it in which each CUDA thread is a fiber, and each primitive (barriers, shuffles, asynchronous copies, matrix fragments) does
//! what the hardware does, in an order drawn from a seed. [`install`] puts a driver in the place of `libcuda` that runs them, so that
//! the very host code of a program runs too, on a machine without a GPU.
//!
//! A launch that does something wrong fails, and [`last_report`] says what: an access outside of any allocation or array, a vector
//! that is not aligned, two threads racing for a place of shared memory, a deadlock with who waits where. Memory is poisoned with
//! NaN before it is written. What it cannot find: wrong memory orders between blocks, and anything about speed.
//!
//! ```no_run
//! use gradus_kernels_cuda::emulator;
//! # fn main() -> Result<(), emulator::EmulatorError> {
//! let library = emulator::compile("kernels/mine.cu".as_ref(), "target/emulated".as_ref())?;
//! emulator::install(&library)?; // before anything else asks for a device
//! assert_eq!(gradus_kernels_cuda::devices().unwrap()[0].name, "Emulated GPU");
//! # Ok(()) }
//! ```

mod compiler;
mod driver;
mod graphs;
mod library;
mod state;
mod tensor_map;

pub use compiler::{compile, compile_all, compile_with};
pub(crate) use compiler::{hash_of_source, write_headers};
pub use driver::driver_function;
pub use state::{BYTES, allocated, failing, graphs, last_report, limit_memory, set_compute_capability};

use crate::driver::stand_in;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use tensor::{Device, ErrorKind};

/// Why kernels cannot be emulated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmulatorError {
    /// There is no C++ compiler.
    #[error("no C++ compiler: {tried} could not be run: install g++ or clang++, or name one in CXX")]
    NoCompiler {
        /// The names that were tried.
        tried: String,
    },

    /// The kernels do not compile.
    #[error("{source_file}: does not compile with {compiler}:\n{output}", source_file = .source_file.display())]
    DoesNotCompile {
        /// The file with the kernels.
        source_file: PathBuf,
        /// The compiler.
        compiler: String,
        /// What it printed.
        output: String,
    },

    /// A file or folder could not be read or written.
    #[error("{path}: {reason}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },

    /// The library is not one of emulated kernels.
    #[error("{path}: not a library of emulated kernels: {reason}", path = .path.display())]
    NotKernels {
        /// The library.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The device cannot be opened.
    #[error(transparent)]
    Device(#[from] tensor::Error),

    /// Something has used the driver already.
    #[error("the emulator comes too late: a driver is in use; install it before anything asks for a device")]
    TooLate,
}

/// Whether the emulated GPU is in the place of the driver.
pub fn installed() -> bool {
    library::library().is_some()
}

/// Puts the emulated GPU in the place of the driver, for the whole process. Each tensor has a block of memory of its own there, so that
/// a step over its end is found.
///
/// # Errors
///
/// If the library cannot be loaded, or the driver has been used before.
pub fn install(library: &Path) -> Result<(), EmulatorError> {
    library::load(library)?;
    // SAFETY: each function of `driver` has the signature of the driver's documentation and lives forever.
    if unsafe { stand_in(driver_function) } { Ok(()) } else { Err(EmulatorError::TooLate) }
}

/// The emulated GPU as a device for tensors, with the kernels of this crate and those in `own`: compiled to a library in `folder` as
/// [`compile_with`] does, and installed, unless that was done before. `folder` may also be such a library.
///
/// # Errors
///
/// As [`compile_with`] and [`install`].
pub fn device(own: &[PathBuf], folder: &Path) -> Result<Device, EmulatorError> {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if !installed() {
        let library = if folder.is_file() { folder.to_owned() } else { compile_with(own, folder)? };
        install(&library)?;
    }
    Ok(crate::device(0)?)
}

/// The GPU that tests of kernels run on: the one that the variable `GRADUS_TEST_DEVICE` names, such as `cuda:0`; without it, or if it
/// is `emulated`, the emulated one. `None`, and a word about it on stderr, where that would need a C++ compiler and there is none.
///
/// Kernels are compiled into `folder`, or into the folder that `GRADUS_EMULATED` names, which may be a library instead.
///
/// # Errors
///
/// As [`device`], or if there is no such GPU.
pub fn device_for_tests(own: &[PathBuf], folder: &Path) -> Result<Option<Device>, EmulatorError> {
    let named = env::var("GRADUS_TEST_DEVICE").unwrap_or_default();
    if !matches!(named.as_str(), "" | "emulated") {
        let index = named.strip_prefix("cuda:").and_then(|index| index.parse().ok());
        let wrong = || {
            let message = format!("GRADUS_TEST_DEVICE is {named:?}, neither emulated nor cuda:0, cuda:1, …");
            tensor::Error::from(ErrorKind::Device(message))
        };
        return Ok(Some(crate::device(index.ok_or_else(wrong)?)?));
    }
    let place = env::var_os("GRADUS_EMULATED").map(PathBuf::from);
    match device(own, place.as_deref().unwrap_or(folder)) {
        Err(error @ EmulatorError::NoCompiler { .. }) => {
            eprintln!("skipped: {error}");
            Ok(None)
        }
        device => device.map(Some),
    }
}

/// As [`install`], with the caching allocator that a GPU has: for tests of what happens when memory runs out.
///
/// # Errors
///
/// As [`install`].
pub fn install_with_cache(library: &Path) -> Result<(), EmulatorError> {
    CACHES.store(true, Relaxed);
    install(library)
}

static CACHES: AtomicBool = AtomicBool::new(false);

/// Whether tensors share slabs of memory.
pub(crate) fn caches() -> bool {
    CACHES.load(Relaxed)
}
