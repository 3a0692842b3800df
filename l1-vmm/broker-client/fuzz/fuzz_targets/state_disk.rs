#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| broker_client_fuzz::state_disk(data));
