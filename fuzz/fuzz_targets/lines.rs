//! See `tidings_fuzz::lines`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidings_fuzz::lines(input));
