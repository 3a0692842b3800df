//! The checks in groups, in the order in which one explains them.

use crate::check::Id;

/// Checks that answer one question.
pub(super) struct Group {
    /// In the page's address.
    pub(super) anchor: &'static str,
    pub(super) title: &'static str,
    /// What they are about, in plain words.
    pub(super) about: &'static str,
    pub(super) checks: &'static [Id],
}

/// Every check, once.
pub(super) const GROUPS: &[Group] = &[
    Group {
        anchor: "request",
        title: "The request",
        about: "Was this evidence made for this request, and not earlier or for somebody else?",
        checks: &[Id::BundleFormat, Id::NonceClaims, Id::TpmQuoteNonce],
    },
    Group {
        anchor: "platform",
        title: "The platform",
        about: "Does a genuine Intel platform vouch for the trust domain, and is its firmware one without known faults?",
        checks: &[
            Id::QuoteFormat,
            Id::QuotePckChain,
            Id::QuoteSignature,
            Id::QuoteTcb,
            Id::ReportData,
            Id::ReportMatchesQuote,
        ],
    },
    Group {
        anchor: "trust-domain",
        title: "The trust domain",
        about: "Was it built from the expected image, with nothing that lets the host or others look in?",
        checks: &[
            Id::Mrtd,
            Id::TdDebug,
            Id::TdAttributes,
            Id::TdConfig,
            Id::TdBindings,
            Id::TdPartition,
        ],
    },
    Group {
        anchor: "launch",
        title: "What was started",
        about: "Which machine, kernel, command line and initial file system did the trust domain start?",
        checks: &[
            Id::CcLogFormat,
            Id::Rtmr0,
            Id::Rtmr1,
            Id::Rtmr2,
            Id::EventsOrder,
            Id::FirmwareEvents,
            Id::LaunchKernel,
            Id::LaunchCommandLine,
            Id::LaunchInitrd,
            Id::EventsExplained,
        ],
    },
    Group {
        anchor: "life",
        title: "The TPM and its life",
        about: "What TPM is inside the trust domain, and what became of it since?",
        checks: &[
            Id::Rtmr3,
            Id::JournalFormat,
            Id::JournalStart,
            Id::Processors,
            Id::StateUnlock,
            Id::JournalHead,
            Id::JournalComplete,
            Id::JournalPolicy,
        ],
    },
    Group {
        anchor: "keys",
        title: "The TPM's keys",
        about: "Do the keys that sign, and their certificates, belong to that TPM?",
        checks: &[
            Id::CaCertificate,
            Id::CaQuote,
            Id::CaQuoteTcb,
            Id::EkCertificates,
            Id::EkNames,
            Id::EkPolicy,
            Id::AkCertificate,
            Id::AkName,
            Id::AkCertified,
        ],
    },
    Group {
        anchor: "pcrs",
        title: "What the TPM says",
        about: "Do the TPM's registers hold what was started, and nothing that the policy does not accept?",
        checks: &[
            Id::TpmQuoteSignature,
            Id::TpmQuotePcrs,
            Id::TcgLogFormat,
            Id::PcrReplay,
            Id::PcrLaunch,
            Id::PcrBanks,
            Id::PcrJournal,
            Id::PcrPolicy,
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_is_in_one_group() {
        let mut grouped: Vec<Id> = GROUPS
            .iter()
            .flat_map(|group| group.checks.iter().copied())
            .collect();
        grouped.sort();
        assert_eq!(grouped, Id::ALL);
    }
}
