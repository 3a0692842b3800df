//! One state key, and what follows from it for each purpose (HKDF-SHA-384, RFC 5869).
//!
//! The salt is the machine's identity, the information a text for each purpose, so that no key is used for two
//! things and a key that two machines share by mistake still gives them different ones.

use aes_gcm_siv::{Aes256GcmSiv, KeyInit};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha384;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::layout::{Sha, Tcb};
use alloc::vec::Vec;

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

/// A state key, and what has to be known of it before there is the key.
#[derive(Debug)]
pub struct SealingKey {
    /// The key.
    pub key: StateKey,
    /// Of which TCB the hardware's half is; [`Tcb::NONE`] without one.
    pub tcb: Tcb,
}

/// Keys that slots of one machine's disk may be sealed with.
///
/// A state is sealed anew where another key has taken the place of the one that it was sealed with: after an update of the
/// platform, whose keys of older TCBs are still to be had, or of L1, whose state was carried over. One of the two slots is
/// of the former key until the second commit.
#[derive(Debug)]
pub struct KeyRing {
    /// What is sealed from now on is sealed with it.
    pub current: SealingKey,
    /// What may have been.
    pub former: Vec<StateKey>,
}

impl From<StateKey> for KeyRing {
    /// One key, which the hardware has no part in.
    fn from(key: StateKey) -> Self {
        let tcb = Tcb::NONE;
        Self {
            current: SealingKey { key, tcb },
            former: Vec::new(),
        }
    }
}

/// The keys of a [`KeyRing`] for each purpose.
pub(crate) struct Ring {
    current: Keys,
    former: Vec<Keys>,
    /// Of the current key.
    pub(crate) tcb: Tcb,
}

impl Ring {
    pub(crate) fn new(ring: &KeyRing, machine: MachineId) -> Self {
        let former = ring.former.iter();
        Self {
            current: Keys::new(&ring.current.key, machine),
            former: former.map(|key| Keys::new(key, machine)).collect(),
            tcb: ring.current.tcb,
        }
    }

    #[cfg(test)]
    pub(crate) fn current_mut(&mut self) -> &mut Keys {
        &mut self.current
    }

    /// What is sealed with from now on.
    pub(crate) fn current(&self) -> &Keys {
        &self.current
    }

    /// All of them, the current ones first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Keys> {
        core::iter::once(&self.current).chain(&self.former)
    }

    /// The keys of this name.
    pub(crate) fn named(&self, key_id: &[u8; 16]) -> Option<&Keys> {
        self.all().find(|keys| keys.key_id == *key_id)
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
