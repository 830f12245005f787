//! See `tidings_fuzz::cursor`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidings_fuzz::cursor(input));
