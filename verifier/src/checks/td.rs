//! What TD it is.

use super::{any, broken, by_policy, together};
use crate::{
    check::{Checked, Finding, Outcome},
    evidence::Evidence,
    policy::{Bits, MaskedBits},
    td_attributes, td_body,
};

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
