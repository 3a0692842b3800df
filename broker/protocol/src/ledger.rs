//! Openings and commits of a machine's state, as L1 and the broker's ledger say them.
//!
//! A request is `POST`ed to [`PATH`] with its code in the header [`MAC_HEADER`]; the answer has its own, over the answer
//! and the request's code: an answer is to exactly one request. Sequence numbers begin with 1, and each new request has
//! the next; the same one again is the same request again, byte for byte, and is answered the same.

use crate::encoding::{array_from_hex, from_json, within};
use crate::release::Secret;
use crate::{Error, MachineId, limits};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Sha256;

/// Where requests go.
pub const PATH: &str = "/tdp-vtpm/v0/ledger";
/// The header with the message authentication code, 64 lower-case hexadecimal digits, in requests and answers.
pub const MAC_HEADER: &str = "tdp-vtpm-mac";

/// SHA-384 of a slot of the state disk; lower-case hexadecimal in texts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotDigest(pub [u8; 48]);

impl fmt::Display for SlotDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SlotDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for SlotDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SlotDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        array_from_hex(&text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("a digest is 96 lower-case hexadecimal digits"))
    }
}

/// A state of the machine that was, or may have been, committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// The epoch that wrote it.
    pub epoch: u64,
    /// From 1, one more than the commit before.
    pub counter: u64,
    /// Of its slot.
    pub digest: SlotDigest,
}

/// What the header of a slot on the disk says. It is the host's word until the slot is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// Whose state it is.
    pub machine: MachineId,
    /// The epoch that wrote it.
    pub epoch: u64,
    /// Its counter.
    pub counter: u64,
    /// Of the slot as it is.
    pub digest: SlotDigest,
}

impl Slot {
    /// Whether it is the state of `machine` that `commit` is of.
    pub fn is(&self, machine: &MachineId, commit: &Commit) -> bool {
        self.machine == *machine
            && (self.epoch, self.counter, self.digest)
                == (commit.epoch, commit.counter, commit.digest)
    }
}

/// What is on the state disk: the slots that have a header.
pub type Disk = [Option<Slot>; 2];

/// What L1 asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// A lease: a new epoch, which ends all earlier ones.
    Open {
        /// What there is to open; `None` where L1 looks only after it has the lease. The ledger then ends the lease of an
        /// older life before anybody knows whether the disk can be opened.
        disk: Option<Disk>,
    },
    /// This slot is on the disk, and is not the latest state yet. Optional: nothing needs it.
    Prepare(Commit),
    /// This slot is on the disk and is the latest state from now on.
    Commit(Commit),
    /// L1 refused what it found, for the audit trail.
    Refused {
        /// The error's name.
        error: String,
        /// For people.
        detail: String,
    },
}

/// What the ledger answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// A lease.
    Granted(Grant),
    /// Noted as prepared.
    Prepared {},
    /// It is the latest state.
    Committed {},
    /// Noted in the audit trail.
    Noted {},
    /// No.
    Refused(Refused),
}

/// A lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// In every later request, and in the header of every slot that is written.
    pub epoch: u64,
    /// The last commit that was acknowledged; none for a machine without a state.
    pub latest: Option<Commit>,
    /// One that was prepared after it. Where it is on the disk it is what is opened, else the latest.
    pub pending: Option<Commit>,
}

impl Grant {
    /// The counter of the next commit; `None` after 2^64 - 1 of them.
    pub fn next_counter(&self) -> Option<u64> {
        self.latest
            .map_or(0, |latest| latest.counter)
            .checked_add(1)
    }
}

/// Why the ledger refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// The refusal's name, for programs: see `docs/broker.md`.
    pub name: String,
    /// For people.
    pub text: String,
}

/// The name of the refusal that says that a later life of the machine has the lease.
pub const FENCED: &str = "fenced";

/// A request with its session and number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// The session's name, from the release.
    pub session: String,
    /// From 1, one more than the request before.
    pub sequence: u64,
    /// What is asked.
    pub request: Request,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerEnvelope {
    sequence: u64,
    answer: Answer,
}

/// A message authentication code: HMAC-SHA-256 under the session's key.
pub type Code = [u8; 32];

/// A message as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The body.
    pub body: Vec<u8>,
    /// The value of [`MAC_HEADER`], in hexadecimal ([`code_text`]).
    pub code: Code,
}

/// A code as the header has it.
pub fn code_text(code: &Code) -> String {
    hex::encode(code)
}

/// A code from the header.
///
/// # Errors
/// [`Error::Mac`].
pub fn code_from_text(text: &str) -> Result<Code, Error> {
    array_from_hex(text).ok_or(Error::Mac)
}

fn request_mac(key: &Secret, body: &[u8]) -> Hmac<Sha256> {
    keyed(key).chain_update(b"request\0").chain_update(body)
}

fn answer_mac(key: &Secret, request: &Code, body: &[u8]) -> Hmac<Sha256> {
    keyed(key)
        .chain_update(b"answer\0")
        .chain_update(request)
        .chain_update(body)
}

fn keyed(key: &Secret) -> Hmac<Sha256> {
    let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
    for (to, from) in block.iter_mut().zip(key.0) {
        *to = from;
    }
    // HMAC fills a key up with zeros to the hash's block, so that the block is the key (RFC 2104).
    let mac = Hmac::new(&block);
    zeroize::Zeroize::zeroize(block.as_mut_slice());
    mac
}

/// L1's request as it is sent.
///
/// # Errors
/// [`Error::TooLong`] for texts beyond [`limits`].
pub fn seal_request(key: &Secret, envelope: &Envelope) -> Result<Sealed, Error> {
    check_request(envelope)?;
    let body = serde_json::to_vec(envelope).map_err(|_| Error::Malformed("request"))?;
    let code = request_mac(key, &body).finalize().into_bytes().into();
    Ok(Sealed { body, code })
}

/// Reads which session a request is said to be of. Nothing of it is known to be true before [`open_request`].
///
/// # Errors
/// [`Error::Malformed`], [`Error::TooLong`].
pub fn unchecked_request(body: &[u8]) -> Result<Envelope, Error> {
    let envelope: Envelope = from_json(body, limits::BODY, "request")?;
    check_request(&envelope)?;
    Ok(envelope)
}

fn check_request(envelope: &Envelope) -> Result<(), Error> {
    within(envelope.session.len(), limits::SESSION, "session")?;
    match &envelope.request {
        Request::Refused { error, detail } => {
            within(error.len(), limits::NAME, "error's name")?;
            within(detail.len(), limits::TEXT, "error's text")
        }
        _ => Ok(()),
    }
}

/// Whether `code` is the session's for this body; compared in constant time.
///
/// # Errors
/// [`Error::Mac`].
pub fn open_request(key: &Secret, body: &[u8], code: &Code) -> Result<(), Error> {
    request_mac(key, body)
        .verify(code.into())
        .map_err(|_| Error::Mac)
}

/// The broker's answer, to the request with this code and number, as it is sent.
///
/// # Errors
/// [`Error::Malformed`].
pub fn seal_answer(
    key: &Secret,
    request: &Code,
    sequence: u64,
    answer: &Answer,
) -> Result<Sealed, Error> {
    let envelope = AnswerEnvelope {
        sequence,
        answer: answer.clone(),
    };
    let body = serde_json::to_vec(&envelope).map_err(|_| Error::Malformed("answer"))?;
    let code = answer_mac(key, request, &body)
        .finalize()
        .into_bytes()
        .into();
    Ok(Sealed { body, code })
}

/// The broker's answer to `request`, which had this number.
///
/// # Errors
/// [`Error::Mac`], [`Error::Sequence`], [`Error::Malformed`], [`Error::TooLong`]: it is no answer, and L1 may ask again.
pub fn open_answer(
    key: &Secret,
    request: &Sealed,
    sequence: u64,
    body: &[u8],
    code: &Code,
) -> Result<Answer, Error> {
    within(body.len(), limits::BODY, "answer")?;
    answer_mac(key, &request.code, body)
        .verify(code.into())
        .map_err(|_| Error::Mac)?;
    let envelope: AnswerEnvelope = from_json(body, limits::BODY, "answer")?;
    match envelope.sequence == sequence {
        true => Ok(envelope.answer),
        false => Err(Error::Sequence),
    }
}

#[cfg(test)]
mod tests;
