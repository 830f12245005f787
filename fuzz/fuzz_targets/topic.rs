//! See `tidings_fuzz::topic`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidings_fuzz::topic(input));
