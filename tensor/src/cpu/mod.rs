//! The CPU backend.
pub mod gemm;
pub mod isa;
pub mod memory;
pub mod simd;
pub mod threads;
