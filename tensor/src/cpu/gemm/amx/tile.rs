//! The tile instructions of AMX: the one place that has them.
//!
//! A processor has eight tiles of 16 rows of 64 bytes. One instruction adds to a tile of 16 x 16 `f32` the product of a tile of
//! 16 lines of 32 `bf16` and one of 16 pairs of steps of 16 lines. Four tiles hold a square of 32 x 32 of C; the other four pass the parts
//! of A and B by, in an order in which each load serves four products:
//!
//! ```text
//!                tmm6  tmm7        B, lines 0..16 and 16..32
//! A    tmm4      tmm0  tmm1
//!      tmm5      tmm2  tmm3
//! ```
//!
//! Tiles do not live from one `asm!` block to the next: the loop over k is inside.

use super::{PlaneJob, TileJob, Unit};
use std::arch::asm;

/// The tiles of this processor.
pub(super) static UNIT: Unit = Unit {
    configure,
    release,
    products: [one_product, three_products, four_products, six_products],
    correlations: [one_correlation, three_correlations, four_correlations, six_correlations],
};

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Eight tiles of 16 rows of 64 bytes.
static FULL: Config = Config {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Readies this thread's tiles.
///
/// # Safety
/// The processor has AMX, and the system has granted the process its use.
unsafe fn configure() {
    // SAFETY: the instruction exists (the caller's word) and reads the 64 bytes of `FULL`.
    unsafe {
        asm!(
            "ldtilecfg [{}]", in(reg) &FULL,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, readonly),
        );
    }
}

/// Gives this thread's tiles back, so that the system need not save them.
///
/// # Safety
/// As [`configure`].
unsafe fn release() {
    // SAFETY: the instruction exists (the caller's word).
    unsafe {
        asm!(
            "tilerelease",
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, nomem),
        );
    }
}

/// Loads a tile of A or B: `load!(4 a 1024)`.
macro_rules! load {
    ($tile:literal a $at:literal) => {
        concat!("tileloadd tmm", $tile, ", [{a} + {line}*1 + ", $at, "]")
    };
    ($tile:literal b $at:literal) => {
        concat!("tileloadd tmm", $tile, ", [{b} + {line}*1 + ", $at, "]")
    };
}

/// Adds a product to a tile of C: `mul!(0 4 6)`.
macro_rules! mul {
    ($c:literal $a:literal $b:literal) => {
        concat!("tdpbf16ps tmm", $c, ", tmm", $a, ", tmm", $b)
    };
}

/// Asks for two lines of memory that will be read soon.
macro_rules! soon {
    ($first:literal $second:literal) => {
        concat!("prefetcht1 [{ahead} + ", $first, "]\nprefetcht1 [{ahead} + ", $second, "]")
    };
}

/// A kernel: what it does with one block of 32 steps, whose parts take `$bytes` on either side.
macro_rules! kernel {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, [$($line:expr,)*]) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// See [`TileFn`](super::TileFn).
        unsafe fn $name(job: &TileJob) {
            let row = job.c_row * size_of::<f32>() as isize;
            // SAFETY: the instructions exist and tiles are configured; the panels hold `blocks` blocks, C is 32 rows of 32
            // values (the caller's word). Prefetches have no effect but on time, wherever they lead.
            unsafe {
                asm!(
                    "test {add}, {add}",
                    "jz 2f",
                    "tileloadd tmm0, [{c} + {row}*1]",
                    "tileloadd tmm1, [{c} + {row}*1 + 64]",
                    "tileloadd tmm2, [{below} + {row}*1]",
                    "tileloadd tmm3, [{below} + {row}*1 + 64]",
                    "jmp 3f",
                    "2:",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "3:",
                    $($line,)*
                    "add {a}, {bytes}",
                    "add {b}, {bytes}",
                    "add {ahead}, 768",
                    "dec {blocks}",
                    "jnz 3b",
                    "tilestored [{c} + {row}*1], tmm0",
                    "tilestored [{c} + {row}*1 + 64], tmm1",
                    "tilestored [{below} + {row}*1], tmm2",
                    "tilestored [{below} + {row}*1 + 64], tmm3",
                    a = inout(reg) job.a => _,
                    b = inout(reg) job.b => _,
                    ahead = inout(reg) job.ahead => _,
                    blocks = inout(reg) job.blocks => _,
                    line = in(reg) 64usize,
                    c = in(reg) job.c,
                    below = in(reg) job.c.wrapping_offset(16 * job.c_row),
                    row = in(reg) row,
                    add = in(reg) usize::from(job.add),
                    bytes = const $bytes,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

kernel! {
    /// hh.
    one_product, 2048, [
        load!(4 a 0), load!(6 b 0), mul!(0 4 6), load!(7 b 1024), mul!(1 4 7),
        load!(5 a 1024), mul!(2 5 6), mul!(3 5 7), soon!(0 64),
    ]
}

kernel! {
    /// hm, hh, mh.
    three_products, 4096, [
        load!(4 a 0), load!(6 b 2048), mul!(0 4 6), load!(7 b 3072), mul!(1 4 7),
        load!(5 a 1024), mul!(2 5 6), load!(6 b 0), mul!(3 5 7), load!(7 b 1024), soon!(0 64),
        mul!(0 4 6), mul!(1 4 7), load!(4 a 2048), mul!(2 5 6), mul!(3 5 7), load!(5 a 3072), soon!(128 192),
        mul!(0 4 6), mul!(1 4 7), mul!(2 5 6), mul!(3 5 7),
    ]
}

kernel! {
    /// hm, mm, mh, hh.
    four_products, 4096, [
        load!(4 a 0), load!(6 b 2048), mul!(0 4 6), load!(7 b 3072), mul!(1 4 7),
        load!(5 a 1024), mul!(2 5 6), mul!(3 5 7), soon!(0 64),
        load!(4 a 2048), mul!(0 4 6), mul!(1 4 7), load!(5 a 3072), mul!(2 5 6), load!(6 b 0), mul!(3 5 7),
        load!(7 b 1024), soon!(128 192),
        mul!(0 4 6), mul!(1 4 7), load!(4 a 0), mul!(2 5 6), mul!(3 5 7), load!(5 a 1024),
        mul!(0 4 6), mul!(1 4 7), mul!(2 5 6), mul!(3 5 7),
    ]
}

kernel! {
    /// hl, hm, mm, mh, lh, hh.
    six_products, 6144, [
        load!(4 a 0), load!(6 b 4096), mul!(0 4 6), load!(7 b 5120), mul!(1 4 7),
        load!(5 a 1024), mul!(2 5 6), load!(6 b 2048), mul!(3 5 7), load!(7 b 3072), soon!(0 64),
        mul!(0 4 6), mul!(1 4 7), load!(4 a 2048), mul!(2 5 6), mul!(3 5 7), load!(5 a 3072), soon!(128 192),
        mul!(0 4 6), mul!(1 4 7), mul!(2 5 6), load!(6 b 0), mul!(3 5 7), load!(7 b 1024), soon!(256 320),
        mul!(0 4 6), mul!(1 4 7), load!(4 a 4096), mul!(2 5 6), mul!(3 5 7), load!(5 a 5120), soon!(384 448),
        mul!(0 4 6), mul!(1 4 7), load!(4 a 0), mul!(2 5 6), mul!(3 5 7), load!(5 a 1024), soon!(512 576),
        mul!(0 4 6), mul!(1 4 7), mul!(2 5 6), mul!(3 5 7), soon!(640 704),
    ]
}

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
        /// See [`PlaneFn`](super::PlaneFn).
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
