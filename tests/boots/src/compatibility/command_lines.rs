//! Kernel command lines: what is measured is what takes effect.

use super::trial::{Outcome, Trial};
use crate::BASE_COMMAND_LINE;
use anyhow::{Context, Result, ensure};
use attestation::digest::sha384;
use simulator::Run;

/// Linux's COMMAND_LINE_SIZE on x86, with the NUL.
const MOST: usize = 2048;
/// The guest's mode that prints the line.
const MODE: &str = "quiet tdp.mode=command-line";

/// A line of this many bytes, of ASCII or of what is none.
fn line(length: usize, filler: &str) -> Trial {
    let used = BASE_COMMAND_LINE.len() + 1 + MODE.len() + " tdp.x=".len();
    let room = length - used;
    let mut words = format!("{MODE} tdp.x={}", filler.repeat(room / filler.len()));
    words.push_str(&"x".repeat(room % filler.len()));
    let trial = Trial::new(
        format!("command line of {length} bytes, of {filler}"),
        words,
    );
    Trial {
        outcome: if length < MOST {
            Outcome::Works
        } else {
            Outcome::Ends("fatal-error: the command line is too long: ")
        },
        shows: took_effect,
        ..trial
    }
}

/// The longest line, not of ASCII alone.
pub(super) fn longest() -> Trial {
    line(MOST - 1, "é€")
}

/// A NUL in the middle: a kernel would see less than what was measured.
pub(super) fn with_nul() -> Trial {
    Trial {
        outcome: Outcome::Ends(
            "fatal-error: the host's command line does not end where its size says",
        ),
        ..Trial::new("command line with a NUL", format!("{MODE} tdp.x=\0y"))
    }
}

/// All others.
pub(super) fn lengths() -> Vec<Trial> {
    [255, 256, 257, 2047, 2048, 4095, 4096]
        .map(|length| line(length, "x"))
        .into()
}

/// The guest's line is the one that L1 measured.
fn took_effect(run: &Run) -> Result<()> {
    let console = &run.transcript.console;
    let seen = console
        .iter()
        .find_map(|line| line.strip_prefix("@command-line "))
        .context("the guest does not tell its command line")?;
    let seen = hex::decode(seen.trim()).context("the guest's command line")?;
    let seen = seen.strip_suffix(b"\n").unwrap_or(&seen);
    let digest = hex::encode(sha384(seen));
    let measured = format!("command line: {} bytes at ", seen.len());
    ensure!(
        run.transcript
            .log
            .iter()
            .any(|line| line.contains(&measured) && line.contains(&digest)),
        "L1 measured no {} bytes with SHA-384 {digest}",
        seen.len()
    );
    Ok(())
}
