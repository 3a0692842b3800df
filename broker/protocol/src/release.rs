//! What the broker releases: the machine's key, and the session of this start.

use crate::encoding::{array_from_url, url, within};
use crate::jwk::{TeePubKey, Thumbprint};
use crate::jws::{self, Identity, IdentityKey, Type};
use crate::{Error, MachineId, limits};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// 32 secret bytes; base64url in texts. Erased when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(url(&self.0)))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowed;
        impl<'de> Visitor<'de> for Borrowed {
            type Value = Secret;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("32 bytes in base64url, without escapes")
            }

            // A text with escapes would be put together in memory that nobody erases.
            fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<Secret, E> {
                array_from_url(text, "key").map(Secret).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Borrowed)
    }
}

/// A session of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Its name in requests.
    pub id: String,
    /// What requests and answers are authenticated with.
    pub key: Secret,
}

/// An order of the operator's while L1 is updated: another L1 has another hardware half, so the state passes from the one
/// to the other under a key of the broker's alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carry {
    /// What stands for the hardware's half meanwhile: of this machine and this update.
    pub key: Secret,
    /// What this L1 does with the state.
    pub seal: CarrySeal,
}

/// What an L1 seals the state with while it is updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CarrySeal {
    /// With the key of the update: this is the L1 that gives the state away.
    Carry,
    /// With its own hardware half: this is the L1 that takes it.
    Own,
}

/// What the broker signs. A resource that the owner signed once, for a KBS that keeps it, has the first two members alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Whose key it is.
    pub machine: MachineId,
    /// The broker's half of the state's key.
    pub key: Secret,
    /// Of the KBS session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// Thumbprint of L1's key, base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tee: Option<String>,
    /// Of the ledger, if one is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// Whether a ledger is kept for the machine.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub ledger: bool,
    /// The policy that the evidence passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// An update of L1 is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carry: Option<Carry>,
}

/// How a release must be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding<'a> {
    /// To this start: the nonce of its session and its key.
    Start {
        /// The challenge's.
        nonce: &'a str,
        /// L1's key.
        tee: &'a TeePubKey,
    },
    /// To the machine alone, or to this start where it says so: for a KBS that knows nothing of the format. Replaying it
    /// gives the same key again, so that it is for machines without a ledger.
    Machine {
        /// The challenge's.
        nonce: &'a str,
        /// L1's key.
        tee: &'a TeePubKey,
    },
}

impl Release {
    /// Signs it: what is encrypted to L1.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn sign(&self, key: &IdentityKey) -> Result<Zeroizing<String>, Error> {
        let json = serde_json::to_vec(self).map_err(|_| Error::Malformed("release"))?;
        jws::sign(key, Type::Release, &Zeroizing::new(json))
    }

    /// What `identity` released, if it is for `machine` and bound as it must be.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(
        jws: &[u8],
        identity: &Identity,
        machine: &MachineId,
        binding: Binding<'_>,
    ) -> Result<Self, Error> {
        let payload: Zeroizing<Vec<u8>> = jws::verify(jws, identity, Type::Release)?;
        let release: Release =
            serde_json::from_slice(&payload).map_err(|_| Error::Malformed("release"))?;
        release.check(machine, binding)?;
        Ok(release)
    }

    /// Whether it is for `machine` and bound as it must be.
    ///
    /// # Errors
    /// [`Error::OtherMachine`], [`Error::Unbound`], [`Error::OtherNonce`], [`Error::OtherTeeKey`], [`Error::TooLong`].
    pub fn check(&self, machine: &MachineId, binding: Binding<'_>) -> Result<(), Error> {
        if self.machine != *machine {
            return Err(Error::OtherMachine);
        }
        let (nonce, tee) = match binding {
            Binding::Start { nonce, tee } => (nonce, tee),
            Binding::Machine { nonce, tee } => match (&self.nonce, &self.tee, &self.session) {
                (None, None, None) if !self.ledger && self.carry.is_none() => return Ok(()),
                _ => (nonce, tee),
            },
        };
        let (Some(own), Some(thumbprint)) = (&self.nonce, &self.tee) else {
            return Err(Error::Unbound);
        };
        if own != nonce {
            return Err(Error::OtherNonce);
        }
        let thumbprint: Thumbprint = array_from_url(thumbprint, "thumbprint")?;
        if thumbprint != tee.thumbprint() {
            return Err(Error::OtherTeeKey);
        }
        if self.ledger != self.session.is_some() {
            return Err(Error::Malformed("release"));
        }
        if let Some(session) = &self.session {
            within(session.id.len(), limits::SESSION, "session")?;
        }
        if let Some(policy) = &self.policy {
            within(policy.len(), limits::NAME, "policy's name")?;
        }
        Ok(())
    }
}

/// A thumbprint as [`Release::tee`] has it.
pub fn thumbprint_text(thumbprint: &Thumbprint) -> String {
    url(thumbprint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwk::TeeKey;
    use alloc::string::ToString;

    const MACHINE: MachineId = MachineId([1; 32]);

    fn tee(byte: u8) -> TeePubKey {
        TeeKey::from_random(&Zeroizing::new([byte; 32]))
            .unwrap()
            .public()
    }

    fn broker(byte: u8) -> IdentityKey {
        IdentityKey::from_random(&Zeroizing::new([byte; 32])).unwrap()
    }

    fn release() -> Release {
        Release {
            machine: MACHINE,
            key: Secret([2; 32]),
            nonce: Some("n".into()),
            tee: Some(thumbprint_text(&tee(3).thumbprint())),
            session: Some(Session {
                id: "s".into(),
                key: Secret([4; 32]),
            }),
            ledger: true,
            policy: Some("production".into()),
            carry: None,
        }
    }

    fn open(release: &Release, strict: bool) -> Result<Release, Error> {
        let jws = release.sign(&broker(5)).unwrap();
        let (nonce, tee) = ("n", &tee(3));
        let binding = match strict {
            true => Binding::Start { nonce, tee },
            false => Binding::Machine { nonce, tee },
        };
        Release::open(jws.as_bytes(), &broker(5).identity(), &MACHINE, binding)
    }

    #[test]
    fn a_release_is_read_as_it_was_signed() {
        assert_eq!(open(&release(), true).unwrap(), release());
        assert_eq!(open(&release(), false).unwrap(), release());
        assert_eq!(alloc::format!("{:?}", release().key), "Secret(..)");
    }

    #[test]
    fn a_release_for_another_start_is_refused_by_name() {
        type Lie = (fn(&mut Release), Error);
        let lies: [Lie; 7] = [
            (|r| r.machine = MachineId([9; 32]), Error::OtherMachine),
            (|r| r.nonce = Some("m".into()), Error::OtherNonce),
            (|r| r.nonce = None, Error::Unbound),
            (|r| r.tee = None, Error::Unbound),
            (
                |r| r.tee = Some(thumbprint_text(&tee(4).thumbprint())),
                Error::OtherTeeKey,
            ),
            (|r| r.tee = Some("x".into()), Error::Encoding("thumbprint")),
            (|r| r.session = None, Error::Malformed("release")),
        ];
        for (lie, error) in lies {
            let mut release = release();
            lie(&mut release);
            // A release that says anything of a start is held to it, also where none need be said.
            assert_eq!(open(&release, true).unwrap_err(), error);
            assert_eq!(open(&release, false).unwrap_err(), error);
        }
    }

    #[test]
    fn an_owners_resource_is_for_machines_without_a_ledger_alone() {
        let stored = Release {
            nonce: None,
            tee: None,
            session: None,
            ledger: false,
            ..release()
        };
        assert_eq!(open(&stored, true).unwrap_err(), Error::Unbound);
        assert_eq!(open(&stored, false).unwrap(), stored);
        let ledger = Release {
            ledger: true,
            ..stored
        };
        assert_eq!(open(&ledger, false).unwrap_err(), Error::Unbound);
    }

    /// What is replayed for ever must not say for ever that the hardware's half is to be left out.
    #[test]
    fn an_order_to_carry_a_state_is_for_one_start() {
        for seal in [CarrySeal::Carry, CarrySeal::Own] {
            let key = Secret([6; 32]);
            let carried = Release {
                carry: Some(Carry { key, seal }),
                ..release()
            };
            assert_eq!(open(&carried, true).unwrap(), carried);
            let stored = Release {
                nonce: None,
                tee: None,
                session: None,
                ledger: false,
                ..carried
            };
            assert_eq!(open(&stored, true).unwrap_err(), Error::Unbound);
            assert_eq!(open(&stored, false).unwrap_err(), Error::Unbound);
        }
    }

    #[test]
    fn another_broker_gets_nowhere() {
        let jws = release().sign(&broker(6)).unwrap();
        let (nonce, tee) = ("n", &tee(3));
        let binding = Binding::Start { nonce, tee };
        let refused = Release::open(jws.as_bytes(), &broker(5).identity(), &MACHINE, binding);
        assert_eq!(refused.unwrap_err(), Error::Signature);
    }

    #[test]
    fn a_key_with_escapes_is_refused() {
        let json = serde_json::to_string(&release()).unwrap();
        let key = url(&[2; 32]);
        let escaped = json.replace(&key, &key.replacen('A', "\\u0041", 1));
        assert_ne!(json, escaped);
        assert!(serde_json::from_str::<Release>(&escaped).is_err());
        assert!(json.contains(&MACHINE.to_string()));
    }
}
