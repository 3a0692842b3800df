//! How many processors the TD and L2 have.
//!
//! Each of them runs L1, which MRTD measures, so their number decides nothing of what can be trusted: it is compared where
//! the policy asks for it, and shown where it does not.

use super::{any, certificates, together};
use crate::{
    check::{Checked, Finding, Outcome},
    evidence::Evidence,
    policy::Allowed,
};

pub(super) fn count(evidence: &Evidence<'_>) -> Checked {
    let policy = &evidence.policy.vtpm;
    let told = certificates::start(evidence)?.processors;
    let named = [
        (
            "vtpm.processors",
            &policy.processors,
            told.map(|told| told.td()),
        ),
        (
            "vtpm.l2_processors",
            &policy.l2_processors,
            told.map(|told| told.l2()),
        ),
    ];
    let mut outcomes = Vec::new();
    for (key, allowed, found) in named {
        if let Some(allowed) = allowed {
            outcomes.push(one_of(key, found, allowed)?);
        }
    }
    let shown = told.map_or_else(|| "not told".to_owned(), |told| told.to_string());
    Ok(match outcomes.is_empty() {
        true => Finding {
            found: shown,
            ..Finding::skipped(
                "the number of processors was not compared",
                "the policy names none (vtpm.processors)",
            )
        },
        false => together(
            "there are as many processors as the policy accepts",
            shown,
            outcomes,
        ),
    })
}

/// Compares a number, which an older L1 does not tell.
fn one_of(key: &str, found: Option<u32>, allowed: &Allowed<u32>) -> Result<Outcome, Finding> {
    match (allowed, found) {
        (Allowed::Any, _) => return Ok(Outcome::Accepted { by: any(key) }),
        (Allowed::OneOf(numbers), Some(found)) if numbers.contains(&found) => {
            return Ok(Outcome::Passed);
        }
        _ => {}
    }
    let sentence = match found {
        Some(_) => "there are not as many processors as the policy accepts",
        None => "the journal's start does not tell how many processors there are",
    };
    let expected = match allowed {
        Allowed::OneOf(numbers) => numbers
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(", "),
        Allowed::Any | Allowed::Absent => String::new(),
    };
    Err(Finding::failed(
        format!("{sentence} ({key})"),
        expected,
        found.map_or_else(|| "not told".to_owned(), |found| found.to_string()),
    ))
}
