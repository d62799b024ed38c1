//! The crate's own kernels on the emulated GPU, for the tests of a file.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use gradus_kernels_cuda::emulator::{self, EmulatorError};
use tensor::Device;

/// Runs a check on it, unless there is no C++ compiler; one at a time, as a report is the last launch's.
pub(crate) fn on_emulated_gpu(check: fn(&Device)) {
    static DEVICE: Mutex<Option<Option<Device>>> = Mutex::new(None);
    let mut device = DEVICE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(device) = device.get_or_insert_with(emulated_gpu) else { return };
    let before = emulator::allocated();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(device)));
    if let Some(report) = emulator::last_report() {
        panic!("{report}");
    }
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert_eq!(emulator::allocated(), before, "memory was not given back");
}

/// `None`, and a word about it, where there is no C++ compiler.
fn emulated_gpu() -> Option<Device> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda");
    let mut sources: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "cu"));
    sources.sort();
    match emulator::compile_all(&sources, env!("CARGO_TARGET_TMPDIR").as_ref()) {
        Ok(library) => emulator::install(&library).unwrap(),
        Err(error @ EmulatorError::NoCompiler { .. }) => {
            eprintln!("skipped: {error}");
            return None;
        }
        Err(error) => panic!("{error}"),
    }
    Some(gradus_kernels_cuda::device(0).unwrap())
}
