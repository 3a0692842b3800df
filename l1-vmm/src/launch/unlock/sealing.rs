//! The TDX half of the state's key, as a trait.

use core::fmt;
use state_store::Tcb;
use tdcall::MetadataError;
use tdcall::leaf::KeyGetError;
use zeroize::Zeroizing;

/// The TCB that a sealing key is of: version numbers of processor and module, which are no secret.
///
/// A platform derives the keys of its own TCB and of every older one, so that a state stays readable after an update, and
/// what was sealed after it is not after a downgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardwareTcb {
    /// CPUSVN.
    pub cpusvn: [u8; 16],
    /// TEE_TCB_SVN of the TDX module.
    pub tee_tcb_svn: [u8; 16],
}

impl From<Tcb> for HardwareTcb {
    fn from(tcb: Tcb) -> Self {
        Self {
            cpusvn: tcb.cpusvn,
            tee_tcb_svn: tcb.tee_tcb_svn,
        }
    }
}

impl From<HardwareTcb> for Tcb {
    fn from(tcb: HardwareTcb) -> Self {
        Self {
            cpusvn: tcb.cpusvn,
            tee_tcb_svn: tcb.tee_tcb_svn,
        }
    }
}

impl fmt::Display for HardwareTcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CPUSVN ")?;
        for byte in self.cpusvn {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(", TEE_TCB_SVN ")?;
        for byte in self.tee_tcb_svn {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// Why the TDX module gives no half of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealingError {
    /// The TD cannot have sealing keys: the module has none, or the platform.
    #[error(
        "the TDX module gives no sealing keys ({}): a module from 1.5.34 on is needed, or `key = \"broker\"`",
        .0.map_or("it leaves ENABLE_HW_KEYS out", |_| "it refuses ENABLE_HW_KEYS")
    )]
    NotEnabled(Option<MetadataError>),
    /// It was asked for a key, and gave none.
    #[error("{0}")]
    Module(#[from] KeyGetError),
    /// There is no TDREPORT with the TCB that a new state is to be sealed to.
    #[error("the TDX module made no TDREPORT")]
    NoReport,
}

/// A trust domain that derives keys which no other has.
pub trait Sealing {
    /// The TCB that it has now.
    ///
    /// # Errors
    /// See [`SealingError`].
    fn tcb(&mut self) -> Result<HardwareTcb, SealingError>;

    /// The key of this TCB, or of an older one, and this salt. A TD of another MRTD, or a debug TD, has another.
    ///
    /// # Errors
    /// See [`SealingError`].
    fn sealing_key(
        &mut self,
        tcb: &HardwareTcb,
        salt: &[u8; 32],
    ) -> Result<Zeroizing<[u8; 32]>, SealingError>;
}
