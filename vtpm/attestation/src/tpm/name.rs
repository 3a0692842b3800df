//! Names of entities: TPM 2.0 Library, part 1, "Names".

use super::wire::WireError;
use crate::digest::Algorithm;
use alloc::vec::Vec;
use core::fmt;

/// Name of an object or an NV index: its name algorithm and the digest of its public area.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Vec<u8>);

impl Name {
    /// Of a public area, as it is marshalled (TPMT_PUBLIC or TPMS_NV_PUBLIC).
    pub fn of(algorithm: Algorithm, public: &[u8]) -> Self {
        let digest = algorithm.digest(public);
        Self([&algorithm.id().to_be_bytes(), digest.bytes()].concat())
    }

    /// From its bytes. `None` if they are not an algorithm and as many bytes as it has.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let (id, digest) = bytes.split_first_chunk()?;
        let algorithm = Algorithm::from_id(u16::from_be_bytes(*id))?;
        (digest.len() == algorithm.size()).then(|| Self(bytes.to_vec()))
    }

    /// From a TPM2B_NAME's bytes.
    pub(super) fn from_wire(bytes: &[u8]) -> Result<Self, WireError> {
        Self::new(bytes).ok_or(WireError::Name)
    }

    /// As in a TPM2B_NAME, without its size.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Bytes of it: 22 to 66.
    pub fn size(&self) -> u16 {
        u16::try_from(self.0.len()).unwrap_or(u16::MAX)
    }
}

/// Lower-case hexadecimal.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}
