//! What TD it is.

use super::{broken, by_policy};
use crate::{
    check::{Checked, Finding, Outcome},
    evidence::Evidence,
    policy::{Allowed, MaskedBits},
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
    let sentence = match under_debug {
        true => "the host can look into this TD, and the policy accepts that",
        false => "the host cannot look into this TD",
    };
    Ok(Finding::passed(sentence, names))
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
    for (field, bits, allowed) in [
        ("ATTRIBUTES", attributes, policy.attributes),
        ("XFAM", xfam, policy.xfam),
    ] {
        if let Some(allowed @ MaskedBits { value, mask }) = allowed
            && !allowed.allows(bits)
        {
            return Err(Finding::failed(
                format!("{field} has other bits than the policy accepts"),
                format!("{value:016x}, mask {mask:016x}"),
                format!("{bits:016x}"),
            ));
        }
    }
    Ok(Finding::passed(
        "ATTRIBUTES and XFAM have no bit that must be clear, and those that the policy asks for",
        format!("{attributes:016x}, XFAM {xfam:016x}"),
    ))
}

pub(super) fn mrtd(evidence: &Evidence<'_>) -> Checked {
    let td = evidence.td().map_err(broken(NO_TD))?;
    // Any TD can write logs and certificates like L1's: all that follows rests on this one.
    if evidence.policy.td.mrtd == Allowed::Unsaid {
        return Err(Finding::failed(
            "the policy does not say which MRTD it accepts, so nothing says that L1 made this evidence: \
             set td.mrtd or td.image",
            "td.mrtd or td.image in the policy (\"any\" accepts every TD)",
            hex::encode(td.mrtd),
        ));
    }
    by_policy(
        "MRTD (td-shim with L1)",
        "td.mrtd or td.image",
        &evidence.policy.td.mrtd,
        &td.mrtd,
    )
}

pub(super) fn config(evidence: &Evidence<'_>) -> Checked {
    let td = evidence.td().map_err(broken(NO_TD))?;
    let policy = &evidence.policy.td;
    let findings = [
        by_policy(
            "MRCONFIGID",
            "td.mrconfigid",
            &policy.mrconfigid,
            &td.mrconfigid,
        )?,
        by_policy("MROWNER", "td.mrowner", &policy.mrowner, &td.mrowner)?,
        by_policy(
            "MROWNERCONFIG",
            "td.mrownerconfig",
            &policy.mrownerconfig,
            &td.mrownerconfig,
        )?,
    ];
    if findings
        .iter()
        .all(|finding| finding.outcome != Outcome::Passed)
    {
        return Ok(Finding::skipped(
            "MRCONFIGID, MROWNER and MROWNERCONFIG were not compared",
            "the policy has no td.mrconfigid, td.mrowner or td.mrownerconfig",
        ));
    }
    Ok(Finding::passed(
        "MRCONFIGID, MROWNER and MROWNERCONFIG are ones that the policy accepts",
        "",
    ))
}
