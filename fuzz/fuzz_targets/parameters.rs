//! See `tidings_fuzz::parameters`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidings_fuzz::parameters(input));
