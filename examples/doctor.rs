//! Says what this machine has to compute with, whether it works, and the exact fix for what is missing.
//!
//! `cargo run --release --features cuda --example doctor`

use gradus::cuda::{self, DeviceInfo};
use gradus::prelude::*;
use gradus::tensor::cpu::{isa, threads};
use std::process::Command;

fn main() {
    let mut fixes = vec![];
    processor();
    driver(&mut fixes);
    toolkit(&mut fixes);
    devices(&mut fixes);
    match fixes.as_slice() {
        [] => line("to do", "nothing"),
        _ => fixes.iter().enumerate().for_each(|(i, fix)| line(if i == 0 { "to do" } else { "" }, fix)),
    }
}

fn line(what: &str, text: &str) {
    println!("{what:<11}{text}");
}

/// The text after `key` in a file of lines such as `MemTotal:   123 kB`.
fn entry(file: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let found = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(found.trim_start_matches([' ', '\t', ':']).to_owned())
}

fn gib(bytes: f64) -> String {
    format!("{:.1} GiB", bytes / (1u64 << 30) as f64)
}

fn processor() {
    let name = entry("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    line("processor", &name);
    let levels: Vec<&str> = isa::available().iter().map(|level| level.name()).collect();
    line(
        "",
        &format!("instructions: {}; used: {} (GRADUS_ISA takes a lower one)", levels.join(", "), isa::isa()),
    );
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    line(
        "",
        &format!("threads: {} of {cores} (GRADUS_NUM_THREADS takes another number)", threads::num_threads()),
    );
    let kib = |key| entry("/proc/meminfo", key)?.split(' ').next()?.parse::<f64>().ok();
    if let (Some(total), Some(free)) = (kib("MemTotal"), kib("MemAvailable")) {
        line("memory", &format!("{}, {} free", gib(1024.0 * total), gib(1024.0 * free)));
    }
}

fn driver(fixes: &mut Vec<String>) {
    let release = entry("/proc/driver/nvidia/version", "NVRM version");
    match cuda::driver_version() {
        Ok(version) => {
            let release = release.map_or(String::new(), |release| format!(" ({release})"));
            line("driver", &format!("supports CUDA {version}; {} is needed{release}", cuda::NEEDED));
            if version < cuda::NEEDED {
                fixes.push("install NVIDIA's driver 580 or newer: https://www.nvidia.com/drivers".to_owned());
            }
        }
        Err(error) => {
            line("driver", &error.to_string());
            fixes.push(
                "for a GPU: install NVIDIA's driver 580 or newer, https://www.nvidia.com/drivers".to_owned(),
            );
        }
    }
}

/// The folder that kernels are taken from in the place of those that were built in.
fn folder() -> Option<String> {
    std::env::var("GRADUS_CUDA_KERNELS").ok().filter(|folder| !folder.is_empty())
}

/// What compiles kernels, and what was compiled.
fn toolkit(fixes: &mut Vec<String>) {
    let nvcc = cuda::toolkit();
    line(
        "toolkit",
        nvcc.as_deref().unwrap_or("none: there is no nvcc in NVCC, CUDA_PATH, /usr/local/cuda or PATH"),
    );
    match (folder(), cuda::built_with()) {
        (Some(folder), _) => line("kernels", &format!("those in {folder}, which GRADUS_CUDA_KERNELS names")),
        (None, Some(built)) => line("kernels", &format!("built in by {built}, and PTX for later GPUs")),
        (None, None) => {
            line("kernels", "none: no nvcc was found when this was built");
            let build = "cargo build --release --features cuda";
            fixes.push(match nvcc {
                Some(_) => format!("build the kernels: touch kernels-cuda/build.rs && {build}"),
                None => format!(
                    "build the kernels: export NVCC=$(scripts/cuda-toolkit target/cuda-toolkit) && {build}"
                ),
            });
        }
    }
    let has =
        |name: &str| Command::new(name).arg("--version").output().is_ok_and(|said| said.status.success());
    let named = std::env::var("CXX").ok().filter(|name| !name.trim().is_empty());
    let compilers =
        named.map_or(vec!["c++".to_owned(), "g++".to_owned(), "clang++".to_owned()], |name| vec![name]);
    match compilers.iter().find(|name| has(name)) {
        Some(name) => line("emulator", &format!("{name} compiles kernels for it: try --device emulated")),
        None => {
            line("emulator", "none: there is no C++ compiler");
            fixes.push("to emulate a GPU: install g++ or clang++, or name one in CXX".to_owned());
        }
    }
}

fn devices(fixes: &mut Vec<String>) {
    let devices = match cuda::devices() {
        Ok(devices) => devices,
        Err(error) => {
            // Without a driver that was said above.
            let said = if cuda::driver_version().is_ok() { error.to_string() } else { "no GPU".to_owned() };
            return line("devices", &said);
        }
    };
    for device in &devices {
        line("device", &device.to_string());
        if folder().is_none() {
            line("", &coverage(device));
        }
        match try_out(device.index) {
            Ok(said) => line("", &said),
            Err(error) => {
                line("", &format!("does not work: {error}"));
                fixes.push(format!("cuda:{}: {error}", device.index));
            }
        }
    }
}

/// Whether the kernels that were built in are machine code for this GPU.
fn coverage(device: &DeviceInfo) -> String {
    let (major, minor) = device.compute_capability;
    let built = cuda::built_with()
        .and_then(|built| built.rsplit_once("for "))
        .map_or("", |(_, architectures)| architectures);
    // Code for sm_80 runs on 8.6 and so on; that with an `a` on its own architecture alone.
    let fits = |architecture: &&str| match architecture.trim().strip_prefix("sm_") {
        Some(exact) if exact.ends_with('a') => exact.trim_end_matches('a') == format!("{major}{minor}"),
        Some(plain) => plain.parse::<u32>().is_ok_and(|n| n / 10 == major && n % 10 <= minor),
        None => false,
    };
    match built.split(',').rfind(fits) {
        _ if major < 8 => "too old: the kernels need compute capability 8.0".to_owned(),
        Some(architecture) => format!("has kernels of its own: {}", architecture.trim()),
        None if built.is_empty() => "no kernels are built in".to_owned(),
        None => format!(
            "runs PTX, compiled at its first use; GRADUS_CUDA_ARCHS=sm_{major}{minor} builds kernels of its own"
        ),
    }
}

/// A product on the device, compared with the one on the processor.
fn try_out(index: usize) -> Result<String> {
    let (device, cpu) = (cuda::device(index)?, Device::cpu());
    let (a, b) = (Tensor::randn([70, 50], &cpu)?, Tensor::randn([50, 30], &cpu)?);
    let here = a.matmul(&b)?;
    let there = a.to_device(&device)?.matmul(&b.to_device(&device)?)?.to_device(&cpu)?;
    if !here.all_close(&there, 1e-4, 1e-4)? {
        return Err(Error::argument("matmul", "a product differs from that of the processor")
            .hint("run the tests of gradus-kernels-cuda on it: GRADUS_TEST_DEVICE=cuda:0 cargo test -p gradus-kernels-cuda"));
    }
    let (free, total) = cuda::memory(index)?;
    let free = format!("{} of {} free", gib(free as f64), gib(total as f64));
    Ok(format!("works: a product is as on the processor; {free}"))
}
