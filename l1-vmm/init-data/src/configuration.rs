//! What L1 is to do.

use crate::hexadecimal;
use alloc::format;
use alloc::string::String;
use attestation::journal::PcrMirror;
use attestation::pcr::PcrBanks;
use core::fmt;

/// All of our section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// The TPM state that outlives the TD; none for a TPM that is new at every start.
    pub state: Option<PersistentState>,
    /// `pcr-banks`: the TPM's PCR banks, if the document chooses.
    pub banks: Option<PcrBanks>,
    /// `pcr-mirror`: how PCRs are mirrored in the TD's registers, if the document chooses.
    pub mirror: Option<PcrMirror>,
}

/// Whose state is opened, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersistentState {
    /// `machine`: whose state it is.
    pub machine: Machine,
    /// `state`: what is done where it cannot be opened.
    pub otherwise: Otherwise,
    /// `key` and the table `broker`: where the halves of its key come from.
    pub key: KeySource,
    /// `rollback`: what an older state is found out by.
    pub rollback: Rollback,
}

/// The identity of a machine across its starts: 32 bytes that its owner drew.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Machine(pub [u8; 32]);

impl Machine {
    /// From 64 lower-case hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        hexadecimal::read(text).map(Self)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal::write(&self.0, f)
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Machine({self})")
    }
}

/// What is done where the state cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// `require`: no guest is started.
    Refuse,
    /// `ephemeral`: the guest gets a new TPM, and the journal says so.
    Ephemeral,
}

impl Otherwise {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Refuse, Self::Ephemeral];

    /// As in a document.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refuse => "require",
            Self::Ephemeral => "ephemeral",
        }
    }
}

/// Where the halves of the state's key come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// `broker`: from a key broker alone.
    Broker(Broker),
    /// `hardware`: from TDG.MR.KEY.GET alone.
    Hardware,
    /// `both`: neither opens the state without the other.
    Both(Broker),
}

impl KeySource {
    /// As in a document.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Broker(_) => "broker",
            Self::Hardware => "hardware",
            Self::Both(_) => "both",
        }
    }

    /// The key broker, if one is asked.
    pub const fn broker(&self) -> Option<&Broker> {
        match self {
            Self::Broker(broker) | Self::Both(broker) => Some(broker),
            Self::Hardware => None,
        }
    }

    /// Whether TDG.MR.KEY.GET is asked.
    pub const fn uses_hardware(&self) -> bool {
        matches!(self, Self::Hardware | Self::Both(_))
    }
}

/// The key broker that is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// `key`: its identity, a point of P-256 in compressed form (SEC 1, section 2.3.3).
    ///
    /// Here it has the form of one; whether it lies on the curve, who uses it finds.
    pub key: [u8; 33],
    /// `resource`: where the key broker has the key, as repository, type and tag.
    pub resource: String,
}

impl Broker {
    /// The resource of a machine whose document names none.
    pub fn default_resource(machine: &Machine) -> String {
        format!("default/tdp-vtpm/{machine}")
    }
}

/// What an older state is found out by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rollback {
    /// `ledger`: the broker's ledger, before a command is answered.
    Ledger,
    /// `lazy`: the broker's ledger, after a command was answered.
    Lazy,
    /// `none`: by nothing.
    None,
}

impl Rollback {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Ledger, Self::Lazy, Self::None];

    /// As in a document.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Lazy => "lazy",
            Self::None => "none",
        }
    }
}
