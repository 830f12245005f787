//! See `tidings_fuzz::burokratt`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidings_fuzz::burokratt(input));
