//! Says what this machine has to compute with, and the exact fix for what is missing.
//!
//! `cargo run --release --features cuda --example doctor`

use gradus::prelude::*;
use gradus::tensor::cpu::{isa, threads};
use kernels_cuda as cuda;

fn main() {
    let levels: Vec<&str> = isa::available().iter().map(|level| level.name()).collect();
    line("processor", &format!("{} threads; instructions: {}", threads::num_threads(), levels.join(", ")));
    match cuda::driver_version() {
        Ok(version) => line("driver", &format!("supports CUDA {version}; {} is needed", cuda::NEEDED)),
        Err(error) => line("driver", &error.to_string()),
    }
    let without = "none: no nvcc was found when this was built; run `export NVCC=$(scripts/cuda-toolkit target/cuda-toolkit)` and \
                   build again";
    line("kernels", cuda::built_with().unwrap_or(without));
    let devices = match cuda::devices() {
        Ok(devices) => devices,
        Err(error) => {
            // Without a driver that was said above.
            if cuda::driver_version().is_ok() {
                line("devices", &error.to_string());
            }
            vec![]
        }
    };
    for device in &devices {
        line("device", &device.to_string());
        match try_out(device.index) {
            Ok(said) => line("", &said),
            Err(error) => line("", &format!("does not work: {error}")),
        }
    }
}

fn line(what: &str, text: &str) {
    println!("{what:<11}{text}");
}

/// A product on the device, compared with the one on the processor.
fn try_out(index: usize) -> Result<String> {
    let (device, cpu) = (cuda::device(index)?, Device::cpu());
    let (a, b) = (Tensor::randn([70, 50], &cpu)?, Tensor::randn([50, 30], &cpu)?);
    let here = a.matmul(&b)?;
    let there = a.to_device(&device)?.matmul(&b.to_device(&device)?)?.to_device(&cpu)?;
    let stats = device.backend().memory_stats();
    let memory = format!("{} KiB in use, {} KiB cached", stats.live_bytes >> 10, stats.cached_bytes >> 10);
    Ok(match here.all_close(&there, 1e-4, 1e-4)? {
        true => format!("works: a product is as on the processor; {memory}"),
        false => "computes wrongly: a product differs from that of the processor; run the tests of gradus-kernels-cuda".to_owned(),
    })
}
