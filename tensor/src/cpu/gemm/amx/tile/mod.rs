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

use super::Unit;
use std::arch::asm;

/// The tiles of this processor.
pub(super) static UNIT: Unit = Unit {
    configure,
    release,
    products: products::TABLE,
    short: products::SHORT,
    bytes: bytes::TABLE,
    short_bytes: bytes::SHORT,
    correlations: planes::TABLE,
    gradients: lines::TABLE,
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

/// A kernel: what it does with one block of 32 steps, whose parts take `$bytes` on either side. A `short` one has the upper half of C
/// and of A only.
macro_rules! kernel {
    ($(#[$doc:meta])* short $name:ident, $bytes:literal, $lines:tt) => {
        kernel! { @tiles [(0 c 0) (1 c 64)] $(#[$doc])* $name, $bytes, $lines }
    };
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $lines:tt) => {
        kernel! { @tiles [(0 c 0) (1 c 64) (2 below 0) (3 below 64)] $(#[$doc])* $name, $bytes, $lines }
    };
    (
        @tiles [$(($tile:literal $start:ident $at:literal))*]
        $(#[$doc:meta])* $name:ident, $bytes:literal, [$($line:expr,)*]
    ) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// See [`TileFn`](crate::cpu::gemm::amx::TileFn).
        unsafe fn $name(job: &$crate::cpu::gemm::amx::TileJob) {
            let row = job.c_row * size_of::<f32>() as isize;
            // SAFETY: the instructions exist and tiles are configured; the panels hold `blocks` blocks, C is 32 rows (16 if short)
            // of 32 values (the caller's word). Prefetches have no effect but on time, wherever they lead.
            unsafe {
                std::arch::asm!(
                    "# {below}",
                    "test {add}, {add}",
                    "jz 2f",
                    $(concat!("tileloadd tmm", $tile, ", [{", stringify!($start), "} + {row}*1 + ", $at, "]"),)*
                    "jmp 3f",
                    "2:",
                    $(concat!("tilezero tmm", $tile),)*
                    "3:",
                    $($line,)*
                    "add {a}, {bytes}",
                    "add {b}, {bytes}",
                    "add {ahead}, 768",
                    "dec {blocks}",
                    "jnz 3b",
                    $(concat!("tilestored [{", stringify!($start), "} + {row}*1 + ", $at, "], tmm", $tile),)*
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

mod bytes;
mod lines;
mod planes;
mod products;
