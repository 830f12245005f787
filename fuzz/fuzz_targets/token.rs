//! See `tidings_fuzz::token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidings_fuzz::token(input));
