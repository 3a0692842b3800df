//! The crate `eventlog-rs`, by which Trustee's older releases and attesters of confidential containers read CCEL.

use crate::Registers;
use anyhow::{Context, Result};
use eventlog_rs::Eventlog;
use std::panic::catch_unwind;

/// How many events the crate finds in the area of a log of either kind.
pub fn events(area: &[u8]) -> Result<usize> {
    Ok(parse(area)?.log.len())
}

/// What the crate computes from a CC event log, with all of the area that it is in; the numbers are RTMR + 1.
pub fn replay(area: &[u8]) -> Result<Registers> {
    let registers = parse(area)?.replay_measurement_registry().into_iter();
    let registers =
        registers.map(|(number, value)| (("sha384".to_owned(), number), hex::encode(value)));
    Ok(registers.collect())
}

fn parse(area: &[u8]) -> Result<Eventlog> {
    let area = area.to_vec();
    // It indexes what it reads.
    let parsed = catch_unwind(|| Eventlog::try_from(area));
    parsed.ok().context("eventlog-rs panics")?
}
