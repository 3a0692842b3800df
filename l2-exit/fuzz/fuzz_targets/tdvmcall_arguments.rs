#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| l2_exit_fuzz::tdvmcall_arguments(data));
