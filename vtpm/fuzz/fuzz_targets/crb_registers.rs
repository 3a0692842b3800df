#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vtpm_fuzz::crb_registers(data));
