//! See `tidings_fuzz::airsend_frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidings_fuzz::airsend_frame(input));
