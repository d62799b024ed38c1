//! The table of micro-kernels of each type and instruction level: [`tile`](super::tile) instantiated.

use super::amx::Tiles;
use super::bytes::Pair;
use super::tile::{self, Tile, TileFn};
use super::vector::{Lanes, Vector};
use crate::cpu::isa::Isa;

/// The micro-kernels of one type at one instruction level, and the tile sizes that they want.
pub struct Kernels<S: 'static> {
    /// The level that they need.
    pub(super) isa: Isa,
    /// Rows of a tile: the width of a panel of A.
    pub(super) mr: usize,
    /// Columns of a tile: the width of a panel of B.
    pub(super) nr: usize,
    /// Lanes of a vector.
    pub(super) lanes: usize,
    /// The most steps that a block of k has: a panel of B of this depth stays in the first-level cache.
    pub(super) kc: usize,
    /// Kernels on packed panels, by `[rows - 1][vectors - 1]`.
    pub(super) packed: &'static [&'static [TileFn<S>]],
    /// Kernels on the operands in place, likewise.
    pub(super) direct: &'static [&'static [TileFn<S>]],
    /// The matrix tiles beside these kernels.
    pub(super) tiles: Option<Tiles>,
}

/// `[[f::<1, 1>, f::<1, 2>, ..], [f::<2, 1>, ..], ..]`.
macro_rules! by_rows {
    ($f:ident, [$($rows:literal)*], $vectors:tt) => {
        &[$(by_rows!(@row $f, $rows, $vectors)),*]
    };
    (@row $f:ident, $rows:literal, [$($vectors:literal)*]) => {
        &[$($f::<$rows, $vectors>),*]
    };
}

macro_rules! kernels {
    (
        $(#[$doc:meta])* $name:ident: [$elem:ty] in $vector:ty, level $isa:expr, features [$(#[$feature:meta])?],
        mr $mr:literal, nv $nv:literal, kc $kc:literal, rows $rows:tt, vectors $vectors:tt
    ) => {
        $(#[$doc])*
        pub(in crate::cpu::gemm) static $name: Kernels<$elem> = {
            const NR: usize = $nv * <$vector as Vector>::LANES;

            $(#[$feature])?
            unsafe fn packed<const R: usize, const N: usize>(t: &Tile<$elem>) {
                // SAFETY: the contract is the same, and this function has the features.
                unsafe { tile::packed::<$vector, $mr, NR, R, N>(t) }
            }

            $(#[$feature])?
            unsafe fn direct<const R: usize, const N: usize>(t: &Tile<$elem>) {
                // SAFETY: the contract is the same, and this function has the features.
                unsafe { tile::direct::<$vector, R, N>(t) }
            }

            Kernels {
                isa: $isa,
                mr: $mr,
                nr: NR,
                lanes: <$vector as Vector>::LANES,
                kc: $kc,
                packed: by_rows!(packed, $rows, $vectors),
                direct: by_rows!(direct, $rows, $vectors),
                tiles: None,
            }
        };
    };
}

kernels! {
    PORTABLE_F32: [f32] in Lanes<f32, 4>, level Isa::Portable, features [],
    mr 4, nv 2, kc 256, rows [1 2 3 4], vectors [1 2]
}
kernels! {
    PORTABLE_F64: [f64] in Lanes<f64, 2>, level Isa::Portable, features [],
    mr 4, nv 2, kc 256, rows [1 2 3 4], vectors [1 2]
}
kernels! {
    PORTABLE_I32: [i32] in Lanes<i32, 4>, level Isa::Portable, features [],
    mr 4, nv 2, kc 256, rows [1 2 3 4], vectors [1 2]
}
kernels! {
    PORTABLE_I64: [i64] in Lanes<i64, 2>, level Isa::Portable, features [],
    mr 4, nv 2, kc 256, rows [1 2 3 4], vectors [1 2]
}

kernels! {
    PORTABLE_PAIR: [Pair] in Lanes<Pair, 4>, level Isa::Portable, features [],
    mr 4, nv 2, kc 256, rows [1 2 3 4], vectors [1 2]
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use super::super::vector_x86::{F32x8, F32x16, F64x4, F64x8, PairVnni, Pairx8, Pairx16};
    use super::*;

    kernels! {
        /// 12 of the 16 registers hold the tile, 2 a step of B, 1 a broadcast: 4 x 24 needs all 16, and the compiler spills.
        /// A panel of each operand, 22 KiB, fits a first-level cache of 32 KiB.
        AVX2_F32: [f32] in F32x8, level Isa::Avx2, features [#[target_feature(enable = "avx2,fma")]],
        mr 6, nv 2, kc 256, rows [1 2 3 4 5 6], vectors [1 2]
    }
    kernels! {
        AVX2_F64: [f64] in F64x4, level Isa::Avx2, features [#[target_feature(enable = "avx2,fma")]],
        mr 6, nv 2, kc 256, rows [1 2 3 4 5 6], vectors [1 2]
    }
    kernels! {
        AVX2_I32: [i32] in Lanes<i32, 8>, level Isa::Avx2, features [#[target_feature(enable = "avx2")]],
        mr 4, nv 2, kc 256, rows [1 2 3 4], vectors [1 2]
    }
    kernels! {
        AVX2_I64: [i64] in Lanes<i64, 4>, level Isa::Avx2, features [#[target_feature(enable = "avx2")]],
        mr 4, nv 2, kc 256, rows [1 2 3 4], vectors [1 2]
    }
    kernels! {
        AVX2_PAIR: [Pair] in Pairx8, level Isa::Avx2, features [#[target_feature(enable = "avx2")]],
        mr 6, nv 2, kc 256, rows [1 2 3 4 5 6], vectors [1 2]
    }
    kernels! {
        AVX512_PAIR: [Pair] in Pairx16, level Isa::Avx512,
        features [#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]],
        mr 8, nv 3, kc 384, rows [1 2 3 4 5 6 7 8], vectors [1 2 3]
    }
    kernels! {
        VNNI_PAIR: [Pair] in PairVnni, level Isa::Avx512,
        features [#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]],
        mr 8, nv 3, kc 384, rows [1 2 3 4 5 6 7 8], vectors [1 2 3]
    }
    kernels! {
        /// 24 of the 32 registers hold the tile, 3 a step of B; the broadcasts have the rest.
        AVX512_F32: [f32] in F32x16, level Isa::Avx512,
        features [#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]],
        mr 8, nv 3, kc 384, rows [1 2 3 4 5 6 7 8], vectors [1 2 3]
    }
    kernels! {
        AVX512_F64: [f64] in F64x8, level Isa::Avx512,
        features [#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]],
        mr 8, nv 3, kc 256, rows [1 2 3 4 5 6 7 8], vectors [1 2 3]
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::super::vector_neon::{F32x4, F64x2};
    use super::*;

    kernels! {
        /// 24 of the 32 registers hold the tile, 3 a step of B, 2 a step of A.
        NEON_F32: [f32] in F32x4, level Isa::Neon, features [],
        mr 8, nv 3, kc 384, rows [1 2 3 4 5 6 7 8], vectors [1 2 3]
    }
    kernels! {
        NEON_F64: [f64] in F64x2, level Isa::Neon, features [],
        mr 8, nv 3, kc 256, rows [1 2 3 4 5 6 7 8], vectors [1 2 3]
    }
}

/// The table of each type, by level.
pub(super) mod tables {
    use super::*;

    macro_rules! table {
        ($($elem:ident: $portable:ident, $avx2:ident, $avx512:ident $(, tiles $amx:path)? $(, neon $neon:ident)?;)*) => {$(
            /// The kernels of this type at a level, or the nearest below it that has some.
            pub(in super::super) fn $elem(isa: Isa) -> &'static Kernels<$elem> {
                match isa {
                    $(
                        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
                        Isa::Amx => $amx(crate::cpu::f32_mode::f32_mode()),
                    )?
                    #[cfg(target_arch = "x86_64")]
                    level if level >= Isa::Avx512 => &x86::$avx512,
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => &x86::$avx2,
                    $(
                        #[cfg(target_arch = "aarch64")]
                        Isa::Neon => &arm::$neon,
                    )?
                    _ => &$portable,
                }
            }
        )*};
    }

    table! {
        f32: PORTABLE_F32, AVX2_F32, AVX512_F32, tiles super::super::amx::tables::of_mode, neon NEON_F32;
        f64: PORTABLE_F64, AVX2_F64, AVX512_F64, neon NEON_F64;
        i32: PORTABLE_I32, AVX2_I32, AVX2_I32;
        i64: PORTABLE_I64, AVX2_I64, AVX2_I64;
    }

    /// The kernels of pairs of steps. One extension of AVX-512 multiplies and adds them at once; the sums are exact either way.
    pub(in super::super) fn pair(isa: Isa) -> &'static Kernels<Pair> {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Amx if is_x86_feature_detected!("avx512vnni") => &x86::VNNI_PAIR,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Amx => &x86::AVX512_PAIR,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &x86::AVX2_PAIR,
            _ => &PORTABLE_PAIR,
        }
    }
}

/// The blocking of the AVX-512 kernels, 8 x 48 and 8 x 24, on plain arrays: tests it where AVX-512 cannot run.
#[cfg(test)]
pub(super) mod twin {
    use super::*;

    kernels! {
        WIDE_F32: [f32] in Lanes<f32, 16>, level Isa::Portable, features [],
        mr 8, nv 3, kc 384, rows [1 2 3 4 5 6 7 8], vectors [1 2 3]
    }
    kernels! {
        WIDE_F64: [f64] in Lanes<f64, 8>, level Isa::Portable, features [],
        mr 8, nv 3, kc 256, rows [1 2 3 4 5 6 7 8], vectors [1 2 3]
    }
    kernels! {
        WIDE_PAIR: [Pair] in Lanes<Pair, 16>, level Isa::Portable, features [],
        mr 8, nv 3, kc 384, rows [1 2 3 4 5 6 7 8], vectors [1 2 3]
    }
}
