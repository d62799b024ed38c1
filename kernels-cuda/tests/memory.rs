//! What happens to tensors when the memory of a GPU runs out, with the caching allocator over an emulated GPU of 16 MiB.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use std::path::Path;

use gradus_kernels_cuda::emulator::{self, EmulatorError};
use tensor::{Device, ErrorKind, Tensor};

const MIB: usize = 1 << 20;

/// `None`, and a word about it, where there is no C++ compiler.
fn gpu() -> Option<Device> {
    // Any library of kernels will do: nothing is computed.
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emulated/planted.cu");
    match emulator::compile(&kernels, env!("CARGO_TARGET_TMPDIR").as_ref()) {
        Ok(library) => emulator::install_with_cache(&library).unwrap(),
        Err(error @ EmulatorError::NoCompiler { .. }) => {
            eprintln!("skipped: {error}");
            return None;
        }
        Err(error) => panic!("{error}"),
    }
    emulator::limit_memory(16 * MIB);
    Some(gradus_kernels_cuda::device(0).unwrap())
}

fn bytes(n: usize, device: &Device) -> tensor::Result<Tensor> {
    Tensor::from_slice(&vec![7u8; n], [n], device)
}

// One test: there is one GPU, and the numbers below are of all of its memory.
#[test]
fn memory_is_shared_kept_given_back_and_an_error_when_it_runs_out() {
    let Some(device) = gpu() else { return };
    let stats = || device.backend().memory_stats();

    // Small tensors share a slab of 2 MiB.
    let (a, b) = (bytes(1000, &device).unwrap(), bytes(2000, &device).unwrap());
    assert_eq!((stats().live_bytes, stats().system_allocations), (1024 + 2048, 1));
    assert_eq!(emulator::allocated(), (1, 2 * MIB));
    drop((a, b));
    assert_eq!((stats().live_bytes, stats().cached_bytes, stats().peak_bytes), (0, 2 * MIB, 3072));

    // What was given back is taken again, whole or cut.
    drop(bytes(8 * MIB, &device).unwrap());
    let (c, d) = (bytes(4 * MIB, &device).unwrap(), bytes(3 * MIB, &device).unwrap());
    assert_eq!(stats().system_allocations, 2);
    drop((c, d));

    // 6 MiB are left, but the cache holds another 10: it is emptied, and the call succeeds.
    let e = bytes(12 * MIB, &device).unwrap();
    assert_eq!(emulator::allocated(), (1, 12 * MIB));

    // Nothing helps now; what is there stays usable.
    let error = bytes(5 * MIB, &device).unwrap_err();
    let expected = ErrorKind::OutOfMemory { device: "cuda:0".into(), bytes: 6 * MIB };
    assert_eq!(error.kind(), &expected, "{error}");
    assert_eq!(e.to_vec::<u8>().unwrap(), vec![7; 12 * MIB]);
    assert!(bytes(4 * MIB, &device).is_ok());

    drop(e);
    gradus_kernels_cuda::empty_cache(0).unwrap();
    assert_eq!((emulator::allocated(), stats().cached_bytes), ((0, 0), 0));
}
