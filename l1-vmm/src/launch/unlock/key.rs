//! The state's key, of the halves that the configuration asks for.

use attestation::digest::Algorithm;
use hkdf::Hkdf;
use sha2::Sha384;
use state_store::{MachineId, StateKey};
use zeroize::Zeroizing;

/// Information of HKDF where the broker's half is all.
const BROKER: &[u8] = b"tdp-vtpm state key 1: broker";
/// Information of HKDF where the hardware's half is all.
const HARDWARE: &[u8] = b"tdp-vtpm state key 1: hardware";
/// Information of HKDF over both halves, the broker's first.
const BOTH: &[u8] = b"tdp-vtpm state key 1: broker, hardware";
/// Information of HKDF over the broker's half and what stands for the hardware's while L1 is updated.
const CARRIED: &[u8] = b"tdp-vtpm state key 1: broker, carried";
/// What the machine follows in the salt of the sealing key.
const SALT: &[u8] = b"tdp-vtpm sealing key 1\0";

/// The halves that there are.
pub(super) struct Halves<'a> {
    pub(super) broker: Option<&'a [u8; 32]>,
    pub(super) other: Other<'a>,
}

/// What there is beside the broker's half.
#[derive(Clone, Copy)]
pub(super) enum Other<'a> {
    /// Nothing.
    None,
    /// The hardware's half.
    Hardware(&'a [u8; 32]),
    /// What the broker gives in its place while L1 is updated.
    Carried(&'a [u8; 32]),
}

/// The salt of the machine's sealing key: SHA-256 of a label and the machine.
pub(super) fn salt(machine: &MachineId) -> [u8; 32] {
    let mut message = SALT.to_vec();
    message.extend(machine.0);
    let digest = Algorithm::Sha256.digest(&message);
    let mut salt = [0; 32];
    for (to, from) in salt.iter_mut().zip(digest.bytes()) {
        *to = *from;
    }
    salt
}

/// The key of the machine's state; `None` without any half.
pub(super) fn state_key(machine: &MachineId, halves: &Halves<'_>) -> Option<StateKey> {
    let mut material = Zeroizing::new([0; 64]);
    let (first, second) = material.split_at_mut(32);
    let (length, information) = match (halves.broker, halves.other) {
        (Some(broker), Other::Hardware(half)) => {
            first.copy_from_slice(broker);
            second.copy_from_slice(half);
            (64, BOTH)
        }
        (Some(broker), Other::Carried(half)) => {
            first.copy_from_slice(broker);
            second.copy_from_slice(half);
            (64, CARRIED)
        }
        (Some(half), Other::None) => {
            first.copy_from_slice(half);
            (32, BROKER)
        }
        (None, Other::Hardware(half)) => {
            first.copy_from_slice(half);
            (32, HARDWARE)
        }
        (None, Other::None | Other::Carried(_)) => return None,
    };
    let mut key = Zeroizing::new([0; 32]);
    let hkdf = Hkdf::<Sha384>::new(Some(&machine.0), material.get(..length)?);
    // RFC 5869 refuses only more than 255 times 48 bytes.
    hkdf.expand(information, &mut *key).ok()?;
    Some(StateKey::take(&mut key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::unlock::tests::key_id;

    const MACHINE: MachineId = MachineId([1; 32]);

    fn id(machine: u8, broker: Option<u8>, hardware: Option<u8>) -> [u8; 16] {
        let (broker, hardware) = (broker.map(|b| [b; 32]), hardware.map(|b| [b; 32]));
        let halves = Halves {
            broker: broker.as_ref(),
            other: hardware.as_ref().map_or(Other::None, Other::Hardware),
        };
        key_id(state_key(&MachineId([machine; 32]), &halves).unwrap())
    }

    #[test]
    fn each_choice_of_halves_and_each_half_has_its_own_key() {
        let keys = [
            id(1, Some(5), None),
            id(1, None, Some(5)),
            id(1, Some(5), Some(5)),
            id(1, Some(5), Some(6)),
            id(1, Some(6), Some(5)),
            id(1, Some(6), None),
            id(2, Some(5), None),
        ];
        for (number, key) in keys.iter().enumerate() {
            assert!(!keys[..number].contains(key), "{number}");
        }
        assert_eq!(id(1, Some(5), Some(6)), keys[3]);
        let carried = Halves {
            broker: Some(&[5; 32]),
            other: Other::Carried(&[6; 32]),
        };
        let carried = key_id(state_key(&MachineId([1; 32]), &carried).unwrap());
        assert!(!keys.contains(&carried));
    }

    #[test]
    fn without_a_half_there_is_no_key() {
        for other in [Other::None, Other::Carried(&[6; 32])] {
            let none = Halves {
                broker: None,
                other,
            };
            assert!(state_key(&MACHINE, &none).is_none());
        }
    }

    #[test]
    fn the_salt_is_the_machines() {
        assert_ne!(salt(&MACHINE), salt(&MachineId([2; 32])));
    }
}
