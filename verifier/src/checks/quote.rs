//! The TD quote: from the trusted root to the TD.

use super::broken;
use crate::{
    check::{Checked, Finding},
    evidence::Evidence,
    policy::Allowed,
    quote::TdQuote,
    tcb::TcbError,
};
use attestation::window::Status;

const NO_QUOTE: &str = "there is no quote, and the policy does not require one";

/// The quote; without one, a skipped check.
fn quote<'a>(evidence: &'a Evidence<'_>) -> Result<&'a TdQuote, Finding> {
    match &evidence.quote {
        Some(Ok(quote)) => Ok(quote),
        Some(Err(problem)) => Err(broken("this is not a TD quote that this verifier knows")(
            problem,
        )),
        None => Err(Finding::skipped("not verified", NO_QUOTE)),
    }
}

pub(super) fn format(evidence: &Evidence<'_>) -> Checked {
    if evidence.quote.is_none() {
        let status = Status::from_code(evidence.bundle.td_quote_status)
            .map_or_else(|| "unknown status".to_owned(), |status| status.to_string());
        if evidence.policy.quote.required {
            return Err(Finding::failed(
                "there is no TD quote, so nothing proves that a TDX module made the report; \
                 collect evidence again where the host has a quoting service",
                "a TD quote",
                status,
            ));
        }
        return Ok(Finding::accepted(
            "no quote: the TDREPORT stands for it, unproven, as its MAC can be checked on its own platform only",
            "quote.required = false",
            status,
        ));
    }
    let quote = quote(evidence)?;
    Ok(Finding::passed(
        "a TD quote, signed with ECDSA P-256, with its PCK certificate chain",
        format!("version {}", quote.version()),
    ))
}

pub(super) fn pck_chain(evidence: &Evidence<'_>) -> Checked {
    let quote = quote(evidence)?;
    let root = crate::certificate::Certificate::parse(&evidence.collateral.root)
        .map_err(broken("the trusted root is not a certificate"))?;
    quote
        .verify_chain(evidence.collateral, evidence.now)
        .map_err(|problem| {
            Finding::failed(
                "the PCK certificate does not lead to the trusted root, is not valid now, or is revoked",
                root.subject(),
                problem,
            )
        })?;
    Ok(Finding::passed(
        "the PCK certificate leads to the trusted root and is valid now",
        root.subject(),
    ))
}

pub(super) fn signature(evidence: &Evidence<'_>) -> Checked {
    let quote = quote(evidence)?;
    quote
        .verify_signatures()
        .map_err(|problem| Finding::failed(problem, "a valid signature", "an invalid one"))?;
    Ok(Finding::passed(
        "PCK key signs the quoting enclave's report, that binds the attestation key, and this signs the quote",
        "3 links",
    ))
}

pub(super) fn tcb(evidence: &Evidence<'_>) -> Checked {
    tcb_of(quote(evidence)?, evidence)
}

/// The TCB status of the platform that made a quote.
pub(super) fn tcb_of(quote: &TdQuote, evidence: &Evidence<'_>) -> Checked {
    if quote.has_refused_attributes() {
        return Ok(Finding::skipped(
            "the TCB of a TD with such attributes is not looked up",
            "see td-attributes and td-bindings",
        ));
    }
    let claims = quote
        .verify_tcb(evidence.collateral, evidence.now)
        .map_err(|error| match error {
            TcbError::Missing(what) => Finding::failed(
                "the platform's TCB status cannot be known: put the file into the directory of --roots \
                 (its source is in the verifier's README)",
                what,
                "no such file",
            ),
            TcbError::Refused(problem) => Finding::failed(
                "the collateral is not genuine or not current, or the platform is not in it",
                "collateral that verifies at the time of verification",
                problem,
            ),
        })?;
    let policy = &evidence.policy.tcb;
    let found = format!(
        "{}, advisories: {}, TCB evaluation {}",
        claims.tcb.status,
        match claims.tcb.advisory_ids.join(" ") {
            none if none.is_empty() => "none".to_owned(),
            some => some,
        },
        claims.tcb.eval_data_number
    );
    if !policy.statuses.contains(&claims.tcb.status) {
        let statuses: Vec<_> = policy.statuses.iter().map(ToString::to_string).collect();
        return Err(Finding::failed(
            "the platform's TCB status is not one that the policy accepts (tcb.statuses)",
            statuses.join(" "),
            found,
        ));
    }
    let open = claims
        .tcb
        .advisory_ids
        .iter()
        .find(|advisory| !policy.advisories.allows(advisory));
    if let Some(advisory) = open {
        let accepted = match &policy.advisories {
            Allowed::OneOf(list) => list.join(" "),
            _ => String::new(),
        };
        return Err(Finding::failed(
            format!("advisory {advisory} is open on this platform (tcb.advisories)"),
            accepted,
            found,
        ));
    }
    if claims.tcb.eval_data_number < policy.min_evaluation_data_number {
        return Err(Finding::failed(
            "the collateral is older than the policy accepts (tcb.min_evaluation_data_number)",
            policy.min_evaluation_data_number.to_string(),
            found,
        ));
    }
    if policy.advisories == Allowed::Any && !claims.tcb.advisory_ids.is_empty() {
        return Ok(Finding::accepted(
            "collateral is genuine and current, and the platform's TCB status is accepted; advisories are open on it",
            super::any("tcb.advisories"),
            found,
        ));
    }
    Ok(Finding::passed(
        "collateral is genuine and current, and the platform's TCB status is accepted",
        found,
    ))
}
