//! The checks: their names, what each rests on, and what came of them.

use crate::text::printable;
use serde::Serialize;
use std::fmt;

macro_rules! ids {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal, needs [$($needs:ident),*];)*) => {
        /// A link of the chain from the relying party's nonce to the vTPM's PCRs, in the order of the report.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Id {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Id {
            /// Every check, in the order of the report.
            pub const ALL: &'static [Id] = &[$(Id::$variant),*];

            /// The name that policies, tables and tests use.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Id::$variant => $name,)*
                }
            }

            /// What holds if this check passes, in a sentence.
            pub const fn claim(self) -> &'static str {
                match self {
                    $(Id::$variant => concat!($($doc),*).trim_ascii(),)*
                }
            }

            /// The checks whose truth this one takes for granted: where one of them fails, what
            /// this one would compare says nothing, and it is not reached.
            pub const fn needs(self) -> &'static [Id] {
                match self {
                    $(Id::$variant => &[$(Id::$needs),*],)*
                }
            }
        }
    };
}

ids! {
    /// The bundle has the members, sizes and version of its format.
    BundleFormat = "bundle-format", needs [];
    /// The claims carry the relying party's nonce.
    NonceClaims = "nonce-claims", needs [ReportData];
    /// There is a TD quote of a kind that this verifier knows.
    QuoteFormat = "quote-format", needs [BundleFormat];
    /// The PCK certificate leads to the trusted root and is not revoked.
    QuotePckChain = "quote-pck-chain", needs [QuoteFormat];
    /// The platform's key (PCK) signs the quoting enclave's report, and through it the quote.
    QuoteSignature = "quote-signature", needs [QuotePckChain];
    /// Collateral is genuine and current, and the platform's TCB status is accepted.
    QuoteTcb = "quote-tcb", needs [QuoteSignature];
    /// The host cannot look into the TD.
    TdDebug = "td-debug", needs [ReportData];
    /// ATTRIBUTES and XFAM of the TD are accepted.
    TdAttributes = "td-attributes", needs [ReportData, TdDebug];
    /// MRTD is that of an accepted image.
    Mrtd = "mrtd", needs [ReportData];
    /// MRCONFIGID, MROWNER and MROWNERCONFIG of the TD are accepted.
    TdConfig = "td-config", needs [ReportData];
    /// The CC event log parses to its end.
    CcLogFormat = "cc-log-format", needs [BundleFormat];
    /// The log gives RTMR0.
    Rtmr0 = "rtmr0", needs [CcLogFormat, ReportData];
    /// The log gives RTMR1.
    Rtmr1 = "rtmr1", needs [CcLogFormat, ReportData];
    /// The log gives RTMR2.
    Rtmr2 = "rtmr2", needs [CcLogFormat, ReportData];
    /// The log gives RTMR3.
    Rtmr3 = "rtmr3", needs [CcLogFormat, ReportData];
    /// RTMR0 to RTMR2 hold what a start of L1 leaves, in its order.
    EventsOrder = "events-order", needs [Rtmr0, Rtmr1, Rtmr2];
    /// What the firmware measured is accepted, and the TD HOB says nothing that it must not be told.
    FirmwareEvents = "firmware-events", needs [EventsOrder];
    /// The kernel that L1 booted is accepted.
    LaunchKernel = "launch-kernel", needs [EventsOrder];
    /// The command line that L1 gave it is accepted.
    LaunchCommandLine = "launch-command-line", needs [EventsOrder];
    /// The initrd that L1 gave it is accepted.
    LaunchInitrd = "launch-initrd", needs [EventsOrder];
    /// Every event of RTMR0 to RTMR2 is one that is known, where it belongs, and its data gives its digest.
    EventsExplained = "events-explained", needs [FirmwareEvents, LaunchKernel, LaunchCommandLine, LaunchInitrd];
    /// The quote is over these claims.
    ReportData = "report-data", needs [BundleFormat, QuoteSignature];
    /// The TDREPORT beside the claims is consistent, and the one that was quoted.
    ReportMatchesQuote = "report-matches-quote", needs [ReportData];
    /// No service TD and no device is bound to the TD, but those that policy accepts.
    TdBindings = "td-bindings", needs [ReportMatchesQuote];
    /// The report was made for L1, not for another VM of the TD.
    TdPartition = "td-partition", needs [ReportMatchesQuote];
    /// Every event of RTMR3 is a record of the journal.
    JournalFormat = "journal-format", needs [Rtmr3];
    /// The journal begins with one start that policy accepts.
    JournalStart = "journal-start", needs [JournalFormat];
    /// There are as many processors as the policy accepts, if it asks.
    Processors = "processors", needs [JournalStart];
    /// What unlocked the TPM's state is accepted, if it is one that is kept across boots.
    StateUnlock = "state-unlock", needs [JournalStart];
    /// The claims name the journal's head and length.
    JournalHead = "journal-head", needs [JournalFormat];
    /// The journal was not ended for want of room.
    JournalComplete = "journal-complete", needs [JournalFormat];
    /// Nothing in the journal is forbidden.
    JournalPolicy = "journal-policy", needs [JournalStart];
    /// The CA certificate is well-formed, signs itself, and its key is the journal's.
    CaCertificate = "ca-certificate", needs [JournalStart];
    /// The CA certificate's own quote or report is of this TD and over the CA's key.
    CaQuote = "ca-quote", needs [CaCertificate, Mrtd, TdAttributes, TdConfig, Rtmr0, Rtmr1, Rtmr2];
    /// The platform that quoted the CA had an accepted TCB status, too.
    CaQuoteTcb = "ca-quote-tcb", needs [CaQuote, QuoteTcb];
    /// The EK certificates are the CA's and have the profile.
    EkCertificates = "ek-certificates", needs [CaCertificate];
    /// Certificates, journal and claims name the same EKs.
    EkNames = "ek-names", needs [EkCertificates];
    /// One of the EKs is one that the relying party knows.
    EkPolicy = "ek-policy", needs [EkNames];
    /// The AK certificate is the CA's.
    AkCertificate = "ak-certificate", needs [CaCertificate];
    /// Certificate, journal and claims name the same AK.
    AkName = "ak-name", needs [AkCertificate];
    /// An AK of the guest's own is certified by L1's.
    AkCertified = "ak-certified", needs [AkName];
    /// The AK signed the TPM quote.
    TpmQuoteSignature = "tpm-quote-signature", needs [AkCertified];
    /// The TPM quote carries the nonce.
    TpmQuoteNonce = "tpm-quote-nonce", needs [TpmQuoteSignature, NonceClaims];
    /// The TPM quote is over the PCR values of the bundle.
    TpmQuotePcrs = "tpm-quote-pcrs", needs [TpmQuoteSignature];
    /// The TCG event log parses to its end.
    TcgLogFormat = "tcg-log-format", needs [BundleFormat];
    /// The TCG event log gives PCRs 0 to 9, and those above that nothing else may extend.
    PcrReplay = "pcr-replay", needs [TcgLogFormat, PcrBanks];
    /// The TCG event log tells of the launch what the CC event log and the TD tell.
    PcrLaunch = "pcr-launch", needs [PcrReplay, EventsExplained, Mrtd];
    /// The claims bind the PCR values of all banks.
    PcrBanks = "pcr-banks", needs [TpmQuotePcrs, ReportData];
    /// The journal gives the PCR values.
    PcrJournal = "pcr-journal", needs [PcrBanks, JournalStart, JournalComplete];
    /// The PCR values are accepted.
    PcrPolicy = "pcr-policy", needs [PcrLaunch, PcrJournal];
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Characters of each text of a check, at most.
const TEXT_LIMIT: usize = 4096;

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// The link holds.
    Passed,
    /// The link is broken: the evidence must not be trusted.
    Failed,
    /// The policy accepts whatever is there: it was seen, and compared with nothing.
    Accepted {
        /// What in the policy says so.
        by: String,
    },
    /// There is nothing to compare: the evidence has no such part, or the policy asks nothing of it.
    Skipped {
        /// What is missing.
        why: String,
    },
    /// A check that this one rests on did not pass, so it was not made.
    NotReached {
        /// The first check it rests on that did not pass.
        after: Id,
    },
}

impl Outcome {
    /// Whether what rests on the check may be looked at: the link holds, or nothing says that it does not.
    pub fn holds(&self) -> bool {
        match self {
            Outcome::Passed | Outcome::Accepted { .. } | Outcome::Skipped { .. } => true,
            Outcome::Failed | Outcome::NotReached { .. } => false,
        }
    }

    /// As `--json` names it.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
            Outcome::Accepted { .. } => "accepted",
            Outcome::Skipped { .. } => "skipped",
            Outcome::NotReached { .. } => "not-reached",
        }
    }
}

/// What the checks come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every link holds, and was checked.
    Checked,
    /// No link is broken, and what the policy says to accept unseen was not checked.
    Accepted,
    /// A link is broken: the evidence must not be trusted.
    Refused,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which link.
    pub id: Id,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What was compared; where it failed, what to conclude.
    pub sentence: String,
    /// The value that would have been right, or empty.
    pub expected: String,
    /// The value in the evidence, or empty.
    pub found: String,
}

/// What [`verify`](crate::verify) found: one check for each of [`Id::ALL`], in that order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The checks.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether no link is broken. [`Self::verdict`] tells as well whether all of them were checked.
    pub fn is_trusted(&self) -> bool {
        self.checks.iter().all(|check| check.outcome.holds())
    }

    /// What the checks come to.
    pub fn verdict(&self) -> Verdict {
        match (self.is_trusted(), self.accepted().next()) {
            (false, _) => Verdict::Refused,
            (true, Some(_)) => Verdict::Accepted,
            (true, None) => Verdict::Checked,
        }
    }

    /// The checks that the policy made to accept whatever is there.
    pub fn accepted(&self) -> impl Iterator<Item = &Check> {
        self.checks
            .iter()
            .filter(|check| matches!(check.outcome, Outcome::Accepted { .. }))
    }

    /// The first broken link.
    pub fn first_failure(&self) -> Option<&Check> {
        self.checks
            .iter()
            .find(|check| check.outcome == Outcome::Failed)
    }

    /// The names of the checks that failed.
    pub fn failures(&self) -> impl Iterator<Item = Id> + '_ {
        self.checks
            .iter()
            .filter(|check| check.outcome == Outcome::Failed)
            .map(|check| check.id)
    }

    /// The line of one check.
    pub fn check(&self, id: Id) -> Option<&Check> {
        self.checks.iter().find(|check| check.id == id)
    }
}

/// What a check function says: a line of the report without its name.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) outcome: Outcome,
    pub(crate) sentence: String,
    pub(crate) expected: String,
    pub(crate) found: String,
}

/// A check's finding; `Err` is one that ends the check early.
pub(crate) type Checked = Result<Finding, Finding>;

impl Finding {
    /// The link holds; `found` is what was seen.
    pub(crate) fn passed(sentence: impl Into<String>, found: impl Into<String>) -> Finding {
        let found = found.into();
        Finding {
            outcome: Outcome::Passed,
            sentence: sentence.into(),
            expected: found.clone(),
            found,
        }
    }

    /// The link is broken.
    pub(crate) fn failed(
        sentence: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Finding {
        Finding {
            outcome: Outcome::Failed,
            sentence: sentence.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// The policy accepts whatever was found.
    pub(crate) fn accepted(
        sentence: impl Into<String>,
        by: impl Into<String>,
        found: impl Into<String>,
    ) -> Finding {
        Finding {
            outcome: Outcome::Accepted { by: by.into() },
            sentence: sentence.into(),
            expected: String::new(),
            found: found.into(),
        }
    }

    /// There is nothing to compare.
    pub(crate) fn skipped(sentence: impl Into<String>, why: impl Into<String>) -> Finding {
        Finding {
            outcome: Outcome::Skipped { why: why.into() },
            sentence: sentence.into(),
            expected: String::new(),
            found: String::new(),
        }
    }
}

/// Runs each check at most once, those that it rests on first.
pub(crate) fn run(mut check: impl FnMut(Id) -> Checked) -> Report {
    let mut done: Vec<Option<Check>> = vec![None; Id::ALL.len()];
    for id in Id::ALL {
        settle(*id, &mut done, &mut check);
    }
    Report {
        checks: done.into_iter().flatten().collect(),
    }
}

/// Whether `id` holds; makes the check if that was not done.
fn settle(id: Id, done: &mut Vec<Option<Check>>, check: &mut impl FnMut(Id) -> Checked) -> bool {
    let slot = id as usize;
    if let Some(Some(settled)) = done.get(slot) {
        return settled.outcome.holds();
    }
    let broken = id
        .needs()
        .iter()
        .find(|needed| !settle(**needed, done, check));
    let finding = match broken {
        None => check(id).unwrap_or_else(|finding| finding),
        Some(after) => Finding {
            outcome: Outcome::NotReached { after: *after },
            sentence: format!("rests on {after}, which does not hold"),
            expected: String::new(),
            found: String::new(),
        },
    };
    let settled = Check {
        id,
        outcome: match finding.outcome {
            Outcome::Accepted { by } => Outcome::Accepted { by: shown(&by) },
            Outcome::Skipped { why } => Outcome::Skipped { why: shown(&why) },
            outcome => outcome,
        },
        sentence: shown(&finding.sentence),
        expected: shown(&finding.expected),
        found: shown(&finding.found),
    };
    let result = settled.outcome.holds();
    if let Some(entry) = done.get_mut(slot) {
        *entry = Some(settled);
    }
    result
}

/// A text as it can be shown ([`printable`]), of at most [`TEXT_LIMIT`] characters: evidence must not make a report as
/// large as it likes.
fn shown(text: &str) -> String {
    match text.char_indices().nth(TEXT_LIMIT) {
        Some((end, _)) => printable(text.get(..end).unwrap_or_default()) + "…",
        None => printable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_in_order_of_their_numbers() {
        let names: HashSet<_> = Id::ALL.iter().map(|id| id.name()).collect();
        assert_eq!(names.len(), Id::ALL.len());
        for (index, id) in Id::ALL.iter().enumerate() {
            assert_eq!(*id as usize, index);
        }
    }

    #[test]
    fn a_claim_is_a_sentence() {
        for id in Id::ALL {
            let claim = id.claim();
            assert!(claim.ends_with('.') && claim.contains(' '), "{id}: {claim}");
            assert!(!claim.starts_with(' '), "{id}: {claim}");
        }
    }

    #[test]
    fn one_broken_link_fails_alone() {
        for broken in Id::ALL {
            let mut made = Vec::new();
            let report = run(|id| {
                made.push(id);
                if id == *broken {
                    Err(Finding::failed("", "", ""))
                } else {
                    Ok(Finding::passed("", ""))
                }
            });
            assert_eq!(report.failures().collect::<Vec<_>>(), [*broken]);
            assert_eq!(report.checks.len(), Id::ALL.len());
            assert_eq!(made.len(), made.iter().collect::<HashSet<_>>().len());
            assert!(!report.is_trusted());
        }
    }

    #[test]
    fn what_rests_on_a_broken_link_is_not_made() {
        let report = run(|id| {
            assert_ne!(id, Id::EventsOrder);
            if id == Id::Rtmr1 {
                Err(Finding::failed("", "", ""))
            } else {
                Ok(Finding::passed("", ""))
            }
        });
        let events = report.check(Id::EventsOrder).unwrap();
        assert_eq!(events.outcome, Outcome::NotReached { after: Id::Rtmr1 });
    }

    #[test]
    fn a_skipped_check_holds() {
        let report = run(|id| match id {
            Id::QuoteFormat => Ok(Finding::skipped("", "no quote")),
            _ => Ok(Finding::passed("", "")),
        });
        assert!(report.is_trusted());
    }

    #[test]
    fn what_policy_accepts_holds_and_is_told_apart() {
        let report = run(|id| match id {
            Id::LaunchKernel => Ok(Finding::accepted("", "launch.kernel = \"any\"", "")),
            _ => Ok(Finding::passed("", "")),
        });
        assert!(report.is_trusted());
        assert_eq!(report.verdict(), Verdict::Accepted);
        let accepted: Vec<Id> = report.accepted().map(|check| check.id).collect();
        assert_eq!(accepted, [Id::LaunchKernel]);
    }

    #[test]
    fn no_text_of_a_report_can_rewrite_what_is_shown() {
        let report = run(|_| {
            Ok(Finding {
                found: "\u{202e}c".into(),
                ..Finding::skipped("a\u{2066}", "b\x1b[2J")
            })
        });
        let check = report.check(Id::BundleFormat).unwrap();
        assert_eq!(check.sentence, "a\\u{2066}");
        assert_eq!(check.found, "\\u{202e}c");
        let why = "b\\u{1b}[2J".to_owned();
        assert_eq!(check.outcome, Outcome::Skipped { why });
    }

    #[test]
    fn evidence_does_not_make_a_report_large() {
        let report = run(|_| Err(Finding::failed("", "", "é".repeat(1 << 20))));
        let found = &report.check(Id::BundleFormat).unwrap().found;
        assert_eq!(found.chars().count(), TEXT_LIMIT + 1);
    }
}
