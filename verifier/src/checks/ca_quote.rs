//! What the CA's certificate carries: the quote of its TD, and the CC event log of that moment.

use super::{
    broken,
    certificates::{ca_contents, ca_of},
    same,
};
use crate::{
    certificate::Contents,
    check::{Checked, Finding},
    evidence::Evidence,
    quote::TdQuote,
    td_body::{consistent_report, differences},
};
use attestation::{
    certificate,
    claims::ca_report_data,
    digest::extend_sha384,
    event_log::{Event, Log},
    report::TD_REPORT_SIZE,
};
use tdx_defs::{quote::TdQuoteBody, report::TdReport};
use x509_cert::der::{Decode, asn1::OctetStringRef, oid::ObjectIdentifier};

/// The TD quote or TDREPORT in the CA's certificate.
const TD_QUOTE: ObjectIdentifier = ObjectIdentifier::new_unwrap(certificate::TD_QUOTE);
/// The CC event log in the CA's certificate.
const CC_EVENT_LOG: ObjectIdentifier = ObjectIdentifier::new_unwrap(certificate::CC_EVENT_LOG);

/// What the CA's certificate carries of its TD.
enum OfTd {
    Quote(Box<TdQuote>),
    Report(Box<TdReport>),
}

fn of_td(evidence: &Evidence<'_>) -> Result<OfTd, Finding> {
    let content = extension(ca_contents(evidence)?, TD_QUOTE, "a TD quote or TDREPORT")?;
    if content.len() == TD_REPORT_SIZE {
        let report = consistent_report(content).ok_or_else(|| {
            broken("the TDREPORT in the CA's certificate contradicts itself")("its hashes")
        })?;
        return Ok(OfTd::Report(Box::new(report)));
    }
    let quote = TdQuote::parse(content)
        .map_err(broken("what the CA's certificate carries is no TD quote"))?;
    Ok(OfTd::Quote(Box::new(quote)))
}

/// The TCB status of the platform that quoted the CA: not the one that quotes the claims, if somebody had the CA's key quoted
/// elsewhere or at another time.
pub(super) fn tcb(evidence: &Evidence<'_>) -> Checked {
    match of_td(evidence)? {
        OfTd::Quote(quote) => super::quote::tcb_of(&quote, evidence),
        OfTd::Report(_) => Ok(Finding::skipped(
            "there is no platform to look up: the CA's certificate carries a TDREPORT",
            "the journal in the quote vouches for the CA's key",
        )),
    }
}

pub(super) fn of_this_td(evidence: &Evidence<'_>) -> Checked {
    let ca = ca_of(evidence)?;
    let (body, what) = match of_td(evidence)? {
        OfTd::Report(report) => (
            TdQuoteBody::of(&report),
            "its TDREPORT is of this TD and over its key (whose MAC can be checked on its platform only; the journal in the quote vouches for the key)",
        ),
        OfTd::Quote(quote) => {
            quote
                .verify_chain(evidence.collateral, evidence.now)
                .map_err(broken(
                    "the TD quote in the CA's certificate does not lead to the trusted root",
                ))?;
            quote.verify_signatures().map_err(|problem| {
                Finding::failed(
                    format!("the TD quote in the CA's certificate: {problem}"),
                    "a valid signature",
                    "an invalid one",
                )
            })?;
            (*quote.body(), "its TD quote is of this TD and over its key")
        }
    };
    same(
        "the quote in the CA's certificate is not over the CA's key: it was made for another key",
        &ca_report_data(ca.spki())[..],
        &body.report_data[..],
    )?;
    let td = evidence
        .td()
        .map_err(broken("there is no TD to compare the CA's with"))?;
    let difference = differences(&td, &body)
        .into_iter()
        .find(|(field, ..)| !["RTMR3", "REPORTDATA"].contains(field));
    if let Some((field, expected, found)) = difference {
        return Err(Finding::failed(
            format!("the CA's certificate is of another TD: {field} differs"),
            expected,
            found,
        ));
    }
    let log = super::event_log::cc_log(evidence)?;
    let Some(events) = events_until(log, &body.rtmr[3]) else {
        return Err(Finding::failed(
            "RTMR3 in the CA's quote is not one that the journal went through",
            "RTMR3 after one of the journal's records",
            hex::encode(body.rtmr[3]),
        ));
    };
    let own_log = extension(ca_contents(evidence)?, CC_EVENT_LOG, "a CC event log")?;
    let own = Log::parse(own_log).map_err(broken(
        "the CC event log in the CA's certificate does not parse",
    ))?;
    let begins_so = own.events.len() >= events && starts_with(&log.events, &own.events);
    if !begins_so {
        return Err(Finding::failed(
            "the CC event log in the CA's certificate is not the beginning of this one",
            format!("{events} events of this log, or more"),
            format!("{} events, others among them", own.events.len()),
        ));
    }
    Ok(Finding::passed(what, ca.subject()))
}

/// How many events of the log it takes until RTMR3 is `rtmr3`.
fn events_until(log: &Log<'_>, rtmr3: &[u8; 48]) -> Option<usize> {
    let mut register = [0; 48];
    for (index, event) in log.events.iter().enumerate() {
        if event.register == u32::from(attestation::journal::RTMR) + 1 && event.extends() {
            register = extend_sha384(&register, &crate::cc_event::digest(event));
        }
        if register == *rtmr3 {
            return Some(index + 1);
        }
    }
    None
}

/// Whether the registers were extended with `own` before anything else. Types and data are not measured by themselves, and have a
/// check of their own.
fn starts_with(events: &[Event<'_>], own: &[Event<'_>]) -> bool {
    let mut pairs = own.iter().zip(events);
    events.len() >= own.len()
        && pairs
            .all(|(own, event)| (own.register, &own.digests) == (event.register, &event.digests))
}

/// The bytes in an extension that is an OCTET STRING.
fn extension<'e>(
    contents: &Contents<'e>,
    id: ObjectIdentifier,
    what: &str,
) -> Result<&'e [u8], Finding> {
    contents
        .extension(id)
        .and_then(|(_, content)| <&OctetStringRef>::from_der(content).ok())
        .map(OctetStringRef::as_bytes)
        .ok_or_else(|| {
            Finding::failed(
                format!("the CA's certificate does not carry {what}"),
                format!("extension {id}"),
                "none",
            )
        })
}
