#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| l2_exit_fuzz::exit_information(data));
