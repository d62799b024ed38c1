//! See [`gradus_fuzz::idx_file`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gradus_fuzz::idx_file(bytes));
