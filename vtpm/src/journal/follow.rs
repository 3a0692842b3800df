//! Which record each command of the guest's makes.

use alloc::vec::Vec;

use attestation::digest::Digest;
use attestation::journal::{PcrMirror, Record, StartupType};
use attestation::pcr::{self, PcrBanks};
use attestation::tpm::Fields;

use super::Journal;
use crate::provision::{NvAttributes, Provisioner};
use crate::request::Action;
use crate::{Engine, Failure, TrustDomain};

impl Journal {
    /// Records what the command of `action`, which has succeeded, did. `answered` are the parameters of its response,
    /// `undefined` the attributes of an index that it undefined.
    pub(crate) fn follow<E: Engine>(
        &mut self,
        action: Action<'_>,
        answered: &[u8],
        undefined: Option<NvAttributes>,
        tpm: &mut Provisioner<E>,
        trust_domain: &mut impl TrustDomain,
    ) -> Result<(), Failure> {
        let record = match action {
            Action::Other | Action::UserData | Action::Selector => return Ok(()),
            Action::Startup(kind) => return self.started(kind, tpm, trust_domain),
            Action::PcrExtend { pcr, digests } => {
                return self.extended(pcr, digests, tpm, trust_domain);
            }
            Action::PcrEvent { pcr } => return self.extended(pcr, answered, tpm, trust_domain),
            Action::PcrReset { pcr } => return self.pcr_reset(pcr, trust_domain),
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
                attributes: tpm
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
        Ok(self.record(&record, trust_domain)?)
    }

    fn started<E: Engine>(
        &mut self,
        kind: StartupType,
        tpm: &mut Provisioner<E>,
        trust_domain: &mut impl TrustDomain,
    ) -> Result<(), Failure> {
        self.record(&Record::Startup(kind), trust_domain)?;
        self.pcrs_changed();
        match kind {
            StartupType::Clear => Ok(()),
            StartupType::State => self.record_values(0..=LAST, tpm, trust_domain),
        }
    }

    /// `pcr` is TPM_RH_NULL when nothing is extended.
    fn extended<E: Engine>(
        &mut self,
        pcr: u32,
        digests: &[u8],
        tpm: &mut Provisioner<E>,
        trust_domain: &mut impl TrustDomain,
    ) -> Result<(), Failure> {
        let Some(pcr) = index(pcr) else {
            return Ok(());
        };
        self.pcrs_changed();
        if self.mirror() != PcrMirror::Full {
            return Ok(());
        }
        match digest_values(digests, self.banks()) {
            Some(digests) => Ok(self.pcr_extended(pcr, &digests, trust_domain)?),
            None => self.record_values(pcr..=pcr, tpm, trust_domain),
        }
    }

    fn pcr_reset(&mut self, pcr: u32, trust_domain: &mut impl TrustDomain) -> Result<(), Failure> {
        let Some(pcr) = index(pcr) else {
            return Ok(());
        };
        self.pcrs_changed();
        match self.mirror() {
            PcrMirror::Full => Ok(self.record(&Record::PcrReset { pcr }, trust_domain)?),
            PcrMirror::Off | PcrMirror::Summary => Ok(()),
        }
    }

    /// With [`PcrMirror::Full`], what these PCRs hold now.
    fn record_values<E: Engine>(
        &mut self,
        pcrs: core::ops::RangeInclusive<u8>,
        tpm: &mut Provisioner<E>,
        trust_domain: &mut impl TrustDomain,
    ) -> Result<(), Failure> {
        if self.mirror() != PcrMirror::Full {
            return Ok(());
        }
        for pcr in pcrs {
            let values = tpm.values(pcr, self.banks()).map_err(Failure::Untold)?;
            self.record(&Record::PcrValue { pcr, values }, trust_domain)?;
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
fn digest_values(bytes: &[u8], banks: PcrBanks) -> Option<Vec<Digest>> {
    let mut fields = Fields::new(bytes);
    let mut digests = Vec::new();
    for _ in 0..fields.u32().ok()? {
        let algorithm = fields.hash().ok()?;
        let digest = Digest::new(algorithm, fields.bytes(algorithm.size()).ok()?)?;
        if banks.contains(algorithm) {
            digests.push(digest);
        }
    }
    Some(digests)
}
