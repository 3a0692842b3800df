//! PCRs.

use alloc::vec::Vec;

use attestation::digest::Digest;
use attestation::pcr::{self, Bank, PcrBanks};
use attestation::tpm::{PcrSelect, PcrSelection, ResponseError, WireError, cc};

use super::{CommandError, Provisioner, refused, unreadable};
use crate::Engine;

/// Most digests in a TPML_DIGEST.
const DIGESTS: usize = 8;

impl<E: Engine> Provisioner<E> {
    /// TPM2_PCR_Extend.
    pub(crate) fn extend(&mut self, pcr: u8, digests: &[Digest]) -> Result<(), CommandError> {
        self.run(cc::PCR_EXTEND, |command| {
            let count = u32::try_from(digests.len()).unwrap_or(u32::MAX);
            let command = command.authorized(pcr.into(), &[]).u32(count);
            digests.iter().fold(command, |command, digest| {
                command.u16(digest.algorithm().id()).bytes(digest.bytes())
            })
        })
        .map(drop)
    }

    /// One PCR in each of these banks.
    pub(crate) fn values(&mut self, pcr: u8, banks: PcrBanks) -> Result<Vec<Digest>, CommandError> {
        let mut values = Vec::new();
        for bank in banks.iter() {
            self.read_into(&mut values, PcrSelect::of(bank, [pcr]))?;
        }
        Ok(values)
    }

    /// All PCRs of each of these banks.
    pub(crate) fn banks(&mut self, banks: PcrBanks) -> Result<Vec<Bank>, CommandError> {
        let indices: Vec<u8> = (0u8..).take(pcr::COUNT).collect();
        let mut read = Vec::new();
        for algorithm in banks.iter() {
            let mut values = Vec::with_capacity(pcr::COUNT);
            for some in indices.chunks(DIGESTS) {
                let select = PcrSelect::of(algorithm, some.iter().copied());
                self.read_into(&mut values, select)?;
            }
            let bank = Bank::from_values(&values);
            read.push(bank.ok_or(refused(cc::PCR_READ, ResponseError::Malformed))?);
        }
        Ok(read)
    }

    /// TPM2_PCR_Read of PCRs that fit one response.
    fn read_into(
        &mut self,
        values: &mut Vec<Digest>,
        select: PcrSelect,
    ) -> Result<(), CommandError> {
        let mut fields = self
            .run(cc::PCR_READ, |command| {
                command.bytes(&PcrSelection([select].into()).to_bytes())
            })?
            .parameters;
        let mut read = || {
            // pcrUpdateCounter
            fields.u32()?;
            let answered = PcrSelection::read(&mut fields)?;
            if answered.0 != [select] {
                return Err(WireError::PcrSelection);
            }
            for _ in 0..fields.u32()? {
                let digest = Digest::new(select.bank, fields.sized()?);
                values.push(digest.ok_or(WireError::PcrSelection)?);
            }
            fields.end()
        };
        read().map_err(unreadable(cc::PCR_READ))
    }
}
