//! What is checked in another way where L1 asks for its key, before there is a vTPM.

use super::{broken, event_log::of_rtmr, same, td};
use crate::{
    check::{Checked, Finding},
    evidence::Evidence,
    launch::LaunchEvidence,
    limits::Oversize,
};

pub(super) fn format(evidence: &Evidence<'_>) -> Checked {
    match evidence.oversize {
        Some(Oversize {
            member,
            size,
            limit,
        }) => Err(Finding::failed(
            format!("the evidence's {member} is larger than this verifier reads"),
            format!("at most {limit} bytes"),
            format!("{size} bytes"),
        )),
        None => Ok(Finding::passed("quote and log have bounded sizes", "")),
    }
}

pub(super) fn report_data(evidence: &Evidence<'_>, launch: &LaunchEvidence<'_>) -> Checked {
    let td = evidence
        .td()
        .map_err(broken("there is no TD to compare REPORTDATA with"))?;
    same(
        "the quote was not made for this request: it is of another nonce or key, or of another TD",
        &launch.report_data[..],
        &td.report_data[..],
    )?;
    Ok(Finding::passed(
        "REPORTDATA is what this request's must be",
        hex::encode(td.report_data),
    ))
}

pub(super) fn config(evidence: &Evidence<'_>, launch: &LaunchEvidence<'_>) -> Checked {
    let td = evidence
        .td()
        .map_err(broken("there is no TD to compare the configuration with"))?;
    same(
        "MRCONFIGID is not the digest of the init-data document that was presented",
        &launch.init_data[..],
        &td.mrconfigid[..],
    )?;
    td::config(evidence)
}

/// A key is given before L2 has run: what came after that is not covered by RTMR0 to RTMR2.
pub(super) fn no_journal(evidence: &Evidence<'_>) -> Checked {
    let events = of_rtmr(evidence, u32::from(attestation::journal::RTMR))?.count();
    let td = evidence
        .td()
        .map_err(broken("there is no TD to compare the log with"))?;
    let [.., rtmr3] = td.rtmr;
    if events != 0 || rtmr3 != [0; 48] {
        return Err(Finding::failed(
            "RTMR3 is not as it is before the vTPM starts: L2 may have run already",
            hex::encode([0; 48]),
            hex::encode(rtmr3),
        ));
    }
    Ok(Finding::passed(
        "the vTPM has not started: nothing was measured into RTMR3",
        hex::encode(rtmr3),
    ))
}
