//! Why the state was not unlocked.

use super::{HardwareTcb, SealingError};
use broker_client::kbs::KbsError;
use state_store::OpenError;

/// Why the state was not unlocked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnlockError {
    /// No TDREPORT.
    #[error("the TDX module made no TDREPORT")]
    NoReport,
    /// The configuration is not the one that the TD's report names.
    #[error("the init-data document is not that of the TD's MRCONFIGID")]
    OtherConfiguration,
    /// The host has no disk for the state.
    #[error("the host gives no state disk")]
    NoDisk,
    /// The host has no channel to the broker.
    #[error("the host gives no channel to the key broker")]
    NoChannel,
    /// The configured identity of the broker is no key.
    #[error("the broker's key in the init-data document: {0}")]
    BrokerKey(broker_protocol::Error),
    /// The broker released nothing.
    #[error("the key broker: {0}")]
    Broker(#[from] KbsError),
    /// The broker has no ledger for the machine, and the configuration wants one.
    #[error(
        "the key broker keeps no ledger for this machine: enrol it with one, or take `rollback = \"none\"`"
    )]
    NoLedger,
    /// The TDX module gives no half.
    #[error("the hardware's half of the key: {0}")]
    Sealing(#[from] SealingError),
    /// The state is sealed to a TCB that the platform does not have: it was on a newer platform, or this one went back.
    #[error(
        "the state is sealed to a newer TCB than this platform has ({0}): start the machine on a platform that is up to \
         date"
    )]
    NewerTcb(HardwareTcb),
    /// No half of a key.
    #[error("there is no half of a key")]
    NoHalf,
    /// The state cannot be opened.
    #[error("{0}")]
    Open(#[from] OpenError),
}

impl UnlockError {
    /// Its name in logs and records.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoReport => "no-report",
            Self::OtherConfiguration => "other-configuration",
            Self::NoDisk => "no-disk",
            Self::NoChannel => "no-channel",
            Self::BrokerKey(_) => "broker-key",
            Self::Broker(error) => error.name(),
            Self::NoLedger => "no-ledger",
            Self::Sealing(_) => "no-sealing-key",
            Self::NewerTcb(_) => "newer-tcb",
            Self::NoHalf => "no-key",
            Self::Open(error) => error.name(),
        }
    }
}
