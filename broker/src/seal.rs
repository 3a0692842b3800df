//! Secrets at rest: AES-256-GCM-SIV (RFC 8452) under the operator's key, which is in a file of its own.
//!
//! Who has the database without that file has no key of a machine. What a secret is for, and whose it is, is its
//! associated data: one put in another's place does not open.

use crate::random;
use aes_gcm_siv::aead::{Aead, Payload};
use aes_gcm_siv::{Aes256GcmSiv, KeyInit};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Bytes of the nonce in front of what is sealed.
const NONCE: usize = 12;

/// What a secret is for. `operator::rotation` seals those of each with a new key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The broker's identity.
    Identity,
    /// The broker's half of a machine's key.
    MachineKey,
    /// A session's key.
    SessionKey,
    /// A session of KBS whose evidence passed.
    KbsSession,
    /// What stands for the hardware's half while L1 is updated.
    UpgradeKey,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Purpose::Identity => "identity",
            Purpose::MachineKey => "machine key",
            Purpose::SessionKey => "session key",
            Purpose::KbsSession => "session of KBS",
            Purpose::UpgradeKey => "upgrade key",
        }
    }
}

/// Why the operator's key, or a secret under it, cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The file cannot be read or written.
    #[error("operator's key {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a key.
    #[error("operator's key {}: it is not 64 hexadecimal digits", .0.display())]
    NoKey(PathBuf),
    /// Another operator's key, or what was sealed was altered.
    #[error("the {0} in the database is not sealed with this operator's key")]
    Sealed(&'static str),
    /// See `random::NoRandom`.
    #[error(transparent)]
    Random(#[from] random::NoRandom),
}

/// The operator's key: 32 bytes, hexadecimal in its file. Erased when dropped.
pub struct OperatorKey(Zeroizing<[u8; 32]>);

impl OperatorKey {
    /// Makes one, and the file for it, which only its owner can read. A file that is there stays.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn create(path: &Path) -> Result<Self, SealError> {
        let key = Self(random::bytes()?);
        let text = Zeroizing::new(hex::encode(*key.0) + "\n");
        write_new(path, text.as_bytes()).map_err(|source| SealError::File {
            path: path.into(),
            source,
        })?;
        Ok(key)
    }

    /// Reads one.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn read(path: &Path) -> Result<Self, SealError> {
        let text = verifier::files::read_bounded(path, 4096).map_err(|source| SealError::File {
            path: path.into(),
            source,
        })?;
        let text = Zeroizing::new(text);
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim_ascii(), &mut *key)
            .map_err(|_| SealError::NoKey(path.into()))?;
        Ok(Self(key))
    }

    /// `secret`, sealed for `purpose` and `owner`.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn seal(
        &self,
        purpose: Purpose,
        owner: &[u8],
        secret: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let nonce = random::bytes::<NONCE>()?;
        let sealed = Aes256GcmSiv::new((&*self.0).into())
            .encrypt(
                (&*nonce).into(),
                Payload {
                    msg: secret,
                    aad: &associated(purpose, owner),
                },
            )
            .map_err(|_| SealError::Sealed(purpose.name()))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// The secret of `purpose` and `owner` in `sealed`.
    ///
    /// # Errors
    /// [`SealError::Sealed`].
    pub fn open(
        &self,
        purpose: Purpose,
        owner: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let refused = || SealError::Sealed(purpose.name());
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>().ok_or_else(refused)?;
        Aes256GcmSiv::new((&*self.0).into())
            .decrypt(
                nonce.into(),
                Payload {
                    msg: sealed,
                    aad: &associated(purpose, owner),
                },
            )
            .map(Zeroizing::new)
            .map_err(|_| refused())
    }

    /// As [`open`](Self::open), 32 bytes.
    ///
    /// # Errors
    /// [`SealError::Sealed`].
    pub fn open_key(
        &self,
        purpose: Purpose,
        owner: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<[u8; 32]>, SealError> {
        let secret = self.open(purpose, owner, sealed)?;
        let mut key = Zeroizing::new([0; 32]);
        if secret.len() != key.len() {
            return Err(SealError::Sealed(purpose.name()));
        }
        key.copy_from_slice(&secret);
        Ok(key)
    }

    /// What files and the audit trail call it: 8 hexadecimal digits that tell nothing of it.
    pub fn name(&self) -> String {
        let derived = self.derive("name of the operator's key");
        hex::encode(derived.first_chunk::<4>().unwrap_or(&[0; 4]))
    }

    /// A key that follows from the operator's for `purpose`, the same in every process that has it.
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let mac = Hmac::<Sha256>::new_from_slice(&*self.0)
            .map(|mac| mac.chain_update(b"tdp-vtpm-broker\0").chain_update(purpose));
        // HMAC takes keys of every length.
        Zeroizing::new(mac.map_or([0; 32], |mac| mac.finalize().into_bytes().into()))
    }
}

fn associated(purpose: Purpose, owner: &[u8]) -> Vec<u8> {
    [
        b"tdp-vtpm-broker 1\0",
        purpose.name().as_bytes(),
        b"\0",
        owner,
    ]
    .concat()
}

/// Writes a file that is not there yet and that only its owner can read.
///
/// # Errors
/// It is there, or cannot be written.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Has names that were given in this folder outlive a cut of power.
///
/// # Errors
/// The disk's.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_for_its_purpose_and_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator.key");
        let key = OperatorKey::create(&path).unwrap();
        assert!(OperatorKey::create(&path).is_err());
        let mode = std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap());
        assert_eq!(mode & 0o777, 0o600);
        let again = OperatorKey::read(&path).unwrap();
        let sealed = key.seal(Purpose::MachineKey, b"m", &[7; 32]).unwrap();
        assert_eq!(
            *again.open_key(Purpose::MachineKey, b"m", &sealed).unwrap(),
            [7; 32]
        );
        assert!(again.open(Purpose::SessionKey, b"m", &sealed).is_err());
        assert!(again.open(Purpose::MachineKey, b"n", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(again.open(Purpose::MachineKey, b"m", &altered).is_err());
        }
        let other = OperatorKey::create(&folder.path().join("other.key")).unwrap();
        assert!(other.open(Purpose::MachineKey, b"m", &sealed).is_err());
        assert_eq!(key.derive("a"), again.derive("a"));
        assert_ne!(key.derive("a"), key.derive("b"));
    }
}
