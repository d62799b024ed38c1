//! Kernels over vectors, compiled for each level of instructions and chosen when they run.

use crate::cpu::gemm::{Lanes, Scalar, Vector};
use crate::cpu::isa::Isa;

/// Loops over vectors of `S`: the arguments are the fields.
pub(super) trait Kernel<S: Scalar>: Sized {
    /// The loops. Inlined into a function that has the instructions of `V`.
    ///
    /// # Safety
    /// The instructions of `V` exist.
    unsafe fn run<V: Vector<Elem = S>>(self);
}

/// A type that kernels compute in.
pub(super) trait Levels: Scalar {
    /// Lanes of a vector at a level.
    fn lanes(isa: Isa) -> usize;

    /// Runs a kernel with the vectors of a level, which the machine has.
    fn run<K: Kernel<Self>>(isa: Isa, kernel: K);
}

macro_rules! levels {
    ($($S:ident: $portable:literal, $avx2:ident, $avx512:ident, $neon:ident;)*) => {$(
        impl Levels for $S {
            fn lanes(isa: Isa) -> usize {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => <crate::cpu::gemm::$avx2 as Vector>::LANES,
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 | Isa::Amx => <crate::cpu::gemm::$avx512 as Vector>::LANES,
                    #[cfg(target_arch = "aarch64")]
                    Isa::Neon => <crate::cpu::gemm::$neon as Vector>::LANES,
                    _ => $portable,
                }
            }

            fn run<K: Kernel<$S>>(isa: Isa, kernel: K) {
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,fma")]
                unsafe fn avx2<K: Kernel<$S>>(kernel: K) {
                    // SAFETY: this function has the instructions.
                    unsafe { kernel.run::<crate::cpu::gemm::$avx2>() }
                }
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
                unsafe fn avx512<K: Kernel<$S>>(kernel: K) {
                    // SAFETY: this function has the instructions.
                    unsafe { kernel.run::<crate::cpu::gemm::$avx512>() }
                }
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: levels come from `isa::isa`, which gives none that the machine lacks.
                    Isa::Avx2 => unsafe { avx2(kernel) },
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: as above.
                    Isa::Avx512 | Isa::Amx => unsafe { avx512(kernel) },
                    #[cfg(target_arch = "aarch64")]
                    // SAFETY: every machine of the architecture has the instructions.
                    Isa::Neon => unsafe { kernel.run::<crate::cpu::gemm::$neon>() },
                    // SAFETY: plain arrays need no instructions of their own.
                    _ => unsafe { kernel.run::<Lanes<$S, $portable>>() },
                }
            }
        }
    )*};
}

levels! {
    f32: 4, F32x8, F32x16, F32x4;
    f64: 2, F64x4, F64x8, F64x2;
}
