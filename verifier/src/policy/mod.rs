//! What a relying party accepts.
//!
//! [`Policy`] is plain data; [`Policy::read`] makes one of a TOML file (module `file`).

mod file;
mod missing;
mod tables;

pub use dcap_qvl::TcbStatus;
pub use file::PolicyError;

use attestation::{
    journal::{KeyHalves, Mode, PcrMirror, Rollback},
    tpm::Name,
};
use std::collections::{BTreeMap, BTreeSet};

/// A SHA-384 digest.
pub type Sha384Digest = [u8; 48];

/// A set of allowed values; none by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed<T> {
    /// Whatever it is: the report says that it was accepted, not that it was checked.
    Any,
    /// There must not be one.
    Absent,
    /// One of these.
    OneOf(Vec<T>),
}

impl<T> Default for Allowed<T> {
    fn default() -> Self {
        Allowed::OneOf(Vec::new())
    }
}

impl<T: PartialEq> Allowed<T> {
    /// Whether `value` is allowed.
    pub fn allows(&self, value: &T) -> bool {
        match self {
            Allowed::Any => true,
            Allowed::Absent => false,
            Allowed::OneOf(values) => values.contains(value),
        }
    }
}

/// Which vTPM it may be, by the names of its EKs; none by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownEks {
    /// Whichever: the report says that it was accepted, not that it was checked.
    Any,
    /// One whose EKs were made at this boot, so that nobody can know them before: ephemeral, started from no earlier state.
    Ephemeral,
    /// One that has an EK of one of these names.
    OneOf(Vec<Name>),
}

impl Default for KnownEks {
    fn default() -> Self {
        KnownEks::OneOf(Vec::new())
    }
}

/// A 64-bit field of which some bits are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskedBits {
    /// The value of the bits in `mask`.
    pub value: u64,
    /// The bits that are compared.
    pub mask: u64,
}

impl MaskedBits {
    /// Whether `bits` has the value in the mask.
    pub fn allows(&self, bits: u64) -> bool {
        bits & self.mask == self.value & self.mask
    }
}

/// What a 64-bit field may be; 0 by default, which neither ATTRIBUTES nor XFAM of a TD to trust is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bits {
    /// Whatever it is, beside the bits that are always checked.
    Any,
    /// These.
    Masked(MaskedBits),
}

impl Default for Bits {
    fn default() -> Self {
        Bits::Masked(MaskedBits {
            value: 0,
            mask: u64::MAX,
        })
    }
}

/// `[td]`: what TD this may be.
#[derive(Clone, Debug)]
pub struct TdPolicy {
    /// MRTD.
    pub mrtd: Allowed<Sha384Digest>,
    /// Whether a debug TD is accepted.
    pub debug: bool,
    /// ATTRIBUTES, beside the bits that are always checked.
    pub attributes: Bits,
    /// XFAM.
    pub xfam: Bits,
    /// MRCONFIGID.
    pub mrconfigid: Allowed<Sha384Digest>,
    /// MROWNER.
    pub mrowner: Allowed<Sha384Digest>,
    /// MROWNERCONFIG.
    pub mrownerconfig: Allowed<Sha384Digest>,
    /// MRSERVICETD: which service TDs may be bound to it; [`Allowed::Absent`], the default: none.
    pub mrservicetd: Allowed<Sha384Digest>,
}

impl Default for TdPolicy {
    fn default() -> Self {
        TdPolicy {
            mrtd: Allowed::default(),
            debug: false,
            attributes: Bits::default(),
            xfam: Bits::default(),
            mrconfigid: Allowed::default(),
            mrowner: Allowed::default(),
            mrownerconfig: Allowed::default(),
            mrservicetd: Allowed::Absent,
        }
    }
}

/// `[firmware]`: what td-shim may have measured.
#[derive(Clone, Debug, Default)]
pub struct FirmwarePolicy {
    /// SHA-384 of the TD HOB list: the machine as the host describes it.
    pub td_hob: Allowed<Sha384Digest>,
    /// Digests of other events of the firmware (secure boot, a payload outside MRTD).
    pub other: BTreeSet<Sha384Digest>,
}

/// `[quote]`.
#[derive(Clone, Debug)]
pub struct QuotePolicy {
    /// Whether evidence without a TD quote is refused. Without a quote nothing proves that the TDREPORT
    /// comes from a TDX module: its MAC can be checked on its own platform only.
    pub required: bool,
}

/// `[tcb]`: what state the platform may be in.
#[derive(Clone, Debug)]
pub struct TcbPolicy {
    /// Statuses, as Intel's TCB info has them. `Revoked` is never accepted.
    pub statuses: Vec<TcbStatus>,
    /// Advisories that may be open.
    pub advisories: Allowed<String>,
    /// Lowest tcbEvaluationDataNumber of the collateral.
    pub min_evaluation_data_number: u32,
}

/// `[launch]`: what L1 may have booted.
#[derive(Clone, Debug, Default)]
pub struct LaunchPolicy {
    /// SHA-384 of the kernel file, its loader fields zeroed.
    pub kernel: Allowed<Sha384Digest>,
    /// SHA-384 of the command line.
    pub command_line: Allowed<Sha384Digest>,
    /// SHA-384 of the initrd.
    pub initrd: Allowed<Sha384Digest>,
}

/// `[vtpm]`: which vTPM, and what may have become of it.
#[derive(Clone, Debug)]
pub struct VtpmPolicy {
    /// Engine names and versions.
    pub engines: Allowed<String>,
    /// Interfaces.
    pub interfaces: Allowed<String>,
    /// Where its state comes from.
    pub modes: Allowed<Mode>,
    /// What of the PCRs is in the journal.
    pub mirror: Allowed<PcrMirror>,
    /// SHA-384 of the state that it may have started from; [`Allowed::Absent`]: it must have started from none.
    pub state: Allowed<Sha384Digest>,
    /// How many virtual processors the TD may have; `None`: the policy does not ask.
    pub processors: Option<Allowed<u32>>,
    /// How many processors L2 may have; `None`: the policy does not ask.
    pub l2_processors: Option<Allowed<u32>>,
    /// Whose state a persistent vTPM has.
    pub machine: Allowed<[u8; 32]>,
    /// SHA-256 of the public key of the broker that unlocked it; [`Allowed::Absent`]: none did.
    pub broker: Allowed<[u8; 32]>,
    /// What its key is made of.
    pub key: Allowed<KeyHalves>,
    /// What protects it from being an older one.
    pub rollback: Allowed<Rollback>,
    /// Which vTPM.
    pub ek: KnownEks,
    /// Whether TPM2_Clear may have happened.
    pub allow_clear: bool,
    /// Whether hierarchies' authorizations, policies and state may have changed.
    pub allow_hierarchy_changes: bool,
    /// Whether the journal may have ended for want of room.
    pub allow_log_full: bool,
    /// How many times the TPM may have been reset since L1 started; `None` for any number.
    pub max_resets: Option<u64>,
}

/// `[pcr]`: PCR values.
#[derive(Clone, Debug, Default)]
pub struct PcrPolicy {
    /// Allowed values by bank (TPM_ALG_ID) and PCR.
    pub values: BTreeMap<(u16, u8), Vec<Vec<u8>>>,
    /// PCRs that the guest's software may have extended beyond the TCG event log; never one of 0 to 9.
    pub beyond_log: Vec<u8>,
}

/// What a relying party accepts: one member for each table of the file. The default accepts nothing.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// `[quote]`.
    pub quote: QuotePolicy,
    /// `[tcb]`.
    pub tcb: TcbPolicy,
    /// `[td]`.
    pub td: TdPolicy,
    /// `[firmware]`.
    pub firmware: FirmwarePolicy,
    /// `[launch]`.
    pub launch: LaunchPolicy,
    /// `[vtpm]`.
    pub vtpm: VtpmPolicy,
    /// `[pcr]`.
    pub pcr: PcrPolicy,
}

impl Default for QuotePolicy {
    fn default() -> Self {
        QuotePolicy { required: true }
    }
}

impl Default for TcbPolicy {
    fn default() -> Self {
        TcbPolicy {
            statuses: vec![TcbStatus::UpToDate],
            advisories: Allowed::OneOf(Vec::new()),
            min_evaluation_data_number: 0,
        }
    }
}

impl Default for VtpmPolicy {
    fn default() -> Self {
        VtpmPolicy {
            engines: Allowed::default(),
            interfaces: Allowed::default(),
            modes: Allowed::default(),
            mirror: Allowed::default(),
            state: Allowed::Absent,
            processors: None,
            l2_processors: None,
            machine: Allowed::default(),
            broker: Allowed::default(),
            key: Allowed::default(),
            rollback: Allowed::default(),
            ek: KnownEks::default(),
            allow_clear: false,
            allow_hierarchy_changes: false,
            allow_log_full: false,
            max_resets: Some(0),
        }
    }
}
