//! Each lie breaks one link, and the verifier names it and no other.
//!
//! A lie is told about the evidence of an honest boot ([`Lie`]), or it is a boot that is honest about being another one
//! than the relying party accepts ([`OtherBoot`]). What a liar who holds every key could still do (a quoting enclave's,
//! say) is told with a [`forgery`].
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

mod bits;
mod boots;
mod certificates;
mod clippings;
mod forgeries;
mod forgery;
mod form;
mod logs;
mod pcrs;
mod policies;
mod quotes;
mod resets;
mod splices;
mod subjects;
mod tpm_quotes;
mod versions;

use evidence::{Boot, Evidence, Machine};
use verifier::{Id, Outcome};

/// A change of evidence, and the check that it fails.
struct Lie {
    name: &'static str,
    breaks: Id,
    tell: fn(&mut Evidence),
}

/// A boot that is not the one that the policy is about.
struct OtherBoot {
    name: &'static str,
    breaks: Id,
    boot: fn(&mut Boot),
    act: fn(&mut Machine),
}

/// Tells each lie about `honest`.
#[track_caller]
fn assert_seen(honest: &Evidence, lies: &[Lie]) {
    assert!(honest.verify().is_trusted());
    let mut wrong = Vec::new();
    for lie in lies {
        let mut evidence = honest.clone();
        (lie.tell)(&mut evidence);
        wrong.extend(judge(lie.name, lie.breaks, &evidence));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What is wrong with the verifier's judgement of evidence that breaks one link.
fn judge(name: &str, breaks: Id, evidence: &Evidence) -> Option<String> {
    let report = evidence.verify();
    let failures: Vec<Id> = report.failures().collect();
    let refused = !report.is_trusted();
    if failures == [breaks] && refused {
        return None;
    }
    let found: Vec<String> = report
        .checks
        .iter()
        .filter(|check| check.outcome == Outcome::Failed)
        .map(|check| format!("{}: {} ({})", check.id, check.sentence, check.found))
        .collect();
    Some(format!("{name}: not {breaks} alone, but {found:?}"))
}

/// Boots each, and verifies it by the policy for the default boot.
#[track_caller]
fn assert_refused(boots: &[OtherBoot]) {
    assert_not_taken_for(Boot::default, boots);
}

/// Judges each boot by the policy of the boot that it began as.
#[track_caller]
fn assert_not_taken_for(honest: fn() -> Boot, boots: &[OtherBoot]) {
    let policy = honest().policy();
    let mut wrong = Vec::new();
    for other in boots {
        let mut boot = honest();
        (other.boot)(&mut boot);
        let mut evidence = boot.evidence_after(other.act);
        evidence.policy = policy.clone();
        wrong.extend(judge(other.name, other.breaks, &evidence));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The tables, as they are written.
const TABLES: [&str; 12] = [
    include_str!("boots.rs"),
    include_str!("certificates.rs"),
    include_str!("forgeries.rs"),
    include_str!("form.rs"),
    include_str!("logs.rs"),
    include_str!("pcrs.rs"),
    include_str!("policies.rs"),
    include_str!("quotes.rs"),
    include_str!("resets.rs"),
    include_str!("splices.rs"),
    include_str!("tpm_quotes.rs"),
    include_str!("versions.rs"),
];

#[test]
fn every_check_has_a_lie() {
    let silent: Vec<Id> = Id::ALL
        .iter()
        .copied()
        .filter(|id| {
            let named = format!("Id::{id:?},");
            !TABLES.iter().any(|table| table.contains(&named))
        })
        .collect();
    assert_eq!(silent, []);
}
