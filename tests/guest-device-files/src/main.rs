//! Tries inside the guest what `/dev/tpm0` and `/dev/tpmrm0` answer to commands of odd and of lying
//! sizes, to more sessions and objects than the TPM can hold, and to several users: who opens and closes at the same time,
//! reads in parts, polls, is killed in mid-command, and extends beside others.
//!
//! With "sharing": only the users. With two numbers: so many extends and other commands, of all processes together.
//!
//! Prints a line `@step NAME pass|fail` for each. What must come is what Linux's driver and the TPM 2.0
//! Library say of a TPM that takes 4,096 bytes; after each command the TPM must still work.
#![forbid(unsafe_code)]

mod device;
mod load;
mod sessions;
mod sharing;
mod sizes;
mod worker;

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

    fn end(&self) -> ExitCode {
        println!("@steps {} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// Extends and other commands of a usual run.
const EXTENDS: usize = 400;
const MIXED: usize = 80;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let Some(end) = worker::run(&words) {
        return end;
    }
    let mut steps = Steps::default();
    if let [extends, mixed] = *words {
        let [extends, mixed] = [extends, mixed].map(|number| number.parse().unwrap_or(0));
        load::steps(&mut steps, extends, mixed);
        return steps.end();
    }
    if words != ["sharing"] {
        for path in ["/dev/tpm0", "/dev/tpmrm0"] {
            sizes::steps(&mut steps, path);
        }
        sessions::steps(&mut steps);
    }
    sharing::steps(&mut steps);
    load::steps(&mut steps, EXTENDS, MIXED);
    steps.end()
}
