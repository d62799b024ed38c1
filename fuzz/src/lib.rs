//! What the fuzz targets do: plain functions of bytes that panic when a promise is broken.
//!
//! `cargo fuzz` drives them with inputs that reach new code; `tests/replay.rs` drives them on a stable toolchain with
//! the inputs that once failed and with pseudo-random ones.

mod bytes;
mod readers;
mod state;
mod views;

pub use readers::{csv_file, idx_file};
pub use state::state_file;
pub use views::views;
