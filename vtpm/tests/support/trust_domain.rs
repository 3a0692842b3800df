//! A trust domain that follows a script.

use std::sync::{Arc, Mutex, MutexGuard};

use attestation::digest::extend_sha384;
use tdx_defs::quote::{QuoteHeader, TEE_TDX, TdQuoteBody, VERSION_4};
use tdx_defs::report::{ReportType, TdReport};
use vtpm::{QuoteError, QuoteStatus, TrustDomain, TrustDomainError};
use zerocopy::{FromZeros, IntoBytes};

/// What the host does with requests for quotes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Host {
    /// Answers with a quote of the report, at the next poll.
    #[default]
    Prompt,
    /// Says nothing until the script changes.
    Silent,
    /// Refuses requests.
    Refuses(QuoteError),
    /// Takes requests and fails.
    Fails(QuoteError),
    /// Answers with these bytes.
    Lies(Vec<u8>),
}

#[derive(Default)]
pub struct State {
    rtmrs: Rtmrs,
    published: Vec<u8>,
    in_flight: Option<[u8; 1024]>,
    /// Reports that quotes were asked of.
    pub asked: Vec<[u8; 1024]>,
    pub host: Host,
    pub now: u64,
    /// Extends until the module refuses one.
    pub extends_left: Option<usize>,
    pub extends: usize,
    pub refuse_reports: bool,
    pub refuse_random: bool,
    pub reports: usize,
    /// Everything that was drawn.
    pub drawn: Vec<Vec<u8>>,
}

struct Rtmrs([[u8; 48]; 4]);

impl Default for Rtmrs {
    fn default() -> Self {
        Self([[0; 48]; 4])
    }
}

#[derive(Clone, Default)]
pub struct ScriptedTd(Arc<Mutex<State>>);

impl ScriptedTd {
    pub fn script(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn rtmrs(&self) -> [[u8; 48]; 4] {
        self.script().rtmrs.0
    }

    pub fn published(&self) -> Vec<u8> {
        self.script().published.clone()
    }

    /// As another TD's software would.
    pub fn extend(&self, rtmr: usize, digest: &[u8; 48]) {
        let value = &mut self.script().rtmrs.0[rtmr];
        *value = extend_sha384(value, digest);
    }

    pub fn mrtd() -> [u8; 48] {
        [0x4d; 48]
    }
}

/// A TD quote of version 4 of a report, with something for a signature.
pub fn quote_of(report: &[u8; 1024]) -> Vec<u8> {
    let report: &TdReport = zerocopy::transmute_ref!(report);
    let mut header = QuoteHeader::new_zeroed();
    header.version = VERSION_4.to_le_bytes();
    header.tee_type = TEE_TDX.to_le_bytes();
    let mut quote = header.as_bytes().to_vec();
    quote.extend(TdQuoteBody::of(report).as_bytes());
    quote.extend([0x5a; 4000]);
    quote
}

impl TrustDomain for ScriptedTd {
    fn extend_rtmr(&mut self, rtmr: u8, digest: &[u8; 48]) -> Result<(), TrustDomainError> {
        let mut state = self.script();
        if state.extends_left == Some(0) {
            return Err(TrustDomainError::Extend(rtmr));
        }
        state.extends_left = state.extends_left.map(|left| left - 1);
        state.extends += 1;
        let value = &mut state.rtmrs.0[usize::from(rtmr)];
        *value = extend_sha384(value, digest);
        Ok(())
    }

    fn report(&mut self, data: &[u8; 64]) -> Result<Box<[u8; 1024]>, TrustDomainError> {
        let mut state = self.script();
        if state.refuse_reports {
            return Err(TrustDomainError::Report);
        }
        state.reports += 1;
        let mut report = TdReport::new_zeroed();
        report.report_mac.report_type.kind = ReportType::TDX;
        report.report_mac.report_data = *data;
        report.tee_tcb_info.mrseam = [0x5e; 48];
        report.td_info.mrtd = Self::mrtd();
        report.td_info.rtmr = state.rtmrs.0;
        Ok(Box::new(zerocopy::transmute!(report)))
    }

    fn start_quote(&mut self, report: &[u8; 1024]) -> Result<(), QuoteError> {
        let mut state = self.script();
        assert!(state.in_flight.is_none(), "one quote at a time");
        state.asked.push(*report);
        if let Host::Refuses(error) = state.host {
            return Err(error);
        }
        state.in_flight = Some(*report);
        Ok(())
    }

    fn poll_quote(&mut self) -> QuoteStatus {
        let mut state = self.script();
        let Some(report) = state.in_flight else {
            return QuoteStatus::Idle;
        };
        let answer = match &state.host {
            Host::Silent => return QuoteStatus::InFlight,
            Host::Prompt => QuoteStatus::Ready(quote_of(&report)),
            Host::Refuses(error) | Host::Fails(error) => QuoteStatus::Failed(*error),
            Host::Lies(bytes) => QuoteStatus::Ready(bytes.clone()),
        };
        state.in_flight = None;
        answer
    }

    fn random(&mut self, into: &mut [u8]) -> Result<(), TrustDomainError> {
        if self.script().refuse_random {
            return Err(TrustDomainError::Random);
        }
        super::entropy(into).map_err(|_| TrustDomainError::Random)?;
        self.script().drawn.push(into.to_vec());
        Ok(())
    }

    fn now(&self) -> u64 {
        self.script().now
    }

    fn publish_log(&mut self, offset: usize, bytes: &[u8]) {
        let published = &mut self.script().published;
        assert_eq!(published.len(), offset, "no gap in the copy");
        published.extend(bytes);
    }
}
