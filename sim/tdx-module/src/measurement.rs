//! MRTD and the RTMRs (TDX Module Base Architecture Specification, "Measurement and Attestation").

use sha2::{Digest, Sha384};

/// A SHA-384 digest, the size of every TD measurement.
pub type Measurement = [u8; 48];

/// Number of runtime measurement registers.
pub const RTMR_COUNT: usize = 4;

/// The stream that becomes MRTD: what the host added to the TD, in the order it did.
#[derive(Clone, Default)]
pub(crate) struct BuildMeasurement(Sha384);

impl BuildMeasurement {
    /// TDH.MEM.PAGE.ADD: the page's address, not its content.
    pub(crate) fn page_add(&mut self, gpa: u64) {
        self.0.update(block(b"MEM.PAGE.ADD", gpa));
    }

    /// TDH.MR.EXTEND: a 256-byte chunk's address and content.
    pub(crate) fn extend(&mut self, gpa: u64, chunk: &[u8; 256]) {
        self.0.update(block(b"MR.EXTEND", gpa));
        self.0.update(chunk);
    }

    /// TDH.MR.FINALIZE.
    pub(crate) fn finish(self) -> Measurement {
        self.0.finalize().into()
    }
}

/// A record of the stream: an ASCII name padded to 16 bytes, the GPA, and zeros to 128 bytes.
fn block(name: &[u8], gpa: u64) -> [u8; 128] {
    let mut block = [0; 128];
    block[..name.len()].copy_from_slice(name);
    block[16..24].copy_from_slice(&gpa.to_le_bytes());
    block
}

/// The runtime measurement registers: zero at the start, and only ever extended.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuntimeMeasurements([Register; RTMR_COUNT]);

#[derive(Clone, Copy, Debug)]
struct Register(Measurement);

impl Default for Register {
    fn default() -> Register {
        Register([0; 48])
    }
}

impl RuntimeMeasurements {
    /// RTMR\[index\] := SHA384(RTMR\[index\] || data).
    pub(crate) fn extend(&mut self, index: usize, data: &Measurement) {
        let Register(value) = &mut self.0[index];
        *value = Sha384::new()
            .chain_update(*value)
            .chain_update(data)
            .finalize()
            .into();
    }

    pub(crate) fn get(&self, index: usize) -> &Measurement {
        &self.0[index].0
    }
}

/// SHA-384 of `bytes`.
pub(crate) fn sha384(bytes: &[u8]) -> Measurement {
    Sha384::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn mrtd_hashes_addresses_of_added_pages_and_content_of_extended_chunks() {
        let mut measurement = BuildMeasurement::default();
        measurement.page_add(0xffff_f000);
        measurement.extend(0xffff_f100, &[0xa5; 256]);

        let mut stream = Vec::new();
        stream.extend_from_slice(b"MEM.PAGE.ADD\0\0\0\0");
        stream.extend_from_slice(&0xffff_f000_u64.to_le_bytes());
        stream.resize(128, 0);
        stream.extend_from_slice(b"MR.EXTEND\0\0\0\0\0\0\0");
        stream.extend_from_slice(&0xffff_f100_u64.to_le_bytes());
        stream.resize(256, 0);
        stream.resize(512, 0xa5);
        assert_eq!(measurement.finish(), sha384(&stream));
    }

    #[test]
    fn mrtd_of_nothing_is_the_empty_hash() {
        assert_eq!(BuildMeasurement::default().finish(), sha384(&[]));
    }

    proptest! {
        #[test]
        fn an_rtmr_is_the_hash_chain_of_what_it_was_extended_with(
            extends in proptest::collection::vec((0..RTMR_COUNT, any::<[u8; 16]>()), 0..20),
        ) {
            let mut rtmrs = RuntimeMeasurements::default();
            let mut chains = [[0_u8; 48]; RTMR_COUNT];
            for (index, seed) in extends {
                let data = sha384(&seed);
                rtmrs.extend(index, &data);
                let mut link = [0; 96];
                link[..48].copy_from_slice(&chains[index]);
                link[48..].copy_from_slice(&data);
                chains[index] = sha384(&link);
            }
            for (index, chain) in chains.iter().enumerate() {
                prop_assert_eq!(rtmrs.get(index), chain);
            }
        }
    }
}
