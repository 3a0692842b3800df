//! TPMS_NV_PUBLIC.

use super::wire::{Fields, Put, WireError};
use crate::digest::Algorithm;
use alloc::vec::Vec;

/// TPMS_NV_PUBLIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NvPublic {
    /// nvIndex.
    pub index: u32,
    /// nameAlg.
    pub name_algorithm: Algorithm,
    /// TPMA_NV.
    pub attributes: u32,
    /// authPolicy; empty if there is none.
    pub auth_policy: Vec<u8>,
    /// dataSize: bytes of the content.
    pub size: u16,
}

impl NvPublic {
    /// Of an index without a policy, named with SHA-256.
    pub const fn new(index: u32, attributes: u32, size: u16) -> Self {
        Self {
            index,
            name_algorithm: Algorithm::Sha256,
            attributes,
            auth_policy: Vec::new(),
            size,
        }
    }

    /// As on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_u32(self.index);
        bytes.put_u16(self.name_algorithm.id());
        bytes.put_u32(self.attributes);
        bytes.put_sized(&self.auth_policy);
        bytes.put_u16(self.size);
        bytes
    }

    /// From a TPMS_NV_PUBLIC, all of it.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new(bytes);
        let public = Self {
            index: fields.u32()?,
            name_algorithm: fields.hash()?,
            attributes: fields.u32()?,
            auth_policy: fields.sized()?.to_vec(),
            size: fields.u16()?,
        };
        fields.end()?;
        Ok(public)
    }
}
