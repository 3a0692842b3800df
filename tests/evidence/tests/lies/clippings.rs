//! Cutting event logs up.

use std::ops::Range;

use attestation::bundle::Binary;
use attestation::event_log::Log;

/// Where the records of a log are: the header's first.
fn records(log: &[u8]) -> Vec<Range<usize>> {
    let parsed = Log::parse(log).expect("a log");
    let mut starts: Vec<usize> = parsed.events.iter().map(|event| event.offset).collect();
    starts.insert(0, 0);
    let ends = starts[1..].iter().copied().chain([parsed.length]);
    starts
        .iter()
        .copied()
        .zip(ends)
        .map(|(a, b)| a..b)
        .collect()
}

/// The number of the first record of a register (MR index or PCR), counted with the header.
pub(crate) fn first_of(log: &[u8], register: u32) -> usize {
    let parsed = Log::parse(log).expect("a log");
    let mut events = parsed.events.iter();
    1 + events
        .position(|event| event.register == register)
        .expect("the register has an event")
}

/// Rewrites a log from its records.
pub(crate) fn rewrite(log: &mut Binary, edit: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut parts = pieces(&log.0);
    edit(&mut parts);
    log.0 = parts.concat();
}

/// Leaves the first record of a register out.
pub(crate) fn drop_first(log: &mut Binary, register: u32) {
    let index = first_of(&log.0, register);
    rewrite(log, |records| drop(records.remove(index)));
}

/// Leaves the last record out.
pub(crate) fn drop_last(log: &mut Binary) {
    rewrite(log, |records| drop(records.pop()));
}

/// Exchanges the first record of a register with the next record.
pub(crate) fn exchange(log: &mut Binary, register: u32) {
    let index = first_of(&log.0, register);
    rewrite(log, |records| records.swap(index, index + 1));
}

/// Has the first record of a register twice.
pub(crate) fn repeat(log: &mut Binary, register: u32) {
    let index = first_of(&log.0, register);
    rewrite(log, |records| records.insert(index, records[index].clone()));
}

/// Changes the last byte but one of the first record of a register: of its data.
pub(crate) fn edit_data(log: &mut Binary, register: u32) {
    let index = first_of(&log.0, register);
    rewrite(log, |records| {
        let place = records[index].len() - 2;
        records[index][place] ^= 1;
    });
}

/// Changes a bit of the first digest in the first record of a register.
pub(crate) fn edit_digest(log: &mut Binary, register: u32) {
    // Register, type, count, algorithm.
    const DIGEST: usize = 14;
    let index = first_of(&log.0, register);
    rewrite(log, |records| records[index][DIGEST] ^= 1);
}

/// Gives the first record of a register another type.
pub(crate) fn retype(log: &mut Binary, register: u32, event_type: u32) {
    let index = first_of(&log.0, register);
    rewrite(log, |records| {
        records[index][4..8].copy_from_slice(&event_type.to_le_bytes());
    });
}

/// The records of a log, the header's first.
pub(crate) fn pieces(log: &[u8]) -> Vec<Vec<u8>> {
    records(log)
        .into_iter()
        .map(|range| log[range].to_vec())
        .collect()
}
