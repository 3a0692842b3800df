//! Tries inside the guest what `/dev/tpm0` and `/dev/tpmrm0` answer to commands of odd and of lying
//! sizes, and to more sessions than the TPM can hold.
//!
//! Prints a line `@step NAME pass|fail` for each. What must come is what Linux's driver and the TPM 2.0
//! Library say of a TPM that takes 4,096 bytes; after each command the TPM must still work.
#![forbid(unsafe_code)]

mod device;
mod sessions;
mod sizes;

use std::process::ExitCode;

/// Counts the steps.
#[derive(Default)]
struct Steps {
    passed: usize,
    failed: usize,
}

impl Steps {
    /// Reports a step.
    fn step(&mut self, name: &str, result: Result<(), String>) {
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("@step {name} pass");
            }
            Err(why) => {
                self.failed += 1;
                println!("@step {name} fail\n  {why}");
            }
        }
    }
}

fn main() -> ExitCode {
    let mut steps = Steps::default();
    for path in ["/dev/tpm0", "/dev/tpmrm0"] {
        sizes::steps(&mut steps, path);
    }
    sessions::steps(&mut steps);
    println!("@steps {} passed, {} failed", steps.passed, steps.failed);
    if steps.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
