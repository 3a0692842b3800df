//! Interrupts that the kernel counts for each processor.

use crate::plan::Plan;
use crate::processors::{on_each, online};
use crate::{Outcome, Steps};
use std::time::{Duration, Instant};

/// A timer that is this much late has been lost: far more than a busy machine makes of it.
const LATE: Duration = Duration::from_secs(5);

pub(crate) fn steps(steps: &mut Steps, plan: &Plan) {
    steps.step("each timer wakes its own processor", || timers(plan));
    steps.step("each processor works as the others", || work(plan));
}

/// A line of /proc/interrupts by its name: one number for each processor on-line.
fn counts(name: &str) -> Result<Vec<u64>, String> {
    let text = std::fs::read_to_string("/proc/interrupts").map_err(|error| error.to_string())?;
    parse(&text, name).ok_or_else(|| format!("/proc/interrupts has no {name}"))
}

fn parse(text: &str, name: &str) -> Option<Vec<u64>> {
    let line = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))?;
    let numbers = line.split_whitespace().map(str::parse);
    Some(numbers.map_while(Result::ok).collect())
}

/// The sums of such lines.
pub(crate) fn sums(names: &[&str]) -> Result<Vec<u64>, String> {
    let mut sums = Vec::new();
    for name in names {
        let counts = counts(name)?;
        sums.resize(counts.len(), 0);
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    Ok(sums)
}

/// Whether one of these kinds of interrupts came to each of the processors while `act` went on.
pub(crate) fn grow(names: &[&str], act: impl FnOnce() -> Outcome) -> Outcome {
    let before = sums(names)?;
    act()?;
    let after = sums(names)?;
    for ((cpu, before), after) in online()?.iter().zip(before).zip(after) {
        if after <= before {
            return Err(format!("CPU {cpu} took no {names:?} ({after})"));
        }
    }
    Ok(())
}

fn timers(plan: &Plan) -> Outcome {
    const NAP: Duration = Duration::from_millis(4);
    let naps = plan.times(5, 200);
    let nap = |_| {
        for _ in 0..naps {
            let started = Instant::now();
            std::thread::sleep(NAP);
            let slept = started.elapsed();
            if slept < NAP || slept > LATE {
                return Err(format!("{NAP:?} became {slept:?}"));
            }
        }
        Ok(())
    };
    grow(&["LOC"], || on_each(&online()?, nap).map(drop))
}

/// Digests of digests, which must be the same everywhere.
fn work(plan: &Plan) -> Outcome {
    use attestation::digest::{Algorithm, Digest};
    let rounds = plan.times(500, 50_000);
    let chain = |_| {
        let zero = Digest::zero(Algorithm::Sha256);
        (0..rounds).try_fold(zero, |digest, _| {
            digest.extended(&digest).ok_or_else(String::new)
        })
    };
    let ends = on_each(&online()?, chain)?;
    if ends.iter().any(|end| Some(end) != ends.first()) {
        return Err("not all come to the same".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        let text = "           CPU0       CPU1       \n LOC:      12345        678   Local timer interrupts\n";
        assert_eq!(parse(text, "LOC"), Some(vec![12345, 678]));
        assert_eq!(parse(text, "RES"), None);
    }
}
