//! Which event of RTMR0 to RTMR2 is which: by its place and its digest.
//!
//! The type and the data of an event are a label that no digest covers, unless the digest is over the data. Whoever writes
//! the log may call the digest that td-shim left for a payload of the host's "kernel". But td-shim and L1 extend in one
//! order (`docs/measurement.md`, section 1), and an RTMR only grows: RTMR0 is the TD HOB and a separator, RTMR1 a
//! separator and L1's kernel, RTMR2 L1's command line and initrd. A label that does not fit its place is refused.

use super::event_log::of_rtmr;
use crate::{cc_event::digest, check::Finding, evidence::Evidence};
use attestation::{digest::sha384, event_log::Event, launch::SEPARATOR};

/// The events that extend one RTMR, in order.
pub(super) fn extends<'a, 'e>(
    evidence: &'a Evidence<'e>,
    rtmr: u32,
) -> Result<Vec<&'a Event<'e>>, Finding> {
    Ok(of_rtmr(evidence, rtmr)?
        .filter(|event| event.extends())
        .collect())
}

/// The events of RTMR0 or RTMR1 before the firmware's separator, the separator, and those behind it.
pub(super) struct Parts<'a, 'e> {
    pub(super) firmware: Vec<&'a Event<'e>>,
    pub(super) separator: &'a Event<'e>,
    pub(super) behind: Vec<&'a Event<'e>>,
}

/// Cuts the events of a register at the first that has the separator's digest.
pub(super) fn parts<'a, 'e>(
    evidence: &'a Evidence<'e>,
    rtmr: u32,
) -> Result<Parts<'a, 'e>, Finding> {
    let separator = sha384(&SEPARATOR);
    let mut events = extends(evidence, rtmr)?.into_iter();
    let mut firmware = Vec::new();
    for event in events.by_ref() {
        if digest(event) == separator {
            return Ok(Parts {
                firmware,
                separator: event,
                behind: events.collect(),
            });
        }
        firmware.push(event);
    }
    Err(Finding::failed(
        format!("the firmware did not end its part of RTMR{rtmr} with a separator"),
        hex::encode(separator),
        format!("{} other events", firmware.len()),
    ))
}
