//! [`levels!`]: one loop compiled for each instruction set, and the choice among them.

/// Defines a function from an [`Isa`](crate::cpu::isa::Isa) to a loop compiled for it.
///
/// With `vectors`, the loop is written over a vector type `V` and compiled for every level. With `doubles`, it is written over a
/// type `D` of one double, and the compiler is left to vectorise it, for AVX2 at most; with `once`, for the portable level only:
/// memory is what these loops wait for, and they are many to compile.
macro_rules! levels {
    (
        $(#[$doc:meta])+
        vectors fn $name:ident<$($G:ident: $Bound:path),+>($($arg:ident: $Arg:ty),+) $body:block
    ) => {
        $(#[$doc])+
        fn $name<$($G: $Bound),+>(isa: Isa) -> unsafe fn($($Arg),+) {
            unsafe fn portable<$($G: $Bound),+>($($arg: $Arg),+) {
                type V = $crate::cpu::simd::scalar::Plain;
                $body
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2<$($G: $Bound),+>($($arg: $Arg),+) {
                type V = $crate::cpu::simd::avx2::F32x8;
                $body
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
            unsafe fn avx512<$($G: $Bound),+>($($arg: $Arg),+) {
                type V = $crate::cpu::simd::avx512::F32x16;
                $body
            }
            #[cfg(target_arch = "aarch64")]
            unsafe fn neon<$($G: $Bound),+>($($arg: $Arg),+) {
                type V = $crate::cpu::simd::neon::F32x4;
                $body
            }
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => avx2::<$($G),+>,
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 | Isa::Amx => avx512::<$($G),+>,
                #[cfg(target_arch = "x86_64")]
                Isa::Portable | Isa::Neon => portable::<$($G),+>,
                #[cfg(target_arch = "aarch64")]
                Isa::Neon => neon::<$($G),+>,
                #[cfg(not(target_arch = "x86_64"))]
                _ => portable::<$($G),+>,
            }
        }
    };
    (
        $(#[$doc:meta])+
        doubles fn $name:ident<$($G:ident: $Bound:path),+>($($arg:ident: $Arg:ty),+) $body:block
    ) => {
        $(#[$doc])+
        fn $name<$($G: $Bound),+>(isa: Isa) -> unsafe fn($($Arg),+) {
            unsafe fn portable<$($G: $Bound),+>($($arg: $Arg),+) {
                type D = f64;
                $body
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn fused<$($G: $Bound),+>($($arg: $Arg),+) {
                type D = $crate::cpu::simd::fused::Fused;
                $body
            }
            #[cfg(target_arch = "aarch64")]
            unsafe fn fused<$($G: $Bound),+>($($arg: $Arg),+) {
                type D = $crate::cpu::simd::fused::Fused;
                $body
            }
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 | Isa::Avx512 | Isa::Amx => fused::<$($G),+>,
                #[cfg(target_arch = "aarch64")]
                Isa::Neon => fused::<$($G),+>,
                _ => portable::<$($G),+>,
            }
        }
    };
    (
        $(#[$doc:meta])+
        once fn $name:ident<$($G:ident: $Bound:path),+>($($arg:ident: $Arg:ty),+) $body:block
    ) => {
        $(#[$doc])+
        fn $name<$($G: $Bound),+>() -> unsafe fn($($Arg),+) {
            unsafe fn portable<$($G: $Bound),+>($($arg: $Arg),+) $body
            portable::<$($G),+>
        }
    };
}
pub(crate) use levels;
