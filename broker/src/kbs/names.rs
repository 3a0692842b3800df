//! Names of sessions, and their nonces: nothing is kept of a session that only has its challenge.
//!
//! A name is the time (16 hexadecimal digits), a random number (32), and a code of both (16) under a key that follows from
//! the operator's. The nonce is another code of the same. So every process of a broker knows its sessions, also after a
//! restart, and who begins many costs no memory.

use crate::now;
use crate::random;
use crate::refused::Refused;
use broker_protocol::kbs::Challenge;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// How long a session lives, in seconds.
pub const SESSION_SECONDS: u64 = 300;
/// How far ahead the clock of the process may be that gave a name, in seconds.
const AHEAD_SECONDS: u64 = 30;
/// Digits of the time.
const TIME: usize = 16;
/// Digits of time and random number.
const SEED: usize = 48;
/// Bytes of the code in a name. Who guesses one has a session with a nonce that nobody else has, which is what everybody
/// gets who asks for one.
const CODE: usize = 8;

/// Gives names, and knows them again.
pub(crate) struct Names(Zeroizing<[u8; 32]>);

impl Names {
    pub(crate) fn new(secret: Zeroizing<[u8; 32]>) -> Self {
        Self(secret)
    }

    /// A new name.
    pub(crate) fn give(&self) -> Result<String, Refused> {
        self.give_at(now())
    }

    fn give_at(&self, time: u64) -> Result<String, Refused> {
        let random = random::bytes::<16>()?;
        let seed = format!("{time:016x}{}", hex::encode(*random));
        let code = self.name_code(&seed);
        Ok(seed + &code)
    }

    fn name_code(&self, seed: &str) -> String {
        let code = self.code("name", seed);
        hex::encode(code.get(..CODE).unwrap_or_default())
    }

    /// The nonce of a session as it is in its challenge.
    pub(crate) fn nonce(&self, name: &str) -> Result<String, Refused> {
        let challenge = Challenge::to_json(&self.nonce_bytes(name)?);
        Ok(Challenge::from_json(&challenge)?.nonce)
    }

    /// The nonce of a session, if this broker gave it, and not too long ago.
    pub(crate) fn nonce_bytes(&self, name: &str) -> Result<[u8; 32], Refused> {
        let (seed, code) = name.split_at_checked(SEED).ok_or(Refused::NoSession)?;
        if code != self.name_code(seed) {
            return Err(Refused::NoSession);
        }
        let time = seed
            .get(..TIME)
            .and_then(|time| u64::from_str_radix(time, 16).ok());
        let age = time.and_then(|time| (now() + AHEAD_SECONDS).checked_sub(time));
        match age.map(|age| age.saturating_sub(AHEAD_SECONDS)) {
            Some(0..=SESSION_SECONDS) => Ok(self.code("nonce", seed)),
            _ => Err(Refused::NoSession),
        }
    }

    fn code(&self, purpose: &str, seed: &str) -> [u8; 32] {
        let mac = Hmac::<Sha256>::new_from_slice(&*self.0);
        // HMAC takes keys of every length.
        mac.map_or([0; 32], |mac| {
            mac.chain_update(purpose)
                .chain_update(b"\0")
                .chain_update(seed)
                .finalize()
                .into_bytes()
                .into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_again_for_a_while_and_no_other_is() {
        let names = Names::new(Zeroizing::new([1; 32]));
        let name = names.give().unwrap();
        assert_eq!(name.len(), broker_protocol::limits::SESSION);
        assert_eq!(names.nonce(&name).unwrap(), names.nonce(&name).unwrap());
        assert_ne!(
            names.nonce(&name).unwrap(),
            names.nonce(&names.give().unwrap()).unwrap()
        );
        let old = names.give_at(now() - SESSION_SECONDS - 1).unwrap();
        let ahead = names.give_at(now() + AHEAD_SECONDS / 2).unwrap();
        assert!(names.nonce(&ahead).is_ok());
        let future = names.give_at(now() + 60).unwrap();
        for lie in ["", "é", &name[..63], &old, &future] {
            assert!(names.nonce(lie).is_err(), "{lie}");
        }
        for at in 0..name.len() {
            let mut bytes = name.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            assert!(names.nonce(&String::from_utf8(bytes).unwrap()).is_err());
        }
        let other = Names::new(Zeroizing::new([2; 32]));
        assert!(other.nonce(&name).is_err());
    }
}
