//! The contract suite on the emulated GPU: the crate's own kernels, and all of the Rust code that launches them.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use gradus_kernels_cuda::emulator::{self, EmulatorError};
use tensor::{Device, testing};

/// Runs a part of the suite, unless there is no C++ compiler; one at a time, as a report is the last launch's.
fn on_emulated_gpu(check: fn(&Device)) {
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

#[test]
fn copies() {
    on_emulated_gpu(testing::check_copies);
}

#[test]
fn unary_ops() {
    on_emulated_gpu(testing::check_unary);
}

#[test]
fn binary_ops() {
    on_emulated_gpu(testing::check_binary);
}

#[test]
fn comparisons() {
    on_emulated_gpu(testing::check_compare);
    on_emulated_gpu(testing::check_predicate);
    on_emulated_gpu(testing::check_select);
}

#[test]
fn reductions() {
    on_emulated_gpu(testing::check_reduce);
    on_emulated_gpu(testing::check_arg_reduce);
}

#[test]
fn scans() {
    on_emulated_gpu(testing::check_scan);
}

#[test]
fn sorting() {
    on_emulated_gpu(testing::check_sort);
}

#[test]
fn indexing() {
    on_emulated_gpu(testing::check_index);
}

#[test]
fn random_numbers() {
    on_emulated_gpu(testing::check_random);
}

#[test]
fn products() {
    on_emulated_gpu(testing::check_matmul);
}

#[test]
fn convolutions() {
    on_emulated_gpu(testing::check_conv);
}

#[test]
fn pooling() {
    on_emulated_gpu(testing::check_pool);
}

#[test]
fn softmax_and_losses() {
    on_emulated_gpu(testing::check_softmax);
    on_emulated_gpu(testing::check_cross_entropy);
}

#[test]
fn norms() {
    on_emulated_gpu(testing::check_norms);
}

#[test]
fn optimizers() {
    on_emulated_gpu(testing::check_optimizers);
}
