//! `tpm2_eventlog` of tpm2-tools, which Keylime reads logs with as well.

use crate::{Registers, saying_only};
use anyhow::{Result, ensure};
use std::process::Command;

/// What the tool computes from a TCG event log, against which it must have nothing to say.
pub fn replay(log: &[u8]) -> Result<Registers> {
    replay_saying_only(log, |_| false)
}

/// What the tool computes from a CC event log; the numbers are RTMR + 1. It takes them for those of PCRs, and so
/// remarks on each EV_IPL that it is not in the PCRs where GRUB and systemd have theirs.
pub fn replay_cc(log: &[u8]) -> Result<Registers> {
    replay_saying_only(log, |line| line.contains("not extending either PCR 8, 9"))
}

fn replay_saying_only(log: &[u8], expected: impl Fn(&str) -> bool) -> Result<Registers> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("log");
    std::fs::write(&file, log)?;
    let mut tool = Command::new("tpm2_eventlog");
    let output = saying_only(tool.arg(&file), "tpm2-tools", expected)?;
    let registers = registers(&String::from_utf8_lossy(&output));
    ensure!(!registers.is_empty(), "tpm2_eventlog computes nothing");
    Ok(registers)
}

/// The part of the output behind "pcrs:": a line for each bank, and below it one a register,
/// "  4  : 0x12…".
fn registers(yaml: &str) -> Registers {
    let mut bank = String::new();
    let mut registers = Registers::new();
    for line in yaml.lines().skip_while(|line| *line != "pcrs:").skip(1) {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        match (key.trim().parse(), value.trim().strip_prefix("0x")) {
            (Ok(number), Some(value)) => {
                registers.insert((bank.clone(), number), value.to_lowercase());
            }
            _ => key.trim().clone_into(&mut bank),
        }
    }
    registers
}
