//! TPML_PCR_SELECTION.

use super::wire::{Fields, Put, WireError};
use crate::digest::Algorithm;
use alloc::vec;
use alloc::vec::Vec;

/// TPMS_PCR_SELECTION of a bank with 24 PCRs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcrSelect {
    /// Of the bank.
    pub bank: Algorithm,
    /// PCR n is selected if bit n is set.
    pub pcrs: [u8; 3],
}

impl PcrSelect {
    /// All PCRs of a bank.
    pub const fn all(bank: Algorithm) -> Self {
        Self {
            bank,
            pcrs: [0xFF; 3],
        }
    }

    /// No PCR of a bank.
    pub const fn none(bank: Algorithm) -> Self {
        Self { bank, pcrs: [0; 3] }
    }

    /// Some PCRs of a bank; those beyond 23 do not exist and are left out.
    pub fn of(bank: Algorithm, pcrs: impl IntoIterator<Item = u8>) -> Self {
        let mut select = Self::none(bank);
        for pcr in pcrs {
            if let Some(byte) = select.pcrs.get_mut(usize::from(pcr / 8)) {
                *byte |= 1 << (pcr % 8);
            }
        }
        select
    }

    /// The selected PCRs, ascending.
    pub fn indices(self) -> impl Iterator<Item = u8> {
        (0..24u8).filter(move |pcr| {
            let byte = self.pcrs.get(usize::from(pcr / 8)).copied();
            byte.unwrap_or_default() >> (pcr % 8) & 1 == 1
        })
    }
}

/// TPML_PCR_SELECTION.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PcrSelection(pub Vec<PcrSelect>);

impl From<PcrSelect> for PcrSelection {
    fn from(select: PcrSelect) -> Self {
        Self(vec![select])
    }
}

impl PcrSelection {
    /// As on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_u32(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        for select in &self.0 {
            bytes.put_u16(select.bank.id());
            bytes.push(3);
            bytes.extend(select.pcrs);
        }
        bytes
    }

    /// Reads one, in the midst of other fields.
    pub fn read(fields: &mut Fields<'_>) -> Result<Self, WireError> {
        let mut selection: Vec<PcrSelect> = Vec::new();
        for _ in 0..fields.u32()? {
            let bank = fields.hash()?;
            if fields.u8()? != 3 || selection.iter().any(|select| select.bank == bank) {
                return Err(WireError::PcrSelection);
            }
            let pcrs = fields.bytes(3)?;
            let pcrs = pcrs.try_into().map_err(|_| WireError::PcrSelection)?;
            selection.push(PcrSelect { bank, pcrs });
        }
        Ok(Self(selection))
    }
}
