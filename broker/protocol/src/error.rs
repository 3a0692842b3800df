//! Why a message is refused.

/// What is wrong with a message, or with what it is about. None is mended by reading the same message again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Longer than [`limits`](crate::limits) allows.
    #[error("the {0} is longer than allowed")]
    TooLong(&'static str),
    /// Not the JSON that the protocol has at this place: syntax, a missing or an unknown member, a wrong type.
    #[error("the {0} is not as the protocol has it")]
    Malformed(&'static str),
    /// Not base64 in the alphabet of its place, or of another length.
    #[error("the {0} is not base64 of the right length")]
    Encoding(&'static str),
    /// A key of another type, curve or purpose.
    #[error("the key is no P-256 key for this purpose")]
    KeyType,
    /// The point is not on the curve, or no key.
    #[error("the key is no point of P-256")]
    NoPoint,
    /// Another algorithm than the protocol's.
    #[error("the {0} has another algorithm")]
    Algorithm(&'static str),
    /// A JWE with associated data of its own, which the protocol has not.
    #[error("the JWE has additional authenticated data")]
    AdditionalData,
    /// The content key is not wrapped for this key.
    #[error("the JWE is for another key")]
    OtherRecipient,
    /// The authentication tag does not hold.
    #[error("the JWE was altered")]
    Altered,
    /// The signature is not the broker's.
    #[error("the signature is not of the broker whose key is expected")]
    Signature,
    /// What was released is another machine's.
    #[error("the key is released to another machine")]
    OtherMachine,
    /// What was released is for another nonce: an earlier start's.
    #[error("the release answers another nonce")]
    OtherNonce,
    /// What was released is for another key of L1.
    #[error("the release is for another key of the TEE")]
    OtherTeeKey,
    /// What was released is bound to no start, and this machine's policy wants one.
    #[error("the release is not bound to this start")]
    Unbound,
    /// The message authentication code does not hold.
    #[error("the message is not of this session")]
    Mac,
    /// The answer has another sequence number than the request.
    #[error("the answer has another sequence number")]
    Sequence,
}

impl Error {
    /// Its name in logs and records.
    pub fn name(self) -> &'static str {
        match self {
            Error::TooLong(_) => "too-long",
            Error::Malformed(_) => "malformed",
            Error::Encoding(_) => "encoding",
            Error::KeyType => "key-type",
            Error::NoPoint => "no-point",
            Error::Algorithm(_) => "algorithm",
            Error::AdditionalData => "additional-data",
            Error::OtherRecipient => "other-recipient",
            Error::Altered => "altered",
            Error::Signature => "signature",
            Error::OtherMachine => "other-machine",
            Error::OtherNonce => "other-nonce",
            Error::OtherTeeKey => "other-tee-key",
            Error::Unbound => "unbound",
            Error::Mac => "mac",
            Error::Sequence => "sequence",
        }
    }
}
