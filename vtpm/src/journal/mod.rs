//! The journal of the vTPM's life, in RTMR3.
//!
//! It begins when the TPM has its identity, which the first record names; [`follow`] says which record each command of
//! the guest's makes. That records are measured, how PCRs are mirrored, and how the journal ends, is told here.

mod follow;

use alloc::string::String;
use alloc::vec::Vec;

use attestation::claims::pcr_banks_digest;
use attestation::digest::{Digest, sha384};
use attestation::event_log::EV_EVENT_TAG;
use attestation::journal::{self, Mode, PcrMirror, Processors, Record, Start, StartupType, Unlock};
use attestation::pcr::{Bank, PcrBanks};

use crate::identity::Identity;
use crate::log::{MeasureError, MeasurementLog};
use crate::state::Commits;
use crate::{TrustDomain, TrustDomainError};

/// What the first record tells besides the keys.
pub(crate) struct Description {
    /// The engine and its version.
    pub(crate) engine: String,
    /// The register interface in front of it.
    pub(crate) interface: String,
    /// What unlocked the engine's state; none if it dies with the TD.
    pub(crate) unlock: Option<Unlock>,
    /// How PCRs are mirrored.
    pub(crate) mirror: PcrMirror,
    /// SHA-384 of the permanent state that the engine started from.
    pub(crate) state: Option<[u8; 48]>,
    /// How many processors there are.
    pub(crate) processors: Processors,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has not begun. So many resets are told when it does.
    Waiting { resets: u32 },
    /// Records are appended.
    Open,
    /// The last record has been written.
    Sealed,
}

/// The journal, and the log that it is part of.
pub(crate) struct Journal {
    description: Description,
    log: MeasurementLog,
    /// What PCRs there are.
    banks: PcrBanks,
    /// What the engine's store sees.
    commits: Option<Commits>,
    state: State,
    records: u32,
    /// Changes of PCRs since the start.
    changes: u64,
    /// How many of them the last summary knew of.
    summarized: u64,
}

impl Journal {
    /// One that has not begun. `log` has been measured into the registers as far as it goes.
    pub(crate) fn new(
        description: Description,
        log: MeasurementLog,
        banks: PcrBanks,
        commits: Option<Commits>,
    ) -> Self {
        Self {
            description,
            log,
            banks,
            commits,
            state: State::Waiting { resets: 0 },
            records: 0,
            changes: 0,
            summarized: 0,
        }
    }

    /// The first records: who this TPM is, what unlocked its state, its startup by L1, and each reset that has been since. No effect on one
    /// that has begun.
    pub(crate) fn begin(
        &mut self,
        identity: &Identity,
        trust_domain: &mut impl TrustDomain,
    ) -> Result<(), TrustDomainError> {
        let State::Waiting { resets } = self.state else {
            return Ok(());
        };
        self.state = State::Open;
        let start = Start {
            engine: self.description.engine.clone(),
            interface: self.description.interface.clone(),
            mode: match self.description.unlock {
                Some(_) => Mode::Persistent,
                None => Mode::Ephemeral,
            },
            mirror: self.description.mirror,
            banks: self.banks,
            state: self.description.state,
            eks: identity.eks.clone(),
            ak: identity.ak.name(),
            ca: sha384(identity.authority.public_key()),
            processors: Some(self.description.processors),
        };
        self.record(&Record::Start(start), trust_domain)?;
        if let Some(unlock) = self.description.unlock {
            self.record(&Record::Unlock(unlock), trust_domain)?;
        }
        self.record(&Record::Startup(StartupType::Clear), trust_domain)?;
        for _ in 0..resets {
            if self.state == State::Sealed {
                break;
            }
            self.record(&Record::Reset, trust_domain)?;
            self.record(&Record::Startup(StartupType::Clear), trust_domain)?;
        }
        Ok(())
    }

    /// _TPM_Init has been done.
    pub(crate) fn reset(
        &mut self,
        trust_domain: &mut impl TrustDomain,
    ) -> Result<(), TrustDomainError> {
        match &mut self.state {
            State::Waiting { resets } => {
                *resets = resets.saturating_add(1);
                Ok(())
            }
            State::Open | State::Sealed => self.record(&Record::Reset, trust_domain),
        }
    }

    /// L1 has done TPM2_Startup(CLEAR) after a reset.
    pub(crate) fn restarted(
        &mut self,
        trust_domain: &mut impl TrustDomain,
    ) -> Result<(), TrustDomainError> {
        match self.state {
            // Told with the reset.
            State::Waiting { .. } => Ok(()),
            State::Open | State::Sealed => {
                self.record(&Record::Startup(StartupType::Clear), trust_domain)
            }
        }
    }

    /// The CC event log.
    pub(crate) fn log(&self) -> &MeasurementLog {
        &self.log
    }

    /// The PCR banks.
    pub(crate) fn banks(&self) -> PcrBanks {
        self.banks
    }

    fn mirror(&self) -> PcrMirror {
        self.description.mirror
    }

    /// Records in RTMR3.
    pub(crate) fn records(&self) -> u32 {
        self.records
    }

    /// RTMR3.
    pub(crate) fn head(&self) -> [u8; 48] {
        self.log.rtmr(journal::RTMR).copied().unwrap_or([0; 48])
    }

    /// The digest of the state that the engine has committed since this was last asked.
    pub(crate) fn take_commit(&self) -> Option<[u8; 48]> {
        self.commits.as_ref().and_then(Commits::take)
    }

    /// The state as of L1's own commands is nobody's news.
    pub(crate) fn forget_commits(&self) {
        let _ = self.take_commit();
    }

    /// Appends `record` to a journal that has begun, or ends it when there is no room. On an error the vTPM must
    /// not answer any more: it would run unattested.
    pub(crate) fn record(
        &mut self,
        record: &Record,
        trust_domain: &mut impl TrustDomain,
    ) -> Result<(), TrustDomainError> {
        if self.state == State::Sealed {
            return Ok(());
        }
        let event = record.to_event();
        let digest = sha384(&event);
        let measured = self
            .log
            .measure(trust_domain, journal::RTMR, EV_EVENT_TAG, &digest, &event);
        match measured {
            Ok(()) => {
                self.records = self.records.saturating_add(1);
                Ok(())
            }
            Err(MeasureError::TrustDomain(error)) => Err(error),
            Err(MeasureError::Full | MeasureError::NoSuchRegister(_)) => self.seal(trust_domain),
        }
    }

    fn seal(&mut self, trust_domain: &mut impl TrustDomain) -> Result<(), TrustDomainError> {
        let event = Record::LogFull {
            records: self.records.into(),
        }
        .to_event();
        let digest = sha384(&event);
        let measured =
            self.log
                .measure_last(trust_domain, journal::RTMR, EV_EVENT_TAG, &digest, &event);
        match measured {
            Ok(()) => {
                self.records = self.records.saturating_add(1);
                self.state = State::Sealed;
                Ok(())
            }
            Err(MeasureError::TrustDomain(error)) => Err(error),
            // The reserve is there for it; without room for it nothing says that the journal ended.
            Err(_) => Err(TrustDomainError::Extend(journal::RTMR)),
        }
    }

    /// L1 has extended PCR `pcr` with `digests`.
    pub(crate) fn measured(
        &mut self,
        pcr: u8,
        digests: &[Digest],
        trust_domain: &mut impl TrustDomain,
    ) -> Result<(), TrustDomainError> {
        self.pcrs_changed();
        match self.mirror() {
            PcrMirror::Full => self.pcr_extended(pcr, digests, trust_domain),
            PcrMirror::Off | PcrMirror::Summary => Ok(()),
        }
    }

    /// A command has changed PCRs.
    fn pcrs_changed(&mut self) {
        self.changes = self.changes.saturating_add(1);
    }

    /// With [`PcrMirror::Full`]: PCR `pcr` was extended with `digests`, in this order.
    fn pcr_extended(
        &mut self,
        pcr: u8,
        digests: &[Digest],
        trust_domain: &mut impl TrustDomain,
    ) -> Result<(), TrustDomainError> {
        for digests in one_of_each_bank(digests) {
            self.record(&Record::PcrExtend { pcr, digests }, trust_domain)?;
        }
        Ok(())
    }

    /// Records what the PCRs are now, if summaries are made and PCRs changed since the last.
    pub(crate) fn summarize(
        &mut self,
        banks: &[Bank],
        trust_domain: &mut impl TrustDomain,
    ) -> Result<(), TrustDomainError> {
        if self.mirror() != PcrMirror::Summary || self.changes == self.summarized {
            return Ok(());
        }
        let summary = Record::PcrSummary {
            changes: self.changes,
            banks: pcr_banks_digest(banks),
        };
        self.record(&summary, trust_domain)?;
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
