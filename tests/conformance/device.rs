//! Where cases are replayed: the CPU, or the GPU that `GRADUS_TEST_DEVICE` names: `cuda:0`, or `emulated`.

use gradus::tensor::Device;
use std::sync::OnceLock;

pub(crate) fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| match std::env::var_os("GRADUS_TEST_DEVICE") {
        Some(_) => gpu(),
        None => Device::cpu(),
    })
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
fn gpu() -> Device {
    let gpu = kernels_cuda::emulator::device_for_tests(&[], env!("CARGO_TARGET_TMPDIR").as_ref());
    gpu.unwrap().expect("a C++ compiler makes the emulated GPU")
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn gpu() -> Device {
    panic!("GRADUS_TEST_DEVICE names a GPU, and there are none on this system")
}
