//! The journal in RTMR3: records of the vTPM's life.
//!
//! A record is one event of the CC event log and one extend. It is deterministically encoded CBOR
//! (RFC 8949, section 4.2) in a tagged event; the CDDL is in `docs/measurement.md`, section 4.

mod decode;
mod encode;
mod processors;
mod tagged;
#[cfg(test)]
mod tests;

pub use decode::RecordError;
pub use processors::Processors;
pub use tagged::{TAG, TaggedEventError, unwrap, wrap};

use crate::digest::Digest;
use crate::pcr::PcrBanks;
use crate::tpm::Name;
use alloc::string::String;
use alloc::vec::Vec;

/// The RTMR of the journal.
pub const RTMR: u8 = 3;
/// The version of every record type but `start`.
pub const VERSION: u8 = 1;
/// The version of `start` that L1 writes; [`VERSION`] is read as well, and tells no processors.
pub const START_VERSION: u8 = 2;

/// Whether the vTPM's permanent state outlives the TD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It does not: every boot is a new TPM.
    Ephemeral,
    /// It does.
    Persistent,
}

impl Mode {
    /// As in a record.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ephemeral => 0,
            Self::Persistent => 1,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Ephemeral),
            1 => Some(Self::Persistent),
            _ => None,
        }
    }
}

/// The registers that the TPM has in front of it (PTP 1.05, "Interface Identifier"), and whether it interrupts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TpmInterface {
    /// FIFO, which TIS drivers use.
    #[default]
    Fifo,
    /// The same with an interrupt.
    FifoInterrupt,
    /// Command response buffer, in a page of the guest's.
    Crb,
    /// The same with an interrupt.
    CrbInterrupt,
    /// Command response buffer that is behind the registers alone.
    CrbRegisters,
}

impl TpmInterface {
    /// As `start` and a policy file have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fifo => "PTP FIFO",
            Self::FifoInterrupt => "PTP FIFO, interrupt",
            Self::Crb => "PTP CRB",
            Self::CrbInterrupt => "PTP CRB, interrupt",
            Self::CrbRegisters => "PTP CRB, registers",
        }
    }

    /// As the host's option has it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::FifoInterrupt => "fifo-interrupt",
            Self::Crb => "crb",
            Self::CrbInterrupt => "crb-interrupt",
            Self::CrbRegisters => "crb-registers",
        }
    }

    /// The interface of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        [
            Self::Fifo,
            Self::FifoInterrupt,
            Self::Crb,
            Self::CrbInterrupt,
            Self::CrbRegisters,
        ]
        .into_iter()
        .find(|interface| interface.word() == word)
    }

    /// Whether it is a command response buffer, wherever that is.
    pub const fn is_crb(self) -> bool {
        matches!(self, Self::Crb | Self::CrbInterrupt | Self::CrbRegisters)
    }

    /// Whether its interrupt line is connected.
    pub const fn interrupts(self) -> bool {
        matches!(self, Self::FifoInterrupt | Self::CrbInterrupt)
    }
}

/// How changes of PCRs are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PcrMirror {
    /// Not at all.
    Off,
    /// One record before a report, if a PCR changed since the last.
    #[default]
    Summary,
    /// One record a change.
    Full,
}

impl PcrMirror {
    /// As in a record.
    pub const fn code(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::Summary => 1,
            Self::Full => 2,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Off),
            1 => Some(Self::Summary),
            2 => Some(Self::Full),
            _ => None,
        }
    }

    /// As the host's option and a policy file have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Summary => "summary",
            Self::Full => "full",
        }
    }

    /// The policy of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Off, Self::Summary, Self::Full]
            .into_iter()
            .find(|mirror| mirror.name() == name)
    }
}

/// Which secrets the key of the permanent state is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHalves {
    /// The broker's: whoever it releases it to.
    Broker,
    /// The TDX module's sealing key: this image on this machine.
    Hardware,
    /// Both of them.
    Both,
    /// The broker's, and in place of the hardware's another of the broker's, while L1 is updated.
    Carried,
}

impl KeyHalves {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Broker, Self::Hardware, Self::Both, Self::Carried];

    /// As in a record.
    pub const fn code(self) -> u8 {
        match self {
            Self::Broker => 1,
            Self::Hardware => 2,
            Self::Both => 3,
            Self::Carried => 4,
        }
    }

    /// As configuration and policy files have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Hardware => "hardware",
            Self::Both => "both",
            Self::Carried => "carried",
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|halves| halves.code() == code)
    }

    /// The halves of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|halves| halves.name() == name)
    }
}

/// What keeps an older state from being put in the place of the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rollback {
    /// Nothing does.
    None,
    /// The broker's ledger: every commit is acknowledged before the command is answered.
    Ledger,
    /// The broker's ledger, which may lack the last commits.
    Lazy,
}

impl Rollback {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::None, Self::Ledger, Self::Lazy];

    /// As in a record.
    pub const fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Ledger => 1,
            Self::Lazy => 2,
        }
    }

    /// As configuration and policy files have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Ledger => "ledger",
            Self::Lazy => "lazy",
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|rollback| rollback.code() == code)
    }

    /// The protection of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|rollback| rollback.name() == name)
    }
}

/// What unlocked the permanent state of a vTPM whose state outlives the TD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlock {
    /// Whose state it is.
    pub machine: [u8; 32],
    /// SHA-256 of the broker's public key (SEC 1, compressed point); none if there is no broker.
    pub broker: Option<[u8; 32]>,
    /// What its key is made of.
    pub key: KeyHalves,
    /// What protects it from being an older one.
    pub rollback: Rollback,
    /// Which opening of the state this is: of two that live at once, the higher one has it.
    pub epoch: u64,
    /// The commit that the TPM started from; 0 for a new TPM.
    pub counter: u64,
}

/// TPM_SU of TPM2_Startup and TPM2_Shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartupType {
    /// TPM_SU_CLEAR.
    Clear,
    /// TPM_SU_STATE.
    State,
}

impl StartupType {
    /// TPM_SU.
    pub const fn code(self) -> u16 {
        match self {
            Self::Clear => 0,
            Self::State => 1,
        }
    }

    /// The type of a TPM_SU.
    pub const fn from_code(code: u16) -> Option<Self> {
        match code {
            0 => Some(Self::Clear),
            1 => Some(Self::State),
            _ => None,
        }
    }
}

/// The vTPM as it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The engine and its version.
    pub engine: String,
    /// The register interface.
    pub interface: String,
    /// Whether its state outlives the TD.
    pub mode: Mode,
    /// How PCRs are mirrored.
    pub mirror: PcrMirror,
    /// Its PCR banks.
    pub banks: PcrBanks,
    /// SHA-384 of the permanent state it started from; none if it started from nothing.
    pub state: Option<[u8; 48]>,
    /// Names of the EKs: RSA-2048, P-256, P-384.
    pub eks: [Name; 3],
    /// Name of the AK.
    pub ak: Name,
    /// SHA-384 of the CA's SubjectPublicKeyInfo (DER).
    pub ca: [u8; 48],
    /// How many processors there are; a record of version 1 does not tell.
    pub processors: Option<Processors>,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record {
    /// The first record.
    Start(Start),
    /// TPM2_Startup.
    Startup(StartupType),
    /// _TPM_Init.
    Reset,
    /// TPM2_Shutdown.
    Shutdown(StartupType),
    /// TPM2_Clear.
    Clear,
    /// A command that changes a hierarchy or the platform's settings.
    Hierarchy {
        /// TPM_CC.
        command: u32,
        /// The authorization handle.
        handle: u32,
        /// The command's parameter area; empty where it is secret.
        parameters: Vec<u8>,
    },
    /// A platform-created NV index was defined or undefined.
    NvIndex {
        /// Or undefined.
        defined: bool,
        /// Its handle.
        index: u32,
        /// TPMA_NV.
        attributes: u32,
    },
    /// The permanent state was committed.
    NvCommit {
        /// SHA-384 of it.
        state: [u8; 48],
    },
    /// A PCR was extended, with these digests in this order.
    PcrExtend {
        /// Its index.
        pcr: u8,
        /// At most one of each bank, as the command had them.
        digests: Vec<Digest>,
    },
    /// A PCR was reset to zero in every bank.
    PcrReset {
        /// Its index.
        pcr: u8,
    },
    /// A PCR got a value that no extend or reset explains.
    PcrValue {
        /// Its index.
        pcr: u8,
        /// One of each bank.
        values: Vec<Digest>,
    },
    /// PCRs changed since the last such record.
    PcrSummary {
        /// Number of changes since the start.
        changes: u64,
        /// [`crate::claims::pcr_banks_digest`].
        banks: [u8; 32],
    },
    /// The log has no more room: the journal ends here.
    LogFull {
        /// Records before this one.
        records: u64,
    },
    /// The permanent state was unlocked: the second record of a vTPM whose state outlives the TD.
    Unlock(Unlock),
    /// The permanent state was refused, or is another machine's now: the vTPM does not serve any more.
    StateRefused {
        /// Why, in a word of the error.
        reason: String,
    },
}

impl Record {
    /// Its name in the CDDL.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Startup(_) => "startup",
            Self::Reset => "reset",
            Self::Shutdown(_) => "shutdown",
            Self::Clear => "clear",
            Self::Hierarchy { .. } => "hierarchy",
            Self::NvIndex { .. } => "nv-index",
            Self::NvCommit { .. } => "nv-commit",
            Self::PcrExtend { .. } => "pcr-extend",
            Self::PcrReset { .. } => "pcr-reset",
            Self::PcrValue { .. } => "pcr-value",
            Self::PcrSummary { .. } => "pcr-summary",
            Self::LogFull { .. } => "log-full",
            Self::Unlock(_) => "unlock",
            Self::StateRefused { .. } => "state-refused",
        }
    }

    /// Its type in the CDDL.
    const fn code(&self) -> u8 {
        match self {
            Self::Start(_) => 1,
            Self::Startup(_) => 2,
            Self::Reset => 3,
            Self::Shutdown(_) => 4,
            Self::Clear => 5,
            Self::Hierarchy { .. } => 6,
            Self::NvIndex { .. } => 7,
            Self::NvCommit { .. } => 8,
            Self::PcrExtend { .. } => 9,
            Self::PcrReset { .. } => 10,
            Self::PcrValue { .. } => 11,
            Self::PcrSummary { .. } => 12,
            Self::LogFull { .. } => 13,
            Self::Unlock(_) => 14,
            Self::StateRefused { .. } => 15,
        }
    }

    /// Its version in the CDDL.
    pub const fn version(&self) -> u8 {
        match self {
            Self::Start(Start {
                processors: Some(_),
                ..
            }) => START_VERSION,
            _ => VERSION,
        }
    }

    /// The record in a tagged event: the event's data.
    pub fn to_event(&self) -> Vec<u8> {
        wrap(&self.to_cbor())
    }
}
