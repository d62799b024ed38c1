//! The kernels whose operand A lies in planes of single steps, at any address.

use super::super::unit::{LinesFn, LinesJob};
use std::arch::asm;

/// By [`Products`](super::super::Products).
pub(super) const TABLE: [LinesFn; 4] = [one_gradient, three_gradients, four_gradients, six_gradients];

/// Loads a tile of 16 planes of a part, the upper or the lower ones: `lines!(4 upper h)`.
macro_rules! lines {
    ($tile:literal upper $part:ident) => {
        concat!("tileloadd tmm", $tile, ", [{", stringify!($part), "} + {row}*1]")
    };
    ($tile:literal lower $part:ident) => {
        concat!(
            "lea {other}, [{",
            stringify!($part),
            "} + {half}]\n",
            "tileloadd tmm",
            $tile,
            ", [{other} + {row}*1]"
        )
    };
}

/// Loads a tile of B: `panel!(6 1024)`.
macro_rules! panel {
    ($tile:literal $at:literal) => {
        concat!("tileloadd tmm", $tile, ", [{b} + {line}*1 + ", $at, "]")
    };
}

/// A kernel whose A lies in planes: what it does with one block of 32 steps, `$bytes` of B.
macro_rules! gradient {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, [$($line:expr,)*]) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// See [`LinesFn`].
        unsafe fn $name(job: &LinesJob) {
            // SAFETY: the instructions exist and tiles are configured; the planes of each part have 32 steps for each block, B
            // holds `blocks` blocks, C is 32 rows of 32 values (the caller's word).
            unsafe {
                asm!(
                    "test {other}, {other}",
                    "jz 2f",
                    "tileloadd tmm0, [{c} + {line}*2]",
                    "tileloadd tmm1, [{c} + {line}*2 + 64]",
                    "tileloadd tmm2, [{c} + {line}*2 + 2048]",
                    "tileloadd tmm3, [{c} + {line}*2 + 2112]",
                    "jmp 3f",
                    "2:",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "3:",
                    "lea {m}, [{h} + {part}]",
                    "lea {l}, [{h} + {part}*2]",
                    $($line,)*
                    "add {h}, 64",
                    "add {b}, {bytes}",
                    "dec {blocks}",
                    "jnz 3b",
                    "tilestored [{c} + {line}*2], tmm0",
                    "tilestored [{c} + {line}*2 + 64], tmm1",
                    "tilestored [{c} + {line}*2 + 2048], tmm2",
                    "tilestored [{c} + {line}*2 + 2112], tmm3",
                    h = inout(reg) job.planes => _,
                    m = out(reg) _,
                    l = out(reg) _,
                    other = inout(reg) usize::from(job.add) => _,
                    part = in(reg) job.part,
                    row = in(reg) job.row,
                    half = in(reg) 16 * job.row,
                    b = inout(reg) job.b => _,
                    blocks = inout(reg) job.blocks => _,
                    line = in(reg) 64usize,
                    c = in(reg) job.c,
                    bytes = const $bytes,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

gradient! {
    /// hh.
    one_gradient, 2048, [
        lines!(4 upper h), panel!(6 0), mul!(0 4 6), panel!(7 1024), mul!(1 4 7),
        lines!(5 lower h), mul!(2 5 6), mul!(3 5 7),
    ]
}

gradient! {
    /// hm, hh, mh.
    three_gradients, 4096, [
        lines!(4 upper h), panel!(6 2048), mul!(0 4 6), panel!(7 3072), mul!(1 4 7),
        lines!(5 lower h), mul!(2 5 6), panel!(6 0), mul!(3 5 7), panel!(7 1024),
        mul!(0 4 6), mul!(1 4 7), lines!(4 upper m), mul!(2 5 6), mul!(3 5 7), lines!(5 lower m),
        mul!(0 4 6), mul!(1 4 7), mul!(2 5 6), mul!(3 5 7),
    ]
}

gradient! {
    /// hm, mm, mh, hh.
    four_gradients, 4096, [
        lines!(4 upper h), panel!(6 2048), mul!(0 4 6), panel!(7 3072), mul!(1 4 7),
        lines!(5 lower h), mul!(2 5 6), mul!(3 5 7),
        lines!(4 upper m), mul!(0 4 6), mul!(1 4 7), lines!(5 lower m), mul!(2 5 6), panel!(6 0), mul!(3 5 7),
        panel!(7 1024),
        mul!(0 4 6), mul!(1 4 7), lines!(4 upper h), mul!(2 5 6), mul!(3 5 7), lines!(5 lower h),
        mul!(0 4 6), mul!(1 4 7), mul!(2 5 6), mul!(3 5 7),
    ]
}

gradient! {
    /// hl, hm, mm, mh, lh, hh.
    six_gradients, 6144, [
        lines!(4 upper h), panel!(6 4096), mul!(0 4 6), panel!(7 5120), mul!(1 4 7),
        lines!(5 lower h), mul!(2 5 6), panel!(6 2048), mul!(3 5 7), panel!(7 3072),
        mul!(0 4 6), mul!(1 4 7), lines!(4 upper m), mul!(2 5 6), mul!(3 5 7), lines!(5 lower m),
        mul!(0 4 6), mul!(1 4 7), mul!(2 5 6), panel!(6 0), mul!(3 5 7), panel!(7 1024),
        mul!(0 4 6), mul!(1 4 7), lines!(4 upper l), mul!(2 5 6), mul!(3 5 7), lines!(5 lower l),
        mul!(0 4 6), mul!(1 4 7), lines!(4 upper h), mul!(2 5 6), mul!(3 5 7), lines!(5 lower h),
        mul!(0 4 6), mul!(1 4 7), mul!(2 5 6), mul!(3 5 7),
    ]
}
