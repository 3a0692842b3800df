//! The envelope around the engine's state blobs.
//!
//! libtpms's own blobs carry no check: about half of all single-byte changes to one are accepted.
//! The envelope finds every accidental change. It is no protection against an attacker, who can
//! make the digest anew: that is for the store to give.

use alloc::vec::Vec;

use crate::hash::Sha256;

/// Which part of the engine's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateKind {
    /// What survives a power cycle: seeds, hierarchies, NV indices, persistent objects.
    Permanent,
    /// What does not: PCRs, transient objects, sessions, clocks. Fits only the permanent state of
    /// the same moment.
    Volatile,
}

impl StateKind {
    const fn code(self) -> u8 {
        match self {
            Self::Permanent => 1,
            Self::Volatile => 2,
        }
    }
}

/// Why a state was not accepted or could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Not a state of this engine, or of another version's envelope.
    #[error("not a TPM state, or one of another version")]
    Foreign,
    /// A state, but not of the kind that was asked for.
    #[error("a TPM state of another kind")]
    Kind,
    /// Shortened or changed since it was made.
    #[error("the TPM state is damaged")]
    Damaged,
    /// Whole, yet the engine refused it; the code is libtpms's.
    #[error("the engine refused the state: {0:#x}")]
    Refused(u32),
    /// The engine could not write its state; the code is libtpms's.
    #[error("the engine could not write its state: {0:#x}")]
    Unavailable(u32),
    /// The store failed.
    #[error("the store of the permanent state failed")]
    Store,
}

/// Magic and version, kind, three zero bytes, length of the blob (little endian), SHA-256 of all
/// that and the blob; then the blob.
const MAGIC: [u8; 8] = *b"TPM2REF1";
const KIND: usize = 8;
const LENGTH: usize = 12;
const DIGEST: usize = 16;
const HEADER: usize = 48;

/// `blob` in an envelope.
pub(crate) fn wrap(kind: StateKind, blob: &[u8]) -> Vec<u8> {
    let mut state = Vec::with_capacity(HEADER + blob.len());
    state.extend(MAGIC);
    state.extend([kind.code(), 0, 0, 0]);
    // The engine's blobs are below 300 KB.
    state.extend((blob.len() as u32).to_le_bytes());
    let digest = digest(&state, blob);
    state.extend(digest);
    state.extend(blob);
    state
}

/// The blob of an envelope that is whole.
pub(crate) fn unwrap(kind: StateKind, state: &[u8]) -> Result<&[u8], StateError> {
    let (header, blob) = state.split_at_checked(HEADER).ok_or(StateError::Foreign)?;
    if !header.starts_with(&MAGIC) {
        return Err(StateError::Foreign);
    }
    let (described, expected) = header.split_at(DIGEST);
    if digest(described, blob) != expected {
        return Err(StateError::Damaged);
    }
    if described.get(LENGTH..) != Some((blob.len() as u32).to_le_bytes().as_slice()) {
        return Err(StateError::Damaged);
    }
    if described.get(KIND..LENGTH) != Some([kind.code(), 0, 0, 0].as_slice()) {
        return Err(StateError::Kind);
    }
    Ok(blob)
}

fn digest(described: &[u8], blob: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(described);
    hash.update(blob);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digest_is_sha256() {
        let expected = [
            0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae,
            0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61,
            0xf2, 0x00, 0x15, 0xad,
        ];
        assert_eq!(digest(b"a", b"bc"), expected);
    }

    #[test]
    fn an_envelope_gives_back_its_blob() {
        let state = wrap(StateKind::Volatile, b"abc");
        assert_eq!(unwrap(StateKind::Volatile, &state), Ok(&b"abc"[..]));
        assert_eq!(unwrap(StateKind::Permanent, &state), Err(StateError::Kind));
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_found() {
        let state = wrap(StateKind::Permanent, &[7; 40]);
        for position in 0..state.len() {
            let mut changed = state.clone();
            changed[position] ^= 0x10;
            assert!(unwrap(StateKind::Permanent, &changed).is_err());
            assert!(unwrap(StateKind::Permanent, &state[..position]).is_err());
        }
        let mut longer = state;
        longer.push(0);
        assert_eq!(
            unwrap(StateKind::Permanent, &longer),
            Err(StateError::Damaged)
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(unwrap(StateKind::Permanent, &bytes).is_err());
        }
    }
}
