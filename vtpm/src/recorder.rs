//! The journal of the vTPM's life, in RTMR3.
//!
//! Which record a command makes, [`attested`](crate::attested) says; that the records are measured,
//! how PCRs are mirrored, and how the journal ends, is told here.

use alloc::vec::Vec;

use attestation::claims::pcr_banks_digest;
use attestation::digest::{Digest, sha384};
use attestation::event_log::EV_EVENT_TAG;
use attestation::journal::{self, PcrMirror, Record};
use attestation::pcr::Bank;

use crate::log::{MeasureError, MeasurementLog};
use crate::{TrustDomain, TrustDomainError};

/// The journal, the log that it is part of, and the trust domain that has both measured.
pub(crate) struct Recorder<T> {
    pub(crate) trust_domain: T,
    log: MeasurementLog,
    mirror: PcrMirror,
    records: u32,
    /// The last record has been written.
    sealed: bool,
    /// Changes of PCRs since the start.
    changes: u64,
    /// How many of them the last summary knew of.
    summarized: u64,
}

impl<T: TrustDomain> Recorder<T> {
    pub(crate) fn new(trust_domain: T, log: MeasurementLog, mirror: PcrMirror) -> Self {
        Self {
            trust_domain,
            log,
            mirror,
            records: 0,
            sealed: false,
            changes: 0,
            summarized: 0,
        }
    }

    pub(crate) fn log(&self) -> &MeasurementLog {
        &self.log
    }

    pub(crate) fn mirror(&self) -> PcrMirror {
        self.mirror
    }

    /// Records in RTMR3.
    pub(crate) fn records(&self) -> u32 {
        self.records
    }

    /// RTMR3.
    pub(crate) fn head(&self) -> [u8; 48] {
        self.log.rtmr(journal::RTMR).copied().unwrap_or([0; 48])
    }

    /// Gives L2 its copy of the log so far.
    pub(crate) fn publish(&mut self) {
        self.trust_domain.publish_log(0, self.log.bytes());
    }

    /// Measures something other than the journal.
    pub(crate) fn measure(
        &mut self,
        rtmr: u8,
        event_type: u32,
        digest: &[u8; 48],
        data: &[u8],
    ) -> Result<(), MeasureError> {
        self.log
            .measure(&mut self.trust_domain, rtmr, event_type, digest, data)
    }

    /// Appends `record`, or ends the journal when there is no room for it. On an error the vTPM must
    /// not answer any more: it would run unattested.
    pub(crate) fn record(&mut self, record: &Record) -> Result<(), TrustDomainError> {
        if self.sealed {
            return Ok(());
        }
        let event = record.to_event();
        let digest = sha384(&event);
        let measured = self.log.measure(
            &mut self.trust_domain,
            journal::RTMR,
            EV_EVENT_TAG,
            &digest,
            &event,
        );
        match measured {
            Ok(()) => {
                self.records = self.records.saturating_add(1);
                Ok(())
            }
            Err(MeasureError::TrustDomain(error)) => Err(error),
            Err(MeasureError::Full | MeasureError::NoSuchRegister(_)) => self.seal(),
        }
    }

    fn seal(&mut self) -> Result<(), TrustDomainError> {
        let event = Record::LogFull {
            records: self.records.into(),
        }
        .to_event();
        let digest = sha384(&event);
        let measured = self.log.measure_last(
            &mut self.trust_domain,
            journal::RTMR,
            EV_EVENT_TAG,
            &digest,
            &event,
        );
        match measured {
            Ok(()) => {
                self.records = self.records.saturating_add(1);
                self.sealed = true;
                Ok(())
            }
            Err(MeasureError::TrustDomain(error)) => Err(error),
            // The reserve is there for it; without room for it nothing says that the journal ended.
            Err(_) => Err(TrustDomainError::Extend(journal::RTMR)),
        }
    }

    /// A command has changed PCRs.
    pub(crate) fn pcrs_changed(&mut self) {
        self.changes = self.changes.saturating_add(1);
    }

    /// With [`PcrMirror::Full`]: PCR `pcr` was extended with `digests`, in this order.
    pub(crate) fn pcr_extended(
        &mut self,
        pcr: u8,
        digests: &[Digest],
    ) -> Result<(), TrustDomainError> {
        for digests in one_of_each_bank(digests) {
            self.record(&Record::PcrExtend { pcr, digests })?;
        }
        Ok(())
    }

    /// Whether PCRs changed since the last summary, if summaries are made.
    pub(crate) fn owes_summary(&self) -> bool {
        self.mirror == PcrMirror::Summary && self.changes != self.summarized
    }

    /// Records what the PCRs are now.
    pub(crate) fn summarize(&mut self, banks: &[Bank]) -> Result<(), TrustDomainError> {
        self.record(&Record::PcrSummary {
            changes: self.changes,
            banks: pcr_banks_digest(banks),
        })?;
        self.summarized = self.changes;
        Ok(())
    }
}

/// A command may name a bank more than once, and extends it each time; a record does not.
fn one_of_each_bank(digests: &[Digest]) -> Vec<Vec<Digest>> {
    let mut records: Vec<Vec<Digest>> = Vec::new();
    for digest in digests {
        let taken = |record: &Vec<Digest>| {
            record
                .iter()
                .any(|other| other.algorithm() == digest.algorithm())
        };
        match records.iter_mut().find(|record| !taken(record)) {
            Some(record) => record.push(*digest),
            None => records.push([*digest].into()),
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::RESERVE;
    use attestation::digest::Algorithm::{Sha1, Sha256};
    use attestation::event_log;

    #[test]
    fn the_longest_last_record_fits_the_reserve() {
        let event = Record::LogFull { records: u64::MAX }.to_event();
        assert!(
            event_log::cc_record(3, EV_EVENT_TAG, [0; 48], &event)
                .unwrap()
                .len()
                <= RESERVE
        );
    }

    #[test]
    fn a_record_has_each_bank_once_and_the_order_stays() {
        let digest = |algorithm: attestation::digest::Algorithm, seed| algorithm.digest(&[seed]);
        let [a, b, c] = [digest(Sha256, 0), digest(Sha256, 1), digest(Sha256, 2)];
        let (x, y) = (digest(Sha1, 0), digest(Sha1, 1));
        let none: Vec<Vec<Digest>> = Vec::new();
        assert_eq!(one_of_each_bank(&[]), none);
        assert_eq!(one_of_each_bank(&[a, x]), [[a, x]]);
        let split = one_of_each_bank(&[a, b, x, c, y]);
        assert_eq!(split, [[a, x].to_vec(), [b, y].to_vec(), [c].to_vec()]);
    }
}
