//! Reading and writing fields.

use crate::digest::Algorithm;
use crate::reader::{CutOff, Reader};
use alloc::vec::Vec;

/// Why bytes are not a structure of the TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The bytes end before the structure does.
    #[error("the TPM structure is cut off")]
    CutOff,
    /// Bytes are left behind the structure.
    #[error("the TPM structure has {0} bytes too many")]
    TooLong(usize),
    /// A TPMT_PUBLIC's type other than RSA or ECC.
    #[error("the public area's type {0:#06x} is neither RSA nor ECC")]
    KeyType(u16),
    /// A hash algorithm that this crate does not have.
    #[error("the hash algorithm {0:#06x} is not known")]
    HashAlgorithm(u16),
    /// A scheme, a key derivation or a signature that this crate does not have.
    #[error("the scheme {0:#06x} is not known")]
    Scheme(u16),
    /// A symmetric algorithm or mode other than AES in CFB mode.
    #[error("the symmetric algorithm {0:#06x} is not AES in CFB mode")]
    Symmetric(u16),
    /// A curve other than P-256, P-384 and P-521.
    #[error("the curve {0:#06x} is not known")]
    Curve(u16),
    /// Not TPM_GENERATED_VALUE: no TPM made this.
    #[error("the attestation structure's magic is {0:#010x}: no TPM made it")]
    Magic(u32),
    /// A type of attestation structure that this crate does not have.
    #[error("the attestation structure's type {0:#06x} is neither a quote nor a certification")]
    AttestType(u16),
    /// A flag that is neither 0 nor 1.
    #[error("a TPMI_YES_NO is {0:#04x}")]
    YesNo(u8),
    /// A name that is not a name algorithm and its digest.
    #[error("a name is not an algorithm and its digest")]
    Name,
    /// A PCR selection other than of 24 PCRs, or more than one of an algorithm.
    #[error("a PCR selection is not of 24 PCRs in different banks")]
    PcrSelection,
}

impl From<CutOff> for WireError {
    fn from(_: CutOff) -> Self {
        Self::CutOff
    }
}

/// The fields of a structure, front to back.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(Reader<'a>);

impl<'a> Fields<'a> {
    /// All fields of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(Reader::new(bytes))
    }

    /// BYTE.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.0.u8()?)
    }

    /// UINT16.
    pub fn u16(&mut self) -> Result<u16, WireError> {
        Ok(self.0.u16_be()?)
    }

    /// UINT32.
    pub fn u32(&mut self) -> Result<u32, WireError> {
        Ok(self.0.u32_be()?)
    }

    /// UINT64.
    pub fn u64(&mut self) -> Result<u64, WireError> {
        Ok(self.0.u64_be()?)
    }

    /// The next bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        Ok(self.0.bytes(count)?)
    }

    /// A TPM2B: UINT16 size and that many bytes.
    pub fn sized(&mut self) -> Result<&'a [u8], WireError> {
        let size = self.u16()?;
        self.bytes(usize::from(size))
    }

    /// TPMI_ALG_HASH.
    pub fn hash(&mut self) -> Result<Algorithm, WireError> {
        let id = self.u16()?;
        Algorithm::from_id(id).ok_or(WireError::HashAlgorithm(id))
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.0.rest()
    }

    /// That nothing is left.
    pub fn end(&self) -> Result<(), WireError> {
        match self.rest().len() {
            0 => Ok(()),
            left => Err(WireError::TooLong(left)),
        }
    }
}

/// Appends fields, as [`Fields`] reads them.
pub trait Put {
    /// UINT16.
    fn put_u16(&mut self, field: u16);
    /// UINT32.
    fn put_u32(&mut self, field: u32);
    /// A TPM2B. Bytes beyond what its size can say are cut off.
    fn put_sized(&mut self, bytes: &[u8]);
}

impl Put for Vec<u8> {
    fn put_u16(&mut self, field: u16) {
        self.extend(field.to_be_bytes());
    }

    fn put_u32(&mut self, field: u32) {
        self.extend(field.to_be_bytes());
    }

    fn put_sized(&mut self, bytes: &[u8]) {
        let size = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.put_u16(size);
        self.extend(bytes.iter().take(usize::from(size)));
    }
}
