//! TPMS_ATTEST of TPM2_Quote and TPM2_Certify.

use super::wire::{Fields, Put, WireError};
use super::{Name, PcrSelection};
use alloc::vec::Vec;

/// TPM_GENERATED_VALUE.
const GENERATED: u32 = 0xFF54_4347;
/// TPM_ST_ATTEST_CERTIFY.
const CERTIFY: u16 = 0x8017;
/// TPM_ST_ATTEST_QUOTE.
const QUOTE: u16 = 0x8018;

/// TPMS_CLOCK_INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockInfo {
    /// Milliseconds that the TPM was powered.
    pub clock: u64,
    /// TPM Resets since the last TPM2_Clear.
    pub reset_count: u32,
    /// TPM Restarts and Resumes since the last reset.
    pub restart_count: u32,
    /// Whether no value of `clock` greater than this was reported before.
    pub safe: bool,
}

/// TPMU_ATTEST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attested {
    /// TPMS_QUOTE_INFO.
    Quote {
        /// What PCRs.
        selection: PcrSelection,
        /// Of the selected PCRs' values, in the hash algorithm of the signature's scheme.
        digest: Vec<u8>,
    },
    /// TPMS_CERTIFY_INFO.
    Certify {
        /// Of the certified object.
        name: Name,
        /// Of the certified object.
        qualified_name: Name,
    },
}

/// TPMS_ATTEST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attest {
    /// Qualified name of the key that signed it.
    pub qualified_signer: Name,
    /// Qualifying data: the nonce.
    pub extra_data: Vec<u8>,
    /// The TPM's clock.
    pub clock: ClockInfo,
    /// The TPM's firmware version.
    pub firmware_version: u64,
    /// What it says.
    pub attested: Attested,
}

impl Attest {
    /// TPMS_ATTEST: what is signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_u32(GENERATED);
        bytes.put_u16(match self.attested {
            Attested::Quote { .. } => QUOTE,
            Attested::Certify { .. } => CERTIFY,
        });
        bytes.put_sized(self.qualified_signer.as_bytes());
        bytes.put_sized(&self.extra_data);
        bytes.extend(self.clock.clock.to_be_bytes());
        bytes.put_u32(self.clock.reset_count);
        bytes.put_u32(self.clock.restart_count);
        bytes.push(u8::from(self.clock.safe));
        bytes.extend(self.firmware_version.to_be_bytes());
        match &self.attested {
            Attested::Quote { selection, digest } => {
                bytes.extend(selection.to_bytes());
                bytes.put_sized(digest);
            }
            Attested::Certify {
                name,
                qualified_name,
            } => {
                bytes.put_sized(name.as_bytes());
                bytes.put_sized(qualified_name.as_bytes());
            }
        }
        bytes
    }

    /// From a TPMS_ATTEST, all of it.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new(bytes);
        let magic = fields.u32()?;
        if magic != GENERATED {
            return Err(WireError::Magic(magic));
        }
        let attest_type = fields.u16()?;
        let attest = Self {
            qualified_signer: Name::from_wire(fields.sized()?)?,
            extra_data: fields.sized()?.to_vec(),
            clock: ClockInfo {
                clock: fields.u64()?,
                reset_count: fields.u32()?,
                restart_count: fields.u32()?,
                safe: match fields.u8()? {
                    0 => false,
                    1 => true,
                    other => return Err(WireError::YesNo(other)),
                },
            },
            firmware_version: fields.u64()?,
            attested: match attest_type {
                QUOTE => Attested::Quote {
                    selection: PcrSelection::read(&mut fields)?,
                    digest: fields.sized()?.to_vec(),
                },
                CERTIFY => Attested::Certify {
                    name: Name::from_wire(fields.sized()?)?,
                    qualified_name: Name::from_wire(fields.sized()?)?,
                },
                other => return Err(WireError::AttestType(other)),
            },
        };
        fields.end()?;
        Ok(attest)
    }
}
