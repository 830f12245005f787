//! See `tidings_fuzz::session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidings_fuzz::session(input));
