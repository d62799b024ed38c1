//! All tests that run on a real GPU, in one program: `scripts/gpu-check` bundles it, as one for each file would be too large.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
// Each file has the helpers that it shares with others for itself.
#![allow(clippy::duplicate_mod)]

// As the tests of that crate call it.
extern crate kernels_cuda as gradus_kernels_cuda;

#[path = "../../../kernels-cuda/tests/against_cpu.rs"]
mod against_cpu;
#[path = "../../../kernels-cuda/tests/bad_input.rs"]
mod bad_input;
#[path = "../../../kernels-cuda/tests/contract.rs"]
mod contract;
#[path = "../../../kernels-cuda/tests/convolutions.rs"]
mod convolutions;
#[path = "../../../kernels-cuda/tests/fused.rs"]
mod fused;
#[path = "../../../kernels-cuda/tests/graph.rs"]
mod graph;
#[path = "../../../kernels-cuda/tests/hopper.rs"]
mod hopper;
#[path = "../../../kernels-cuda/tests/hopper_convolutions.rs"]
mod hopper_convolutions;
#[path = "../../../kernels-cuda/tests/hopper_numbers.rs"]
mod hopper_numbers;
#[path = "../../../kernels-cuda/tests/large.rs"]
mod large;
#[path = "../../../tests/on_gpu.rs"]
mod on_gpu;
#[path = "../../../kernels-cuda/tests/products.rs"]
mod products;
#[path = "../../../kernels-cuda/tests/recurrent.rs"]
mod recurrent;
