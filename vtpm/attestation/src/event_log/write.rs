//! Writing logs.

use super::{EV_NO_ACTION, RecordHeader};
use crate::digest::{Algorithm, Digest, Digests};
use crate::pcr::PcrBanks;
use alloc::vec::Vec;
use zerocopy::IntoBytes;

/// One record of a CC event log. `None` if the data's size does not fit its field.
pub fn cc_record(rtmr: u8, event_type: u32, digest: [u8; 48], data: &[u8]) -> Option<Vec<u8>> {
    let size = u32::try_from(data.len()).ok()?;
    let header = RecordHeader::new(rtmr, event_type, digest, size);
    Some([header.as_bytes(), data].concat())
}

/// A TCG crypto-agile log that grows, with a digest of each bank, for the log area of the TPM2 table.
#[derive(Clone, Debug)]
pub struct TcgLog {
    banks: PcrBanks,
    bytes: Vec<u8>,
}

impl TcgLog {
    /// A log with its header record alone.
    pub fn new(banks: PcrBanks) -> Self {
        let mut spec_id = b"Spec ID Event03\0".to_vec();
        // Platform class 0 (client), version 2.0 with errata 0, UINTN of 64 bits.
        spec_id.extend([0, 0, 0, 0, 0, 2, 0, 2]);
        spec_id.extend(count(banks).to_le_bytes());
        for algorithm in banks.iter() {
            spec_id.extend(algorithm.id().to_le_bytes());
            spec_id.extend(digest_size(algorithm).to_le_bytes());
        }
        // No vendor information.
        spec_id.push(0);
        let mut bytes = Vec::new();
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(EV_NO_ACTION.to_le_bytes());
        bytes.extend([0; 20]);
        bytes.extend(spec_id_size(banks).to_le_bytes());
        bytes.extend(spec_id);
        Self { banks, bytes }
    }

    /// Appends a record. A digest that was not computed is zeros. Data beyond what its size field can say is cut off; nothing that L1
    /// measures comes near it.
    pub fn append(&mut self, pcr: u8, event_type: u32, digests: &Digests, data: &[u8]) {
        let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
        self.bytes.extend(u32::from(pcr).to_le_bytes());
        self.bytes.extend(event_type.to_le_bytes());
        self.bytes.extend(count(self.banks).to_le_bytes());
        for algorithm in self.banks.iter() {
            let digest = digests.get(algorithm);
            self.digest(&digest.unwrap_or(Digest::zero(algorithm)));
        }
        self.bytes.extend(size.to_le_bytes());
        self.bytes.extend(
            data.iter()
                .take(usize::try_from(size).unwrap_or(usize::MAX)),
        );
    }

    fn digest(&mut self, digest: &Digest) {
        self.bytes.extend(digest.algorithm().id().to_le_bytes());
        self.bytes.extend(digest.bytes());
    }

    /// The log as it is in memory.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The log as it is in memory.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// How many banks there are: four at most.
fn count(banks: PcrBanks) -> u32 {
    banks.iter().map(|_| 1).sum()
}

/// Bytes of the TCG_EfiSpecIdEvent of these banks without vendor information.
fn spec_id_size(banks: PcrBanks) -> u32 {
    16 + 4 + 4 + 4 + 4 * count(banks) + 1
}

/// As the TCG_EfiSpecIdEvent has it.
fn digest_size(algorithm: Algorithm) -> u16 {
    match algorithm {
        Algorithm::Sha1 => 20,
        Algorithm::Sha256 => 32,
        Algorithm::Sha384 => 48,
        Algorithm::Sha512 => 64,
    }
}
