//! The bounds of sizes, in bytes. What is larger is refused before it is decoded.

/// A body that the broker answers with, and one of a request other than that of attestation.
pub const BODY: usize = 64 * 1024;
/// A body of `/kbs/v0/attest`: quote and event log in base64. L1's log has at most 256 KiB.
pub const ATTEST_BODY: usize = 1024 * 1024;
/// A nonce as text. Trustee's have 44 characters, base64 of 32 bytes.
pub const NONCE: usize = 128;
/// A session's identifier as text, that of the cookie and that of the ledger. Trustee's have 32 characters.
pub const SESSION: usize = 64;
/// The plaintext of a JWE: a resource.
pub const RESOURCE: usize = 16 * 1024;
/// The protected header of a JWE or JWS, in base64url.
pub const PROTECTED: usize = 1024;
/// A policy's name, an error's name.
pub const NAME: usize = 128;
/// An explanation for people.
pub const TEXT: usize = 1024;
