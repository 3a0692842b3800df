//! Why a machine gets nothing, and how the answer says so.

use crate::seal::SealError;
use crate::store::StoreError;
use broker_ledger::Refusal;
use broker_protocol::MachineId;
use init_data::InitDataError;

/// Why a request of a machine is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Not a message of the protocol.
    #[error("{0}")]
    Message(#[from] broker_protocol::Error),
    /// Another version of the protocol.
    #[error("protocol version mismatch: expect =0.4.0 while the request is {0}")]
    Version(String),
    /// Another kind of TEE.
    #[error("evidence of {0:?} is not known here: this broker serves TDX alone")]
    Tee(String),
    /// No cookie, or one that this broker did not give, or an old one.
    #[error("no session: begin one at /kbs/v0/auth")]
    NoSession,
    /// The session's nonce was used already.
    #[error("evidence of this session has passed already: begin another at /kbs/v0/auth")]
    UsedSession,
    /// The evidence is for another nonce than the session's.
    #[error("the nonce is not that of the session")]
    OtherNonce,
    /// There is no init-data.
    #[error("there is no init-data document: whose key is asked for cannot be told")]
    NoInitData,
    /// The init-data is none of ours.
    #[error("{0}")]
    InitData(#[from] InitDataError),
    /// The init-data wants no broker.
    #[error("the init-data document wants no key of a broker")]
    NoBroker,
    /// The init-data names another broker.
    #[error("the init-data document names another broker's key")]
    OtherBroker,
    /// The init-data says of `rollback`, `key` or `state` something else than the machine was enrolled with.
    #[error(
        "the init-data document has {member} = {asked:?}, and the machine is enrolled with {enrolled:?}"
    )]
    OtherConfiguration {
        /// Of what.
        member: &'static str,
        /// The document's.
        asked: &'static str,
        /// The machine's.
        enrolled: &'static str,
    },
    /// Nobody knows the machine.
    #[error("machine {0} is not enrolled")]
    UnknownMachine(MachineId),
    /// See [`Refusal`].
    #[error("{0}")]
    Ledger(#[from] Refusal),
    /// No policy is allowed for the machine.
    #[error("no policy is allowed for the machine")]
    NoPolicy,
    /// The evidence passes none of the policies.
    #[error("the evidence does not pass: {check}: {sentence}")]
    Evidence {
        /// The first check that failed, by the policy that was allowed last.
        check: &'static str,
        /// What it says.
        sentence: String,
    },
    /// A session asks for another machine's key.
    #[error("this session's evidence is of another machine")]
    OtherMachine,
    /// No such resource.
    #[error("there is no such resource")]
    NoResource,
    /// The session of the ledger is not known, or its code does not hold.
    #[error("the request is of no session of this ledger")]
    NotAuthentic,
    /// See [`StoreError`].
    #[error("{0}")]
    Store(#[from] StoreError),
    /// See [`SealError`].
    #[error("{0}")]
    Seal(#[from] SealError),
    /// See `random::NoRandom`.
    #[error("{0}")]
    Random(#[from] crate::random::NoRandom),
    /// Too much to do.
    #[error("the broker has too much to do")]
    Busy,
}

/// How KBS calls an error: the part of its type behind the last `/`, and the status of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The error's type.
    pub name: &'static str,
    /// The status.
    pub status: u16,
}

impl Refused {
    /// Its name in logs, metrics and the audit trail.
    pub fn name(&self) -> &'static str {
        match self {
            Refused::Message(error) => error.name(),
            Refused::Version(_) => "version",
            Refused::Tee(_) => "tee",
            Refused::NoSession => "no-session",
            Refused::UsedSession => "used-session",
            Refused::OtherNonce => "other-nonce",
            Refused::NoInitData => "no-init-data",
            Refused::InitData(_) => "init-data",
            Refused::NoBroker => "no-broker",
            Refused::OtherBroker => "other-broker",
            Refused::OtherConfiguration { member, .. } => match *member {
                "key" => "other-key",
                "state" => "other-state",
                _ => "other-rollback",
            },
            Refused::UnknownMachine(_) => "unknown-machine",
            Refused::Ledger(refusal) => refusal.name(),
            Refused::NoPolicy => "no-policy",
            Refused::Evidence { check, .. } => check,
            Refused::OtherMachine => "other-machine",
            Refused::NoResource => "no-resource",
            Refused::NotAuthentic => "not-authentic",
            Refused::Store(_) => "store",
            Refused::Seal(_) => "seal",
            Refused::Random(_) => "random",
            Refused::Busy => "busy",
        }
    }

    /// How KBS calls it.
    pub fn kind(&self) -> Kind {
        let kind = |name, status| Kind { name, status };
        match self {
            Refused::Message(_) | Refused::InitData(_) => kind("SerdeError", 401),
            Refused::Version(_)
            | Refused::Tee(_)
            | Refused::OtherNonce
            | Refused::NoInitData
            | Refused::Evidence { .. } => kind("AttestationError", 401),
            Refused::NoSession | Refused::UsedSession => kind("TokenNotFound", 401),
            Refused::NoBroker
            | Refused::OtherBroker
            | Refused::OtherConfiguration { .. }
            | Refused::UnknownMachine(_)
            | Refused::Ledger(_)
            | Refused::NoPolicy
            | Refused::OtherMachine => kind("PolicyDeny", 401),
            Refused::NoResource => kind("PluginNotFound", 404),
            Refused::NotAuthentic => kind("TokenVerifierError", 401),
            // Not a refusal: it may work a moment later.
            Refused::Store(_) | Refused::Seal(_) | Refused::Random(_) | Refused::Busy => {
                kind("PluginInternalError", 503)
            }
        }
    }
}
