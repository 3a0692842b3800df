#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| l1_vmm_fuzz::host_vsock(data));
