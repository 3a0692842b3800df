//! What the firmware and L1 measured before L2 ran.

use super::{
    broken, by_policy,
    event_log::{cc_log, of_rtmr},
};
use crate::{
    cc_event::{CcEvent, digest, mr_index},
    check::{Checked, Finding},
    evidence::Evidence,
    policy::Allowed,
};
use attestation::{
    digest::sha384,
    event_log::{Event, event_type_name},
    launch::SEPARATOR,
};

/// The one event of its kind that L1 measures into an RTMR.
fn only<'a, 'e>(
    evidence: &'a Evidence<'e>,
    rtmr: u32,
    what: &str,
    is_it: impl Fn(&CcEvent<'e>) -> bool,
) -> Result<Option<&'a Event<'e>>, Finding> {
    let mut events = of_rtmr(evidence, rtmr)?.filter(|event| is_it(&CcEvent::of(event)));
    let first = events.next();
    match events.count() {
        0 => Ok(first),
        more => Err(Finding::failed(
            format!("L1 measures one {what}, and this log has more"),
            "1",
            (more + 1).to_string(),
        )),
    }
}

pub(super) fn firmware(evidence: &Evidence<'_>) -> Checked {
    let policy = &evidence.policy.firmware;
    let separator = sha384(&SEPARATOR);
    let mut hobs = Vec::new();
    for event in of_rtmr(evidence, 0)?.chain(of_rtmr(evidence, 1)?) {
        let found = digest(event);
        match CcEvent::of(event) {
            CcEvent::TdHob(_) => hobs.push(found),
            CcEvent::Separator if found != separator => {
                return Err(Finding::failed(
                    "a separator of the firmware says that it met an error",
                    hex::encode(separator),
                    hex::encode(found),
                ));
            }
            CcEvent::Firmware(what, _) if !policy.other.contains(&found) => {
                return Err(Finding::failed(
                    format!(
                        "the firmware measured a {what} that the policy does not list (firmware.other)"
                    ),
                    policy
                        .other
                        .iter()
                        .map(hex::encode)
                        .collect::<Vec<_>>()
                        .join(" "),
                    hex::encode(found),
                ));
            }
            _ => {}
        }
    }
    match &hobs[..] {
        [hob] => by_policy(
            "the TD HOB (the host's description of the machine)",
            "firmware.td_hob",
            &policy.td_hob,
            hob,
        ),
        [] => none_by_policy(
            "the firmware measured no TD HOB",
            "firmware.td_hob",
            &policy.td_hob,
        ),
        more => Err(Finding::failed(
            "the firmware measures one TD HOB, and this log has more",
            "1",
            more.len().to_string(),
        )),
    }
}

pub(super) fn kernel(evidence: &Evidence<'_>) -> Checked {
    let event = only(evidence, 1, "kernel", |event| *event == CcEvent::Kernel)?
        .ok_or_else(|| Finding::failed("L1 measured no kernel", "1 event", "none"))?;
    let kernel = digest(event);
    by_policy(
        "the kernel",
        "launch.kernel",
        &evidence.policy.launch.kernel,
        &kernel,
    )
}

pub(super) fn command_line(evidence: &Evidence<'_>) -> Checked {
    let is_line = |event: &CcEvent<'_>| matches!(event, CcEvent::CommandLine(_));
    let event = only(evidence, 2, "command line", is_line)?
        .ok_or_else(|| Finding::failed("L1 measured no command line", "1 event", "none"))?;
    let line = match CcEvent::of(event) {
        CcEvent::CommandLine(line) => line.escape_ascii().to_string(),
        _ => String::new(),
    };
    let found = |finding: Finding| Finding {
        found: format!("{line} ({})", finding.found),
        ..finding
    };
    by_policy(
        "the command line",
        "launch.command_line",
        &evidence.policy.launch.command_line,
        &digest(event),
    )
    .map(found)
    .map_err(found)
}

pub(super) fn initrd(evidence: &Evidence<'_>) -> Checked {
    let policy = &evidence.policy.launch.initrd;
    match only(evidence, 2, "initrd", |event| *event == CcEvent::Initrd)? {
        Some(event) => by_policy("the initrd", "launch.initrd", policy, &digest(event)),
        None => none_by_policy("L1 measured no initrd", "launch.initrd", policy),
    }
}

/// Compares that something was not measured with policy.
fn none_by_policy(sentence: &str, key: &str, allowed: &Allowed<[u8; 48]>) -> Checked {
    match allowed {
        Allowed::Any => Ok(Finding::accepted(sentence, super::any(key), "none")),
        Allowed::Absent => Ok(Finding::passed(sentence, "none")),
        Allowed::OneOf(values) => Err(Finding::failed(
            format!("{sentence}, and the policy asks for one ({key})"),
            values.iter().map(hex::encode).collect::<Vec<_>>().join(" "),
            "none",
        )),
    }
}

pub(super) fn explained(evidence: &Evidence<'_>) -> Checked {
    let log = cc_log(evidence)?;
    let mut count = 0;
    for event in &log.events {
        let what = CcEvent::of(event);
        let place = || {
            let name = event_type_name(event.event_type).unwrap_or("of unknown type");
            format!(
                "{name} of MR index {} at {:#x}",
                mr_index(event.register),
                event.offset
            )
        };
        if what == CcEvent::NoAction && event.register != 4 {
            return Err(Finding::failed(
                "the log has an event that extends nothing (EV_NO_ACTION), which no register vouches for: \
                 neither td-shim nor L1 writes one behind the log's header",
                "no such event",
                place(),
            ));
        }
        if what == CcEvent::Unknown && event.register != 4 {
            return Err(Finding::failed(
                "an event is none that td-shim or L1 measures into its register",
                "a known event",
                place(),
            ));
        }
        // The journal has a check of its own for this.
        if what != CcEvent::Journal && event.register != 4 && !what.is_consistent(event) {
            return Err(Finding::failed(
                format!("the data of an event is not what was measured: {}", place()),
                what.measured(event)
                    .map(sha384)
                    .map(hex::encode)
                    .unwrap_or_default(),
                hex::encode(digest(event)),
            ));
        }
        count += usize::from(event.register != 4);
    }
    if count == 0 {
        return Err(broken("nothing was measured into RTMR0 to RTMR2")(
            "an empty log",
        ));
    }
    Ok(Finding::passed(
        "every event of RTMR0 to RTMR2 is known, and its data gives its digest",
        format!("{count} events"),
    ))
}
