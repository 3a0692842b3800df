//! The evidence in its parts, each parsed once.

use crate::{
    cc_event,
    certificate::{Certificate, CertificateError, Contents},
    collateral::Collateral,
    limits::{Oversize, oversize},
    policy::Policy,
    quote::TdQuote,
    td_body::consistent_report,
};
use attestation::{
    bundle::{Binary, Bundle, Pcrs},
    claims::Claims,
    digest::{Algorithm, Digest},
    event_log::{Log, replay_rtmrs},
    journal::Record,
    pcr::{self, Bank},
    report::Report as NvReport,
};
use std::cell::OnceCell;
use tdx_defs::{quote::TdQuoteBody, report::TdReport};

/// A certificate, parsed once; its contents are read once as well, when its signature is verified.
pub(crate) struct Envelope<'a> {
    certificate: Result<Certificate<'a>, CertificateError>,
    contents: OnceCell<Result<Contents<'a>, CertificateError>>,
}

impl<'a> Envelope<'a> {
    fn new(der: &'a [u8]) -> Envelope<'a> {
        Envelope {
            certificate: Certificate::parse(der),
            contents: OnceCell::new(),
        }
    }

    pub(crate) fn certificate(&self) -> Result<&Certificate<'a>, &CertificateError> {
        self.certificate.as_ref()
    }

    /// What the certificate says, if `issuer`, which is always the same, signed it.
    pub(crate) fn open(
        &self,
        issuer: &Certificate<'_>,
    ) -> Result<&Contents<'a>, &CertificateError> {
        let certificate = self.certificate.as_ref()?;
        let contents = self.contents.get_or_init(|| certificate.open(issuer));
        contents.as_ref()
    }
}

/// The certificates of the bundle.
pub(crate) struct Certificates<'a> {
    pub(crate) ca: Envelope<'a>,
    /// RSA-2048, P-256, P-384.
    pub(crate) eks: [Envelope<'a>; 3],
    pub(crate) ak: Envelope<'a>,
}

/// Everything that the checks look at.
pub(crate) struct Evidence<'a> {
    pub(crate) bundle: &'a Bundle,
    pub(crate) policy: &'a Policy,
    pub(crate) collateral: &'a Collateral,
    /// Unix seconds.
    pub(crate) now: u64,
    /// As the relying party gave it.
    pub(crate) nonce: &'a [u8],
    /// A member that is larger than it may be: then no member is looked into.
    pub(crate) oversize: Option<Oversize>,
    pub(crate) report: Result<NvReport<'a>, String>,
    pub(crate) claims: Result<Claims, String>,
    /// `None` if the bundle has none.
    pub(crate) quote: Option<Result<TdQuote, String>>,
    pub(crate) certificates: Certificates<'a>,
    pub(crate) cc_log: Result<Log<'a>, String>,
    /// What the CC event log gives.
    pub(crate) rtmrs: Result<[[u8; 48]; 4], String>,
    pub(crate) tcg_log: Result<Log<'a>, String>,
    pub(crate) banks: Result<Vec<Bank>, String>,
    /// The records of RTMR3, in order.
    pub(crate) journal: Result<Vec<Record>, String>,
}

fn said<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

impl<'a> Evidence<'a> {
    pub(crate) fn new(
        bundle: &'a Bundle,
        policy: &'a Policy,
        collateral: &'a Collateral,
        now: u64,
        nonce: &'a [u8],
    ) -> Evidence<'a> {
        let oversize = oversize(bundle);
        let read = |member: &'a Binary| match oversize {
            None => member.0.as_slice(),
            Some(_) => &[],
        };
        let report = said(NvReport::parse(read(&bundle.report)));
        let claims = match &report {
            Ok(report) => said(Claims::from_json(report.claims)),
            Err(error) => Err(error.clone()),
        };
        let cc_log = said(Log::parse(read(&bundle.cc_event_log)));
        let journal = match &cc_log {
            Ok(log) => journal(log),
            Err(error) => Err(error.clone()),
        };
        Evidence {
            bundle,
            policy,
            collateral,
            now,
            nonce,
            oversize,
            report,
            claims,
            quote: bundle
                .td_quote
                .as_ref()
                .map(|quote| said(TdQuote::parse(read(quote)))),
            certificates: Certificates {
                ca: Envelope::new(read(&bundle.ca_certificate)),
                eks: bundle
                    .ek_certificates
                    .each_ref()
                    .map(|certificate| Envelope::new(read(certificate))),
                ak: Envelope::new(read(&bundle.ak_certificate)),
            },
            rtmrs: match &cc_log {
                Ok(log) => said(replay_rtmrs(&log.events)),
                Err(error) => Err(error.clone()),
            },
            cc_log,
            tcg_log: said(Log::parse(read(&bundle.tcg_event_log))),
            banks: banks(&bundle.pcrs),
            journal,
        }
    }

    /// The TD: as the quote has it, or without a quote as the TDREPORT has it.
    pub(crate) fn td(&self) -> Result<TdQuoteBody, String> {
        match &self.quote {
            Some(Ok(quote)) => Ok(*quote.body()),
            Some(Err(error)) => Err(error.clone()),
            None => self.reported_td(),
        }
    }

    /// The TD as the TDREPORT beside the claims has it.
    pub(crate) fn reported_td(&self) -> Result<TdQuoteBody, String> {
        self.td_report().map(|report| TdQuoteBody::of(&report))
    }

    /// The TDREPORT beside the claims.
    pub(crate) fn td_report(&self) -> Result<TdReport, String> {
        let report = self.report.as_ref().map_err(Clone::clone)?;
        consistent_report(report.td_report)
            .ok_or_else(|| "the hashes in the TDREPORT are not those of its parts".to_owned())
    }
}

/// The records of the journal: every event of RTMR3 is one, and its digest is that of its data.
fn journal(log: &Log<'_>) -> Result<Vec<Record>, String> {
    let rtmr3 = u32::from(attestation::journal::RTMR) + 1;
    log.events
        .iter()
        .filter(|event| event.register == rtmr3)
        .enumerate()
        .map(|(index, event)| {
            let record =
                cc_event::record(event).map_err(|error| format!("record {index}: {error}"))?;
            match event.digest(Algorithm::Sha384) {
                Some(digest) if *digest == Algorithm::Sha384.digest(event.data) => Ok(record),
                _ => Err(format!(
                    "record {index}: its digest is not that of its data"
                )),
            }
        })
        .collect()
}

/// The banks of the bundle that have values, in order of their algorithms.
fn banks(pcrs: &Pcrs) -> Result<Vec<Bank>, String> {
    let mut banks = Vec::new();
    for (algorithm, values) in [
        (Algorithm::Sha1, &pcrs.sha1),
        (Algorithm::Sha256, &pcrs.sha256),
        (Algorithm::Sha384, &pcrs.sha384),
        (Algorithm::Sha512, &pcrs.sha512),
    ] {
        let name = algorithm.name();
        match (values.len(), algorithm) {
            (0, Algorithm::Sha256) => return Err("the SHA-256 bank is missing".into()),
            (0, _) => continue,
            (pcr::COUNT, _) => {}
            (count, _) => return Err(format!("{name}: {count} values, not {}", pcr::COUNT)),
        }
        let values = values
            .iter()
            .map(|value| Digest::new(algorithm, &hex::decode(value).ok()?))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| format!("{name}: a value is not {} bytes of hex", algorithm.size()))?;
        banks.extend(Bank::from_values(&values));
    }
    Ok(banks)
}
