#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vtpm_fuzz::engine_commands(data));
