//! See [`gradus_fuzz::csv_file`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gradus_fuzz::csv_file(bytes));
