//! The kernels whose operand B lies in planes.

use super::super::unit::{PlaneFn, PlaneJob};
use std::arch::asm;

/// By [`Products`](super::super::Products).
pub(super) const TABLE: [PlaneFn; 4] =
    [one_correlation, three_correlations, four_correlations, six_correlations];

/// Loads a tile of a part of the planes: `plane!(6 h 64)`.
macro_rules! plane {
    ($tile:literal h $at:literal) => {
        concat!("tileloadd tmm", $tile, ", [{h} + {row}*1 + ", $at, "]")
    };
    ($tile:literal m $at:literal) => {
        concat!("tileloadd tmm", $tile, ", [{m} + {row}*1 + ", $at, "]")
    };
    ($tile:literal l $at:literal) => {
        concat!("tileloadd tmm", $tile, ", [{l} + {row}*1 + ", $at, "]")
    };
}

/// A kernel whose B lies in planes: what it does with one block of 32 steps, `$bytes` of A.
macro_rules! correlation {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, [$($line:expr,)*]) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// See [`PlaneFn`].
        unsafe fn $name(job: &PlaneJob) {
            // SAFETY: the instructions exist and tiles are configured; A holds `blocks` blocks, every offset leads to 16 rows of
            // 32 words in each part, C is 32 rows of 32 values (the caller's word).
            unsafe {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "2:",
                    "mov {h}, [{offsets}]",
                    "add {h}, {planes}",
                    "lea {m}, [{h} + {part}]",
                    "lea {l}, [{m} + {part}]",
                    $($line,)*
                    "add {a}, {bytes}",
                    "add {offsets}, 8",
                    "dec {blocks}",
                    "jnz 2b",
                    "tilestored [{c} + {c_row}*1], tmm0",
                    "tilestored [{c} + {c_row}*1 + 64], tmm1",
                    "tilestored [{c} + {c_row}*1 + 2048], tmm2",
                    "tilestored [{c} + {c_row}*1 + 2112], tmm3",
                    a = inout(reg) job.a => _,
                    offsets = inout(reg) job.offsets => _,
                    blocks = inout(reg) job.blocks => _,
                    planes = in(reg) job.planes,
                    part = in(reg) job.part,
                    row = in(reg) job.row,
                    line = in(reg) 64usize,
                    c = in(reg) job.c,
                    c_row = in(reg) 128usize,
                    h = out(reg) _,
                    m = out(reg) _,
                    l = out(reg) _,
                    bytes = const $bytes,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

correlation! {
    /// hh.
    one_correlation, 2048, [
        load!(4 a 0), plane!(6 h 0), mul!(0 4 6), plane!(7 h 64), mul!(1 4 7),
        load!(5 a 1024), mul!(2 5 6), mul!(3 5 7),
    ]
}

correlation! {
    /// hm, hh, mh.
    three_correlations, 4096, [
        load!(4 a 0), plane!(6 m 0), mul!(0 4 6), plane!(7 m 64), mul!(1 4 7),
        load!(5 a 1024), mul!(2 5 6), plane!(6 h 0), mul!(3 5 7), plane!(7 h 64),
        mul!(0 4 6), mul!(1 4 7), load!(4 a 2048), mul!(2 5 6), mul!(3 5 7), load!(5 a 3072),
        mul!(0 4 6), mul!(1 4 7), mul!(2 5 6), mul!(3 5 7),
    ]
}

correlation! {
    /// hm, mm, mh, hh.
    four_correlations, 4096, [
        load!(4 a 0), plane!(6 m 0), mul!(0 4 6), plane!(7 m 64), mul!(1 4 7),
        load!(5 a 1024), mul!(2 5 6), mul!(3 5 7),
        load!(4 a 2048), mul!(0 4 6), mul!(1 4 7), load!(5 a 3072), mul!(2 5 6), plane!(6 h 0), mul!(3 5 7),
        plane!(7 h 64),
        mul!(0 4 6), mul!(1 4 7), load!(4 a 0), mul!(2 5 6), mul!(3 5 7), load!(5 a 1024),
        mul!(0 4 6), mul!(1 4 7), mul!(2 5 6), mul!(3 5 7),
    ]
}

correlation! {
    /// hl, hm, mm, mh, lh, hh.
    six_correlations, 6144, [
        load!(4 a 0), plane!(6 l 0), mul!(0 4 6), plane!(7 l 64), mul!(1 4 7),
        load!(5 a 1024), mul!(2 5 6), plane!(6 m 0), mul!(3 5 7), plane!(7 m 64),
        mul!(0 4 6), mul!(1 4 7), load!(4 a 2048), mul!(2 5 6), mul!(3 5 7), load!(5 a 3072),
        mul!(0 4 6), mul!(1 4 7), mul!(2 5 6), plane!(6 h 0), mul!(3 5 7), plane!(7 h 64),
        mul!(0 4 6), mul!(1 4 7), load!(4 a 4096), mul!(2 5 6), mul!(3 5 7), load!(5 a 5120),
        mul!(0 4 6), mul!(1 4 7), load!(4 a 0), mul!(2 5 6), mul!(3 5 7), load!(5 a 1024),
        mul!(0 4 6), mul!(1 4 7), mul!(2 5 6), mul!(3 5 7),
    ]
}
