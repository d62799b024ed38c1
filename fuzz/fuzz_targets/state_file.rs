//! See [`gradus_fuzz::state_file`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gradus_fuzz::state_file(bytes));
