//! One state key, and what follows from it for each purpose (HKDF-SHA-384, RFC 5869).
//!
//! The salt is the machine's identity, the information a text for each purpose, so that no key is used for two
//! things and a key that two machines share by mistake still gives them different ones.

use aes_gcm_siv::{Aes256GcmSiv, KeyInit};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha384;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::layout::Sha;

/// Whose state it is: the vTPM's identity at its broker, or any other 32 bytes that name one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineId(pub [u8; 32]);

/// The key that the state is sealed with: 32 bytes that only L1 and whoever released it know. Erased when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct StateKey([u8; 32]);

impl StateKey {
    /// Takes the key out of `from`, which is zero afterwards.
    pub fn take(from: &mut [u8; 32]) -> Self {
        let key = Self(*from);
        from.zeroize();
        key
    }
}

impl core::fmt::Debug for StateKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("StateKey(..)")
    }
}

/// Information of HKDF for the AEAD's key, 32 bytes.
pub const INFO_SLOT: &[u8] = b"tdp-vtpm state 1: slot, AES-256-GCM-SIV";
/// Information of HKDF for the commit records' key, 48 bytes.
pub const INFO_COMMIT: &[u8] = b"tdp-vtpm state 1: commit record, HMAC-SHA-384";
/// Information of HKDF for the state digests' key, 48 bytes.
pub const INFO_DIGEST: &[u8] = b"tdp-vtpm state 1: state digest, HMAC-SHA-384";
/// Information of HKDF for the key's public name, 16 bytes.
pub const INFO_KEY_ID: &[u8] = b"tdp-vtpm state 1: key identifier";

/// The keys of one machine's state. Each is erased when dropped.
pub struct Keys {
    /// The cipher of slots; the cipher erases its key.
    pub(crate) slot: Aes256GcmSiv,
    commit: Zeroizing<[u8; 48]>,
    digest: Zeroizing<[u8; 48]>,
    /// The key's public name.
    pub(crate) key_id: [u8; 16],
}

impl Keys {
    /// The keys that follow from `key` for this machine.
    pub fn new(key: &StateKey, machine: MachineId) -> Self {
        let hkdf = Hkdf::<Sha384>::new(Some(&machine.0), &key.0);
        // RFC 5869 refuses only more than 255 times 48 bytes.
        let expand = |info: &[u8], into: &mut [u8]| hkdf.expand(info, into).is_ok();
        let mut slot = Zeroizing::new([0; 32]);
        let mut commit = Zeroizing::new([0; 48]);
        let mut digest = Zeroizing::new([0; 48]);
        let mut key_id = [0; 16];
        let all = expand(INFO_SLOT, &mut *slot)
            && expand(INFO_COMMIT, &mut *commit)
            && expand(INFO_DIGEST, &mut *digest)
            && expand(INFO_KEY_ID, &mut key_id);
        debug_assert!(all);
        Self {
            slot: Aes256GcmSiv::new((&*slot).into()),
            commit,
            digest,
            key_id,
        }
    }

    /// The MAC of a commit record's bytes.
    pub(crate) fn commit_mac(&self, bytes: &[u8]) -> Sha {
        mac(&self.commit, bytes)
    }

    /// Whether `tag` is the MAC of a commit record's bytes; in constant time.
    pub(crate) fn commit_holds(&self, bytes: &[u8], tag: &Sha) -> bool {
        verify(&self.commit, bytes, tag)
    }

    /// The keyed digest of records: what tells two states apart, and binds a slot to one key.
    pub(crate) fn state_digest(&self, records: &[u8]) -> Sha {
        mac(&self.digest, records)
    }

    /// Whether `digest` is the keyed digest of records; in constant time.
    pub(crate) fn digest_holds(&self, records: &[u8], digest: &Sha) -> bool {
        verify(&self.digest, records, digest)
    }
}

fn keyed(key: &[u8; 48]) -> Hmac<Sha384> {
    let mut block = hmac::digest::Key::<Hmac<Sha384>>::default();
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    // HMAC fills a key up with zeros to the hash's block, so that the block is the key (RFC 2104).
    let hmac = Hmac::new(&block);
    block.as_mut_slice().zeroize();
    hmac
}

fn mac(key: &[u8; 48], bytes: &[u8]) -> Sha {
    keyed(key)
        .chain_update(bytes)
        .finalize()
        .into_bytes()
        .into()
}

fn verify(key: &[u8; 48], bytes: &[u8], tag: &Sha) -> bool {
    keyed(key).chain_update(bytes).verify(tag.into()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn erased_when_dropped<T: ZeroizeOnDrop>() {}

    #[test]
    fn keys_are_erased() {
        erased_when_dropped::<StateKey>();
        erased_when_dropped::<Zeroizing<[u8; 48]>>();
        // The cipher's round keys.
        erased_when_dropped::<aes::Aes256>();
        let mut given = [7; 32];
        let mut key = StateKey::take(&mut given);
        assert_eq!(given, [0; 32]);
        assert_eq!(alloc::format!("{key:?}"), "StateKey(..)");
        key.zeroize();
        assert_eq!(key.0, [0; 32]);
    }

    #[test]
    fn each_purpose_and_each_machine_has_its_own_key() {
        let keys = |key: u8, machine: u8| {
            let keys = Keys::new(&StateKey([key; 32]), MachineId([machine; 32]));
            (*keys.commit, *keys.digest, keys.key_id)
        };
        let one = keys(1, 1);
        assert_ne!(one.0, one.1);
        for other in [keys(2, 1), keys(1, 2)] {
            assert!(one.0 != other.0 && one.1 != other.1 && one.2 != other.2);
        }
        assert_eq!(one, keys(1, 1));
    }
}
