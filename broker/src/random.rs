//! Random numbers of the operating system.

use broker_protocol::jwk::TeeKey;
use broker_protocol::jws::IdentityKey;
use zeroize::Zeroizing;

/// The operating system has no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no random numbers: {0}")]
pub struct NoRandom(#[from] getrandom::Error);

/// As many bytes as there are to be.
pub(crate) fn bytes<const N: usize>() -> Result<Zeroizing<[u8; N]>, NoRandom> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes)?;
    Ok(bytes)
}

/// A key pair for one message.
pub(crate) fn tee_key() -> Result<TeeKey, NoRandom> {
    loop {
        if let Some(key) = TeeKey::from_random(&bytes()?) {
            return Ok(key);
        }
    }
}

/// An identity.
pub(crate) fn identity_key() -> Result<IdentityKey, NoRandom> {
    loop {
        if let Some(key) = IdentityKey::from_random(&bytes()?) {
            return Ok(key);
        }
    }
}
