//! Replays answers recorded from PyTorch through the public API.

#![allow(dead_code, reason = "the op table, which reads the rest of a record, follows the public API")]

mod array;
mod format;
mod generate;
mod judge;

use std::path::PathBuf;

/// The folder of recorded answers that ships with the library.
fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}
