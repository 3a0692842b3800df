//! A launch, before there is a vTPM: what L1 shows to whoever keeps its state's key.
//!
//! There are a TD quote and the CC event log, and nothing else: no claims, no certificates, no TPM. The checks are those of
//! [`verify`](crate::verify) up to the guest's launch, with three that are of this place: REPORTDATA is the asker's,
//! MRCONFIGID is the digest of the init-data document, and RTMR3 is still zero.

use crate::{
    Collateral, Id, Policy, Report, check, checks,
    evidence::Evidence,
    policy::{Allowed, Sha384Digest},
};
use attestation::{
    bundle::{Binary, Bundle, Pcrs, Quote},
    window::Status,
};

/// What L1 shows.
#[derive(Clone, Copy, Debug)]
pub struct LaunchEvidence<'a> {
    /// The TD quote.
    pub quote: &'a [u8],
    /// The CC event log.
    pub cc_event_log: &'a [u8],
    /// What REPORTDATA must be: of the request's nonce and key.
    pub report_data: [u8; 64],
    /// What MRCONFIGID must be: SHA-384 of the init-data document.
    pub init_data: Sha384Digest,
}

/// The checks of a launch, in the report's order.
const CHECKS: [Id; 24] = [
    Id::BundleFormat,
    Id::QuoteFormat,
    Id::QuotePckChain,
    Id::QuoteSignature,
    Id::QuoteTcb,
    Id::TdDebug,
    Id::TdAttributes,
    Id::Mrtd,
    Id::TdConfig,
    Id::CcLogFormat,
    Id::Rtmr0,
    Id::Rtmr1,
    Id::Rtmr2,
    Id::Rtmr3,
    Id::EventsOrder,
    Id::FirmwareEvents,
    Id::LaunchKernel,
    Id::LaunchCommandLine,
    Id::LaunchInitrd,
    Id::EventsExplained,
    Id::ReportData,
    Id::TdBindings,
    Id::TdPartition,
    Id::JournalFormat,
];

/// Checks a launch as of `now`, in Unix seconds. Of the policy `[vtpm]` and `[pcr]` are of no account, a quote is required
/// and a debug TD refused whatever it says, and `td.mrconfigid = "any"` is the init-data document's digest.
pub fn verify_launch(
    launch: &LaunchEvidence<'_>,
    policy: &Policy,
    collateral: &Collateral,
    now: u64,
) -> Report {
    let mut policy = policy.clone();
    policy.quote.required = true;
    policy.td.debug = false;
    if policy.td.mrconfigid == Allowed::Any {
        policy.td.mrconfigid = Allowed::OneOf(vec![launch.init_data]);
    }
    let bundle = bundle(launch);
    let evidence = Evidence::new(&bundle, &policy, collateral, now, &[]);
    let mut report = check::run(|id| match id {
        // Nothing to compare a TDREPORT with: the quote's own fields are looked at.
        Id::ReportMatchesQuote => Ok(check::Finding::skipped("no TDREPORT", "a launch has none")),
        id if CHECKS.contains(&id) => checks::make_of_launch(id, &evidence, launch),
        _ => Ok(check::Finding::skipped("", "there is no vTPM yet")),
    });
    report.checks.retain(|check| CHECKS.contains(&check.id));
    report
}

/// A bundle with quote and log alone.
fn bundle(launch: &LaunchEvidence<'_>) -> Bundle {
    Bundle {
        format: String::new(),
        version: 0,
        nonce: String::new(),
        report: Binary::default(),
        td_quote: Some(Binary(launch.quote.to_vec())),
        td_quote_status: Status::Present.code(),
        cc_event_log: Binary(launch.cc_event_log.to_vec()),
        tcg_event_log: Binary::default(),
        ca_certificate: Binary::default(),
        ek_certificates: Default::default(),
        ak_certificate: Binary::default(),
        ek_public: None,
        ak_public: Binary::default(),
        quote: Quote {
            attest: Binary::default(),
            signature: Binary::default(),
        },
        certify: None,
        pcrs: Pcrs::default(),
    }
}
