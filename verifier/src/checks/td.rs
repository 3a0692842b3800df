//! What TD it is.

use super::{any, broken, by_policy, together};
use crate::{
    check::{Checked, Finding, Outcome},
    evidence::Evidence,
    policy::{Allowed, Bits, MaskedBits},
    quote::TdQuote,
    td_attributes,
    td_bindings::Bindings,
    td_body,
};

/// The hash of no service TD, and of no device.
const NOBODY: [u8; 48] = [0; 48];

const NO_TD: &str = "there is neither a quote nor a report of the TD";

pub(super) fn debug(evidence: &Evidence<'_>) -> Checked {
    let td = evidence.td().map_err(broken(NO_TD))?;
    let attributes = td_body::attributes(&td);
    let names = td_attributes::names(attributes);
    let under_debug = attributes & td_attributes::UNDER_DEBUG != 0;
    if under_debug && !evidence.policy.td.debug {
        return Err(Finding::failed(
            "the host can look into this TD: a secret given to it is the host's (td.debug)",
            "bits 7:0 clear",
            names,
        ));
    }
    Ok(match under_debug {
        true => Finding::accepted(
            "the host can look into this TD, and the policy accepts that",
            "td.debug = true",
            names,
        ),
        false => Finding::passed("the host cannot look into this TD", names),
    })
}

pub(super) fn attributes(evidence: &Evidence<'_>) -> Checked {
    let td = evidence.td().map_err(broken(NO_TD))?;
    let (attributes, xfam) = (td_body::attributes(&td), td_body::xfam(&td));
    if let Some(problem) = td_attributes::problems(attributes).into_iter().next() {
        return Err(Finding::failed(
            format!("the TD's ATTRIBUTES are not those of a TD to trust: {problem}"),
            "no reserved bit, no MIGRATABLE, SEPT_VE_DISABLE",
            format!("{attributes:016x}"),
        ));
    }
    let policy = &evidence.policy.td;
    let mut outcomes = Vec::new();
    for (field, key, bits, allowed) in [
        ("ATTRIBUTES", "td.attributes", attributes, policy.attributes),
        ("XFAM", "td.xfam", xfam, policy.xfam),
    ] {
        match allowed {
            Bits::Any => outcomes.push(Outcome::Accepted { by: any(key) }),
            Bits::Masked(allowed) if allowed.allows(bits) => {}
            Bits::Masked(MaskedBits { value, mask }) => {
                return Err(Finding::failed(
                    format!("{field} has other bits than the policy accepts ({key})"),
                    format!("{value:016x}, mask {mask:016x}"),
                    format!("{bits:016x}"),
                ));
            }
        }
    }
    Ok(together(
        "ATTRIBUTES and XFAM have no bit that must be clear, and those that the policy asks for",
        format!("{attributes:016x}, XFAM {xfam:016x}"),
        outcomes,
    ))
}

pub(super) fn mrtd(evidence: &Evidence<'_>) -> Checked {
    let td = evidence.td().map_err(broken(NO_TD))?;
    // Any TD can write logs and certificates like L1's: all that follows rests on this one.
    by_policy(
        "MRTD (td-shim with L1)",
        "td.mrtd",
        &evidence.policy.td.mrtd,
        &td.mrtd,
    )
}

pub(super) fn config(evidence: &Evidence<'_>) -> Checked {
    let td = evidence.td().map_err(broken(NO_TD))?;
    let policy = &evidence.policy.td;
    let mut outcomes = Vec::new();
    let mut found = Vec::new();
    for (what, key, allowed, value) in [
        (
            "MRCONFIGID",
            "td.mrconfigid",
            &policy.mrconfigid,
            &td.mrconfigid,
        ),
        ("MROWNER", "td.mrowner", &policy.mrowner, &td.mrowner),
        (
            "MROWNERCONFIG",
            "td.mrownerconfig",
            &policy.mrownerconfig,
            &td.mrownerconfig,
        ),
    ] {
        let finding = by_policy(what, key, allowed, value)?;
        found.push(format!("{what} {}", finding.found));
        outcomes.push(finding.outcome);
    }
    Ok(together(
        "MRCONFIGID, MROWNER and MROWNERCONFIG are ones that the policy accepts",
        found.join(", "),
        outcomes,
    ))
}

/// What quote and TDREPORT say beside the body of version 4, and whether the quote says it.
fn told(evidence: &Evidence<'_>) -> Result<(Bindings, Bindings), Finding> {
    let reported = evidence
        .td_report()
        .and_then(|report| Bindings::of_report(&report))
        .map_err(broken(NO_TD))?;
    Ok(match &evidence.quote {
        Some(Ok(quote)) => (*quote.bindings(), reported),
        Some(Err(problem)) => return Err(broken(NO_TD)(problem)),
        // Without a quote the TDREPORT stands for it.
        None => (reported, reported),
    })
}

pub(super) fn bindings(evidence: &Evidence<'_>) -> Checked {
    let (quoted, reported) = told(evidence)?;
    judge_bindings(evidence, quoted, quoted.or(reported))
}

/// As [`bindings`], where there is no TDREPORT beside the quote.
pub(super) fn bindings_of_quote(evidence: &Evidence<'_>) -> Checked {
    let quoted = *quote(evidence)?.bindings();
    judge_bindings(evidence, quoted, quoted)
}

/// As [`partition`], where there is no TDREPORT beside the quote.
pub(super) fn partition_of_quote(evidence: &Evidence<'_>) -> Checked {
    judge_partition(*quote(evidence)?.bindings())
}

fn quote<'a>(evidence: &'a Evidence<'_>) -> Result<&'a TdQuote, Finding> {
    match &evidence.quote {
        Some(Ok(quote)) => Ok(quote),
        Some(Err(problem)) => Err(broken(NO_TD)(problem)),
        None => Err(broken(NO_TD)("no quote")),
    }
}

fn judge_bindings(evidence: &Evidence<'_>, quoted: Bindings, told: Bindings) -> Checked {
    let devices = told.devices.filter(|devices| *devices != NOBODY);
    if let Some(devices) = devices {
        return Err(Finding::failed(
            "devices are bound to the TD, and L1 drives none",
            hex::encode(NOBODY),
            hex::encode(devices),
        ));
    }
    let td = evidence.td().map_err(broken(NO_TD))?;
    let later = td_body::attributes(&td) & td_attributes::SERVTD_EXT != 0;
    let policy = &evidence.policy.td.mrservicetd;
    let untold = quoted.service_td.is_none() || *policy == Allowed::Absent;
    if later && told.current_service_td.is_none() && untold {
        return Err(Finding::failed(
            "service TDs may have been bound to the TD since it was created (SERVTD_EXT), and this report does not tell (td.mrservicetd)",
            "SERVTD_EXT clear",
            td_attributes::names(td_body::attributes(&td)),
        ));
    }
    // The current ones where they are told apart.
    let bound = [told.current_service_td, told.service_td];
    let bound = bound.into_iter().flatten().find(|hash| *hash != NOBODY);
    match (bound, policy) {
        (Some(hash), Allowed::Absent) => Err(Finding::failed(
            "a service TD is bound to the TD, and may act on it (td.mrservicetd)",
            hex::encode(NOBODY),
            hex::encode(hash),
        )),
        (Some(hash), allowed) => by_policy(
            "the service TD that is bound to the TD (MRSERVICETD)",
            "td.mrservicetd",
            allowed,
            &hash,
        ),
        (None, Allowed::OneOf(hashes)) => Err(Finding::failed(
            "no service TD is bound to the TD, and the policy asks for one (td.mrservicetd)",
            hashes.iter().map(hex::encode).collect::<Vec<_>>().join(" "),
            "none",
        )),
        (None, _) if quoted.service_td.is_none() => Ok(Finding::skipped(
            "no service TD is bound to the TD, as far as the TDREPORT says",
            "this version of a quote does not cover it",
        )),
        (None, _) => Ok(Finding::passed(
            "no service TD and no device is bound to the TD",
            "MRSERVICETD is zero",
        )),
    }
}

pub(super) fn partition(evidence: &Evidence<'_>) -> Checked {
    let (quoted, reported) = told(evidence)?;
    judge_partition(quoted.or(reported))
}

fn judge_partition(told: Bindings) -> Checked {
    match told.vm {
        Some(0) => Ok(Finding::passed(
            "the report was made for the L1 VMM",
            "VMID 0",
        )),
        Some(vm) => Err(Finding::failed(
            "the report was made for another VM of the TD: L1 makes its reports for itself",
            "VMID 0",
            format!("VMID {vm}"),
        )),
        None => Ok(Finding::skipped(
            "for which VM of the TD the report was made is not told: only the L1 VMM can ask for one",
            "TDX modules before 1.5.34 do not say",
        )),
    }
}
