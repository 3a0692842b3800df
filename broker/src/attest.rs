//! Evidence to a verdict.

use crate::refused::Refused;
use crate::store::Policy as Allowed;
use serde::{Deserialize, Serialize};
use std::path::Path;
use verifier::{
    Check, Collateral, Id, LaunchEvidence, Outcome, Policy, Report, Verdict, verify_launch,
};

/// A folder that there is not: a policy that the broker keeps names no files.
const NO_FOLDER: &str = "/nonexistent";

/// SHA-256 of the root certificate of the simulated platform, whose keys everybody has.
pub const SIMULATED_ROOT_SHA256: &str =
    "55828184c527c8b076b09c8d63f419047d6e434a91ae7146378a758bbcf3bdc8";

/// What was found of evidence, as it is kept and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// When, in Unix seconds.
    pub time: u64,
    /// By which policy.
    pub policy: String,
    /// `checked`, `accepted` or `refused`.
    pub verdict: String,
    /// The verifier's table.
    pub checks: Vec<Row>,
}

/// A line of the verifier's table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Which check.
    pub check: String,
    /// What came of it.
    pub outcome: String,
    /// What that means.
    pub sentence: String,
    /// What would have been right.
    pub expected: String,
    /// What was found.
    pub found: String,
}

impl Row {
    fn of(check: &Check) -> Self {
        Self {
            check: check.id.name().into(),
            outcome: check.outcome.name().into(),
            sentence: check.sentence.clone(),
            expected: check.expected.clone(),
            found: check.found.clone(),
        }
    }
}

/// What the policies say of evidence.
#[derive(Debug)]
pub enum Judgement {
    /// It passes this one.
    Passed(Judged),
    /// It passes none: what the one that was allowed last says, and whether a platform signed the quote at all.
    Refused {
        /// To be kept.
        judged: Judged,
        /// To be answered.
        why: Refused,
        /// Whether the quote leads to the trusted root. What does not, anybody can have made.
        genuine: bool,
    },
}

/// Judges evidence by each policy, the last allowed first.
///
/// # Errors
/// [`Refused::NoPolicy`].
pub fn judge(
    launch: &LaunchEvidence<'_>,
    policies: &[Allowed],
    collateral: &Collateral,
    now: u64,
) -> Result<Judgement, Refused> {
    let mut first = None;
    for allowed in policies {
        let Ok(policy) = Policy::parse(&allowed.text, Path::new(NO_FOLDER)) else {
            tracing::error!(
                policy = allowed.name,
                "a policy in the database cannot be read"
            );
            continue;
        };
        let report = verify_launch(launch, &policy, collateral, now);
        let judged = Judged {
            time: now,
            policy: allowed.name.clone(),
            verdict: match report.verdict() {
                Verdict::Checked => "checked",
                Verdict::Accepted => "accepted",
                Verdict::Refused => "refused",
            }
            .into(),
            checks: report.checks.iter().map(Row::of).collect(),
        };
        if report.is_trusted() {
            return Ok(Judgement::Passed(judged));
        }
        first.get_or_insert((judged, report));
    }
    let (judged, report) = first.ok_or(Refused::NoPolicy)?;
    Ok(Judgement::Refused {
        judged,
        why: why(&report),
        genuine: report
            .check(Id::QuoteSignature)
            .is_some_and(|check| check.outcome == Outcome::Passed),
    })
}

fn why(report: &Report) -> Refused {
    let failed = report.first_failure();
    Refused::Evidence {
        check: failed.map_or("evidence", |check| check.id.name()),
        sentence: failed.map_or_else(String::new, |check| check.sentence.clone()),
    }
}

/// Reads a policy that the broker is to keep.
///
/// # Errors
/// The verifier cannot read it; it names files, whose digests would be lost.
pub fn check_policy(text: &str) -> anyhow::Result<()> {
    Policy::parse(text, Path::new(NO_FOLDER))
        .map(drop)
        .map_err(|error| {
            anyhow::anyhow!(
                "{error}\nThe broker keeps the text alone: name digests, not files (`cargo xtask measure --policy` does)"
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn the_simulated_root_is_that_of_the_simulators_quoting_enclave() {
        let root = include_bytes!("../../sim/quoting/pki/root-ca.der");
        assert_eq!(hex::encode(Sha256::digest(root)), SIMULATED_ROOT_SHA256);
    }

    #[test]
    fn a_policy_that_names_files_is_not_kept() {
        let text = include_str!("../../verifier/policy.toml");
        check_policy(text).unwrap();
        let files = text.replace("mrtd = [", "image = \"tdshim.bin\"\n#[");
        let problem = check_policy(&files).unwrap_err().to_string();
        assert!(problem.contains("name digests"), "{problem}");
    }
}
