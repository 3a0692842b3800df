//! The checks, in groups. Each looks at one link alone, and takes what it rests on ([`Id::needs`]) for granted.

mod ca_quote;
mod certificates;
mod claims;
mod event_log;
mod identity;
mod journal;
mod launch;
mod of_launch;
mod order;
mod pcr;
mod processors;
mod quote;
mod state;
mod td;
mod tpm_quote;

use crate::{
    check::{Checked, Finding, Id, Outcome},
    evidence::Evidence,
    launch::LaunchEvidence,
    policy::Allowed,
};

/// Makes one check.
pub(crate) fn make(id: Id, evidence: &Evidence<'_>) -> Checked {
    match id {
        Id::BundleFormat => claims::bundle_format(evidence),
        Id::NonceClaims => claims::nonce(evidence),
        Id::QuoteFormat => quote::format(evidence),
        Id::QuotePckChain => quote::pck_chain(evidence),
        Id::QuoteSignature => quote::signature(evidence),
        Id::QuoteTcb => quote::tcb(evidence),
        Id::TdDebug => td::debug(evidence),
        Id::TdAttributes => td::attributes(evidence),
        Id::Mrtd => td::mrtd(evidence),
        Id::TdConfig => td::config(evidence),
        Id::CcLogFormat => event_log::cc_format(evidence),
        Id::Rtmr0 => event_log::rtmr(evidence, 0),
        Id::Rtmr1 => event_log::rtmr(evidence, 1),
        Id::Rtmr2 => event_log::rtmr(evidence, 2),
        Id::Rtmr3 => event_log::rtmr(evidence, 3),
        Id::EventsOrder => launch::order(evidence),
        Id::FirmwareEvents => launch::firmware(evidence),
        Id::LaunchKernel => launch::kernel(evidence),
        Id::LaunchCommandLine => launch::command_line(evidence),
        Id::LaunchInitrd => launch::initrd(evidence),
        Id::EventsExplained => launch::explained(evidence),
        Id::ReportData => claims::report_data(evidence),
        Id::ReportMatchesQuote => claims::report_matches_quote(evidence),
        Id::TdBindings => td::bindings(evidence),
        Id::TdPartition => td::partition(evidence),
        Id::JournalFormat => journal::format(evidence),
        Id::JournalStart => journal::start(evidence),
        Id::Processors => processors::count(evidence),
        Id::StateUnlock => state::unlock(evidence),
        Id::JournalHead => journal::head(evidence),
        Id::JournalComplete => journal::complete(evidence),
        Id::JournalPolicy => journal::policy(evidence),
        Id::CaCertificate => certificates::ca(evidence),
        Id::CaQuote => ca_quote::of_this_td(evidence),
        Id::CaQuoteTcb => ca_quote::tcb(evidence),
        Id::EkCertificates => certificates::eks(evidence),
        Id::EkNames => identity::ek_names(evidence),
        Id::EkPolicy => identity::ek_policy(evidence),
        Id::AkCertificate => certificates::ak(evidence),
        Id::AkName => identity::ak_name(evidence),
        Id::AkCertified => identity::ak_certified(evidence),
        Id::TpmQuoteSignature => tpm_quote::signature(evidence),
        Id::TpmQuoteNonce => tpm_quote::nonce(evidence),
        Id::TpmQuotePcrs => tpm_quote::pcrs(evidence),
        Id::TcgLogFormat => event_log::tcg_format(evidence),
        Id::PcrReplay => pcr::replay(evidence),
        Id::PcrLaunch => pcr::launch(evidence),
        Id::PcrBanks => pcr::banks(evidence),
        Id::PcrJournal => pcr::journal(evidence),
        Id::PcrPolicy => pcr::policy(evidence),
    }
}

/// Makes one check of a launch: quote and CC event log are there, and no vTPM yet.
pub(crate) fn make_of_launch(
    id: Id,
    evidence: &Evidence<'_>,
    launch: &LaunchEvidence<'_>,
) -> Checked {
    match id {
        Id::BundleFormat => of_launch::format(evidence),
        Id::ReportData => of_launch::report_data(evidence, launch),
        Id::TdConfig => of_launch::config(evidence, launch),
        Id::TdBindings => td::bindings_of_quote(evidence),
        Id::TdPartition => td::partition_of_quote(evidence),
        Id::JournalFormat => of_launch::no_journal(evidence),
        id => make(id, evidence),
    }
}

/// Ends a check with a failure that has no two values to show.
fn broken<T>(sentence: &'static str) -> impl Fn(T) -> Finding
where
    T: std::fmt::Display,
{
    move |problem| Finding::failed(sentence, "", problem.to_string())
}

/// Ends a check if `found` is not what is expected.
fn same<T: PartialEq + AsRef<[u8]> + ?Sized>(
    sentence: &str,
    expected: &T,
    found: &T,
) -> Result<(), Finding> {
    if expected == found {
        return Ok(());
    }
    Err(Finding::failed(
        sentence,
        hex::encode(expected),
        hex::encode(found),
    ))
}

/// That the policy accepts whatever `key` is about.
fn any(key: &str) -> String {
    format!("{key} = \"any\"")
}

/// Compares a digest with policy; `key` names where the policy says what it accepts.
fn by_policy(
    what: &str,
    key: &str,
    allowed: &Allowed<[u8; 48]>,
    found: &[u8; 48],
) -> Result<Finding, Finding> {
    let shown = hex::encode(found);
    match allowed {
        Allowed::Any => Ok(Finding::accepted(
            format!("{what} was not compared: the policy accepts any"),
            any(key),
            shown,
        )),
        Allowed::OneOf(values) if values.contains(found) => Ok(Finding::passed(
            format!("{what} is one that the policy accepts"),
            shown,
        )),
        Allowed::OneOf(values) => Err(Finding::failed(
            format!("{what} is not one that the policy accepts ({key})"),
            values.iter().map(hex::encode).collect::<Vec<_>>().join(" "),
            shown,
        )),
        Allowed::Absent => Err(Finding::failed(
            format!("the policy accepts no {what} ({key})"),
            "none",
            shown,
        )),
    }
}

/// What several findings come to, of which none failed: what the policy accepts unseen is named.
fn together(
    sentence: &str,
    found: impl Into<String>,
    findings: impl IntoIterator<Item = Outcome>,
) -> Finding {
    let unseen: Vec<String> = findings
        .into_iter()
        .filter_map(|outcome| match outcome {
            Outcome::Accepted { by } => Some(by),
            _ => None,
        })
        .collect();
    match unseen.is_empty() {
        true => Finding::passed(sentence, found),
        false => Finding::accepted(
            format!("{sentence}; not all of it was compared"),
            unseen.join(", "),
            found,
        ),
    }
}
