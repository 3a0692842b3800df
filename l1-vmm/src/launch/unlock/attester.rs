//! Evidence of this TD for the broker: a quote over what the broker wants, and the CC event log.

use super::UnlockError;
use broker_client::Deadline;
use broker_client::kbs::{Attester, Evidence, EvidenceError};
use core::hint::spin_loop;
use tdx_defs::report::TdReport;
use vtpm::{QuoteStatus, TrustDomain};
use zerocopy::FromBytes;

/// The trust domain, for a broker.
pub(super) struct TdAttester<'a, T> {
    pub(super) td: &'a mut T,
    pub(super) log: &'a [u8],
}

impl<T: TrustDomain> TdAttester<'_, T> {
    /// Waits while `status` is in flight.
    fn settle(&mut self, deadline: Deadline) -> Result<QuoteStatus, EvidenceError> {
        loop {
            match self.td.poll_quote() {
                QuoteStatus::InFlight if self.td.now() >= deadline.0 => {
                    return Err(EvidenceError::TimeOut);
                }
                QuoteStatus::InFlight => spin_loop(),
                status => return Ok(status),
            }
        }
    }
}

impl<T: TrustDomain> Attester for TdAttester<'_, T> {
    fn evidence(
        &mut self,
        report_data: &[u8; 64],
        deadline: Deadline,
    ) -> Result<Evidence, EvidenceError> {
        let report = self.td.report(report_data);
        let report = report.map_err(|_| EvidenceError::NoReport)?;
        // One that an earlier attempt did not wait for.
        self.settle(deadline)?;
        let started = self.td.start_quote(&report);
        started.map_err(|_| EvidenceError::NoQuote)?;
        match self.settle(deadline)? {
            QuoteStatus::Ready(quote) => Ok(Evidence {
                quote,
                log: self.log.to_vec(),
            }),
            _ => Err(EvidenceError::NoQuote),
        }
    }

    fn random(&mut self, into: &mut [u8]) -> Result<(), EvidenceError> {
        let drawn = self.td.random(into);
        drawn.map_err(|_| EvidenceError::NoRandom)
    }
}

/// Whether the TD's report has this MRCONFIGID: what the broker and every relying party will see.
pub(super) fn attested<T: TrustDomain>(td: &mut T, digest: &[u8; 48]) -> Result<(), UnlockError> {
    let report = td.report(&[0; 64]).map_err(|_| UnlockError::NoReport)?;
    let report = TdReport::read_from_bytes(&*report).map_err(|_| UnlockError::NoReport)?;
    match report.td_info.mrconfigid == *digest {
        true => Ok(()),
        false => Err(UnlockError::OtherConfiguration),
    }
}
