//! Kernels with their parameters' types, one function for each signature: the only place of this crate that launches.
//!
//! Addresses are [`Pointer`]s, which the backend makes of tensors and blocks that it holds until the launch is in the queue. All work
//! of a GPU is in one queue, so memory that is given back later is not used again before a kernel is done with it.

use crate::CudaError;
use crate::backend::walk::Walk;
use crate::gpu::Gpu;
use crate::module::{Argument, Launch, Parameter};

/// Where a kernel's operand begins in the GPU's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Pointer(pub(crate) u64);

// SAFETY: a number of 64 bits, as a pointer is on the GPU.
unsafe impl Parameter for Pointer {}
// SAFETY: `Walk` of cuda/walk.h has these members in this order, and none of them needs padding.
unsafe impl<const N: usize> Parameter for Walk<N> {}

/// Puts a kernel into the GPU's queue.
fn submit(gpu: &Gpu, kernel: &str, launch: Launch, arguments: &[Argument]) -> Result<(), CudaError> {
    let kernel = gpu.kernel(kernel)?;
    // SAFETY: the functions below pass the parameters that their kernels have, and the backend computes walks that stay in the
    // memory of their operands, which the queue keeps from being used again too early.
    unsafe { kernel.launch(launch, &gpu.stream, arguments) }
}

macro_rules! launchers {
    ($( $(#[$doc:meta])+ $name:ident($($argument:ident: $T:ty),* $(,)?); )+) => { $(
        $(#[$doc])+
        pub(crate) fn $name(gpu: &Gpu, kernel: &str, launch: Launch, $($argument: $T),*) -> Result<(), CudaError> {
            submit(gpu, kernel, launch, &[$(Argument::from(&$argument)),*])
        }
    )+ };
}

launchers! {
    /// `map0` of cuda/map.h with a constant of each size: `fill_SIZE`.
    fill_u8(walk: Walk<1>, y: Pointer, value: u8);
    /// As [`fill_u8`].
    fill_u16(walk: Walk<1>, y: Pointer, value: u16);
    /// As [`fill_u8`].
    fill_u32(walk: Walk<1>, y: Pointer, value: u32);
    /// As [`fill_u8`].
    fill_u64(walk: Walk<1>, y: Pointer, value: u64);
    /// `map1` of cuda/map.h: `unary_…`, `predicate_…`, `copy_…`, `cast_…`.
    map1(walk: Walk<2>, y: Pointer, a: Pointer);
    /// `map2` of cuda/map.h: `binary_…`, `gradient_…`, `compare_…`.
    map2(walk: Walk<3>, y: Pointer, a: Pointer, b: Pointer);
    /// `map3` of cuda/map.h: `select_…`.
    map3(walk: Walk<4>, y: Pointer, a: Pointer, b: Pointer, c: Pointer);
    /// `range_T`: in integers if `whole` is not 0, else in doubles.
    range(n: u32, y: Pointer, whole: u32, a: i64, b: i64, start: f64, step: f64);
}
