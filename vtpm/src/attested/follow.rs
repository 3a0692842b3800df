//! What follows a command: records in the journal, and what it asks of the evidence.

use alloc::vec::Vec;

use attestation::digest::{Algorithm, Digest};
use attestation::journal::{PcrMirror, Record, StartupType};
use attestation::pcr;
use attestation::tpm::Fields;

use super::Attested;
use super::failure::Withheld;
use crate::provision::NvAttributes;
use crate::request::{Action, Answer};
use crate::{Engine, Failure, TrustDomain};

impl<E: Engine, T: TrustDomain> Attested<E, T> {
    /// Of the index that the command would undefine, as long as it has some.
    pub(super) fn attributes_of_undefined(&mut self, action: Action<'_>) -> Option<NvAttributes> {
        let Action::NvUndefine { index } = action else {
            return None;
        };
        Some(self.provisioner.nv_public(index).ok()??.attributes)
    }

    /// The engine has executed a command. On an error the guest must not have the response.
    pub(super) fn follow(
        &mut self,
        action: Action<'_>,
        answer: Answer<'_>,
        undefined: Option<NvAttributes>,
    ) -> Result<(), Withheld> {
        let Answer::Succeeded { parameters } = answer else {
            // It may have changed the state nevertheless: a wrong authorization is counted.
            return Ok(self.record_commit()?);
        };
        self.record_action(action, parameters, undefined)?;
        match action {
            Action::UserData => {
                self.forget_commits();
                self.report_to_guest()
            }
            Action::Selector => {
                self.forget_commits();
                self.window_to_guest()
            }
            Action::Clear => {
                self.record_commit()?;
                self.lose_ak();
                self.restore_ak();
                Ok(())
            }
            _ => Ok(self.record_commit()?),
        }
    }

    /// `answered` are the parameters of the response.
    fn record_action(
        &mut self,
        action: Action<'_>,
        answered: &[u8],
        undefined: Option<NvAttributes>,
    ) -> Result<(), Failure> {
        let record = match action {
            Action::Other | Action::UserData | Action::Selector => return Ok(()),
            Action::Startup(kind) => return self.started(kind),
            Action::PcrExtend { pcr, digests } => return self.extended(pcr, digests),
            Action::PcrEvent { pcr } => return self.extended(pcr, answered),
            Action::PcrReset { pcr } => return self.pcr_reset(pcr),
            Action::Shutdown(kind) => Record::Shutdown(kind),
            Action::Clear => Record::Clear,
            Action::Hierarchy {
                command,
                handle,
                parameters,
            } => Record::Hierarchy {
                command,
                handle,
                parameters: parameters.to_vec(),
            },
            Action::NvDefine { index } => Record::NvIndex {
                defined: true,
                index,
                attributes: self
                    .provisioner
                    .nv_public(index)
                    .map_err(Failure::Untold)?
                    .map_or(0, |public| public.attributes.bits()),
            },
            Action::NvUndefine { index } => Record::NvIndex {
                defined: false,
                index,
                attributes: undefined.map_or(0, |attributes| attributes.bits()),
            },
        };
        Ok(self.recorder.record(&record)?)
    }

    fn record_commit(&mut self) -> Result<(), Failure> {
        match self.commits.as_ref().and_then(|commits| commits.take()) {
            Some(state) => {
                // Commands that come before the identity are not known to commit anything; should
                // one, the journal begins before it tells so.
                self.identified()?;
                Ok(self.recorder.record(&Record::NvCommit { state })?)
            }
            None => Ok(()),
        }
    }

    fn started(&mut self, kind: StartupType) -> Result<(), Failure> {
        self.recorder.record(&Record::Startup(kind))?;
        self.recorder.pcrs_changed();
        match kind {
            StartupType::Clear => Ok(()),
            StartupType::State => self.record_values(0..=LAST),
        }
    }

    /// `pcr` is TPM_RH_NULL when nothing is extended.
    fn extended(&mut self, pcr: u32, digests: &[u8]) -> Result<(), Failure> {
        let Some(pcr) = index(pcr) else {
            return Ok(());
        };
        self.recorder.pcrs_changed();
        if self.recorder.mirror() != PcrMirror::Full {
            return Ok(());
        }
        match digest_values(digests, &self.banks) {
            Some(digests) => Ok(self.recorder.pcr_extended(pcr, &digests)?),
            None => self.record_values(pcr..=pcr),
        }
    }

    fn pcr_reset(&mut self, pcr: u32) -> Result<(), Failure> {
        let Some(pcr) = index(pcr) else {
            return Ok(());
        };
        self.recorder.pcrs_changed();
        match self.recorder.mirror() {
            PcrMirror::Full => Ok(self.recorder.record(&Record::PcrReset { pcr })?),
            PcrMirror::Off | PcrMirror::Summary => Ok(()),
        }
    }

    /// With [`PcrMirror::Full`], what these PCRs hold now.
    fn record_values(&mut self, pcrs: core::ops::RangeInclusive<u8>) -> Result<(), Failure> {
        if self.recorder.mirror() != PcrMirror::Full {
            return Ok(());
        }
        for pcr in pcrs {
            let values = self.provisioner.values(pcr, &self.banks);
            let values = values.map_err(Failure::Untold)?;
            self.recorder.record(&Record::PcrValue { pcr, values })?;
        }
        Ok(())
    }
}

const LAST: u8 = pcr::COUNT as u8 - 1;

/// The PCR of a TPMI_DH_PCR.
fn index(handle: u32) -> Option<u8> {
    u8::try_from(handle).ok().filter(|pcr| *pcr <= LAST)
}

/// TPML_DIGEST_VALUES, as far as these banks go.
fn digest_values(bytes: &[u8], banks: &[Algorithm]) -> Option<Vec<Digest>> {
    let mut fields = Fields::new(bytes);
    let mut digests = Vec::new();
    for _ in 0..fields.u32().ok()? {
        let algorithm = fields.hash().ok()?;
        let digest = Digest::new(algorithm, fields.bytes(algorithm.size()).ok()?)?;
        if banks.contains(&algorithm) {
            digests.push(digest);
        }
    }
    Some(digests)
}
