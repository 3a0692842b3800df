//! Everything that a run of the verifier says, as data: `--json` and [`page`](crate::page()) are two renderings of it.

mod events;
mod words;

pub use events::{EventLog, LoggedEvent};

use crate::{
    check::{Check, Id, Report, Verdict},
    text::printable,
};
use attestation::bundle::Bundle;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// What was judged, by what, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct About {
    /// Version of this verifier.
    pub verifier: &'static str,
    /// The time as of which it was judged, RFC 3339.
    pub time: String,
    /// The relying party's nonce, hex.
    pub nonce: String,
    /// The bundle.
    pub evidence: File,
    /// What is accepted.
    pub policy: File,
    /// SHA-256 of the trusted root certificate, hex.
    pub root_sha256: String,
}

/// A file, so that somebody else can tell that theirs is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// As it was named on the command line.
    pub name: String,
    /// SHA-256, hex.
    pub sha256: String,
}

impl File {
    /// A file of this name with this content.
    pub fn new(name: &str, content: &[u8]) -> File {
        File {
            name: printable(name),
            sha256: hex::encode(Sha256::digest(content)),
        }
    }
}

/// The report, what it is about, and the measured events in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Whether no link is broken.
    pub trusted: bool,
    /// Whether all was checked.
    pub verdict: Verdict,
    /// The first broken link.
    pub first_failure: Option<Id>,
    /// The checks that the policy made to accept whatever is there.
    pub accepted: Vec<Id>,
    /// What was judged.
    pub about: About,
    /// Every check, in order.
    pub checks: Vec<Check>,
    /// The CC event log and the TCG event log; none if the bundle could not be read.
    pub event_logs: Vec<EventLog>,
}

impl Account {
    /// Of a report about a bundle, if the evidence was one.
    pub fn new(report: Report, about: About, bundle: Option<&Bundle>) -> Account {
        let mut event_logs = bundle.map_or_else(Vec::new, |bundle| EventLog::both(bundle).into());
        for event in event_logs.iter_mut().flat_map(|log| &mut log.events) {
            event.outcome = Some(worst(&report, &event.checks));
        }
        Account {
            trusted: report.is_trusted(),
            verdict: report.verdict(),
            first_failure: report.first_failure().map(|check| check.id),
            accepted: report.accepted().map(|check| check.id).collect(),
            about,
            checks: report.checks,
            event_logs,
        }
    }

    /// The line of one check.
    pub fn check(&self, id: Id) -> Option<&Check> {
        self.checks.iter().find(|check| check.id == id)
    }
}

/// The worst outcome of some checks.
fn worst(report: &Report, checks: &[Id]) -> &'static str {
    let outcomes = checks.iter().filter_map(|id| report.check(*id));
    let names: Vec<_> = outcomes.map(|check| check.outcome.name()).collect();
    ["failed", "not-reached", "accepted", "skipped"]
        .into_iter()
        .find(|name| names.contains(name))
        .unwrap_or("passed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Finding, run};

    #[test]
    fn an_event_is_judged_by_the_worst_of_its_checks() {
        let judged = |kernel: fn() -> Result<Finding, Finding>| {
            let report = run(|id| match id {
                Id::LaunchKernel => kernel(),
                _ => Ok(Finding::passed("", "")),
            });
            worst(&report, &[Id::Rtmr1, Id::LaunchKernel])
        };
        assert_eq!(judged(|| Ok(Finding::passed("", ""))), "passed");
        assert_eq!(judged(|| Ok(Finding::accepted("", "", ""))), "accepted");
        assert_eq!(judged(|| Err(Finding::failed("", "", ""))), "failed");
    }
}
