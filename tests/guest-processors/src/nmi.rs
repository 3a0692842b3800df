//! Interrupts that cannot be masked.

use crate::processors::online;
use crate::{Steps, kernel_log};

pub(crate) fn steps(steps: &mut Steps) {
    steps.step("each shows where it is when an NMI asks", backtraces);
}

/// SysRq l: an NMI to every other processor, each of which writes to the log.
fn backtraces() -> Result<(), String> {
    let before = shown()?;
    std::fs::write("/proc/sysrq-trigger", "l").map_err(|error| error.to_string())?;
    let after = shown()?;
    let missing: Vec<usize> = online()?
        .into_iter()
        .filter(|cpu| count(&after, *cpu) <= count(&before, *cpu))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("CPUs {missing:?} do not answer"))
    }
}

fn shown() -> Result<Vec<String>, String> {
    let mut lines = kernel_log::lines()?;
    lines.retain(|line| line.contains("NMI backtrace for cpu "));
    Ok(lines)
}

fn count(lines: &[String], cpu: usize) -> usize {
    let of = |line: &&String| {
        let (_, rest) = line
            .split_once("NMI backtrace for cpu ")
            .unwrap_or_default();
        rest.split_whitespace()
            .next()
            .and_then(|word| word.parse().ok())
            == Some(cpu)
    };
    lines.iter().filter(of).count()
}
