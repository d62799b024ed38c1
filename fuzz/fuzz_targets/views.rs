//! See [`gradus_fuzz::views`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gradus_fuzz::views(bytes));
