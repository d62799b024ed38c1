//! The crate's own kernels on the emulated GPU, or on the one that `GRADUS_TEST_DEVICE` names, for the tests of a file.

use std::sync::{Mutex, PoisonError};

use gradus_kernels_cuda::emulator;
use tensor::Device;

/// Runs a check on it, unless there is no C++ compiler; one at a time, as a report is the last launch's.
pub(crate) fn on_emulated_gpu(check: fn(&Device)) {
    static DEVICE: Mutex<Option<Option<Device>>> = Mutex::new(None);
    let mut device = DEVICE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(device) = device.get_or_insert_with(open) else { return };
    let live = || device.backend().memory_stats().live_bytes;
    let before = live();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(device)));
    if let Some(report) = emulator::last_report() {
        panic!("{report}");
    }
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert_eq!(live(), before, "memory was not given back");
}

/// `None`, and a word about it, where there is no C++ compiler.
fn open() -> Option<Device> {
    emulator::device_for_tests(&[], env!("CARGO_TARGET_TMPDIR").as_ref()).unwrap()
}
