//! What the firmware and L1 measured before L2 ran.

use super::{
    broken, by_policy,
    event_log::cc_log,
    order::{extends, parts},
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
};
use tdshim_config::td_hob;

/// RTMR0 to RTMR2 hold what a start of L1 leaves, in its order, and the log calls each by its name.
pub(super) fn order(evidence: &Evidence<'_>) -> Checked {
    let mut count = 0;
    for (rtmr, kernels) in [(0, 0), (1, 1)] {
        let parts = parts(evidence, rtmr)?;
        for (index, event) in parts.firmware.iter().enumerate() {
            let first = rtmr == 0 && index == 0;
            require(
                event,
                "what the firmware measures before its separator",
                |what| {
                    matches!(what, CcEvent::Firmware(..))
                        || first && matches!(what, CcEvent::TdHob(_))
                },
            )?;
        }
        require(parts.separator, "the firmware's separator", |what| {
            what == CcEvent::Separator
        })?;
        if parts.behind.len() != kernels {
            return Err(Finding::failed(
                format!(
                    "RTMR{rtmr} has other events behind the firmware's separator than a start of L1 leaves: \
                     the firmware may have started something else"
                ),
                format!("{kernels} events"),
                told(&parts.behind),
            ));
        }
        for event in &parts.behind {
            require(event, "L1's event of the kernel", |what| {
                what == CcEvent::Kernel
            })?;
        }
        count += parts.firmware.len() + 1 + parts.behind.len();
    }
    let launch = extends(evidence, 2)?;
    let [line, initrd @ ..] = &launch[..] else {
        return Err(Finding::failed(
            "L1 measured no command line",
            "1 event",
            "none",
        ));
    };
    require(line, "L1's event of the command line", |what| {
        matches!(what, CcEvent::CommandLine(_))
    })?;
    if initrd.len() > 1 {
        return Err(Finding::failed(
            "RTMR2 has more events behind the command line than L1's of the initrd",
            "1 event at most",
            told(initrd),
        ));
    }
    for event in initrd {
        require(event, "L1's event of the initrd", |what| {
            what == CcEvent::Initrd
        })?;
    }
    Ok(Finding::passed(
        "RTMR0 to RTMR2 hold what a start of L1 leaves, in its order",
        format!("{} events", count + launch.len()),
    ))
}

/// Whether the log calls an event what its place says that it is.
fn require<'e>(
    event: &Event<'e>,
    place: &str,
    is_it: impl Fn(CcEvent<'e>) -> bool,
) -> Result<(), Finding> {
    let what = CcEvent::of(event);
    match is_it(what) {
        true => Ok(()),
        false => Err(Finding::failed(
            format!("where {place} belongs, the log has something else"),
            place,
            what.describe(event),
        )),
    }
}

fn told(events: &[&Event<'_>]) -> String {
    let first = events.first();
    let what = first.map_or("none".into(), |event| CcEvent::of(event).describe(event));
    format!("{} events, first: {what}", events.len())
}

pub(super) fn firmware(evidence: &Evidence<'_>) -> Checked {
    let policy = &evidence.policy.firmware;
    let mut hob = None;
    for rtmr in [0, 1] {
        for event in parts(evidence, rtmr)?.firmware {
            let found = digest(event);
            match CcEvent::of(event) {
                CcEvent::TdHob(list) => hob = Some((found, list)),
                _ if policy.other.contains(&found) => {}
                what => {
                    return Err(Finding::failed(
                        format!(
                            "the firmware measured what the policy does not list (firmware.other): {}",
                            what.describe(event)
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
            }
        }
    }
    let Some((found, list)) = hob else {
        return none_by_policy(
            "the firmware measured no TD HOB",
            "firmware.td_hob",
            &policy.td_hob,
        );
    };
    let finding = by_policy(
        "the TD HOB (the host's description of the machine)",
        "firmware.td_hob",
        &policy.td_hob,
        &found,
    )?;
    // Where the list is not what was measured, it says nothing: `explained` refuses that.
    if sha384(list) == found {
        td_hob::check(list).map_err(broken(
            "the host's description of the machine has what the firmware must not be told",
        ))?;
    }
    Ok(finding)
}

pub(super) fn kernel(evidence: &Evidence<'_>) -> Checked {
    let parts = parts(evidence, 1)?;
    let event = parts
        .behind
        .first()
        .ok_or_else(|| Finding::failed("L1 measured no kernel", "1 event", "none"))?;
    by_policy(
        "the kernel",
        "launch.kernel",
        &evidence.policy.launch.kernel,
        &digest(event),
    )
}

pub(super) fn command_line(evidence: &Evidence<'_>) -> Checked {
    let events = extends(evidence, 2)?;
    let event = events
        .first()
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
    match extends(evidence, 2)?.get(1) {
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
