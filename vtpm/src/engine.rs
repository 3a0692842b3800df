//! What a register interface needs of a TPM.

use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::Locality;

/// The engine could not do what it was asked, and has no response that says so.
///
/// The caller should take the TPM for broken: a register interface answers the command with
/// TPM_RC_FAILURE, as a TPM in failure mode does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("the TPM engine failed")]
pub struct EngineFailure;

/// Bytes of the longest response, and command, of an engine.
pub const MAX_RESPONSE: usize = tpm2_ref_sys::MAX_RESPONSE;

/// One TPM 2.0. Commands run to completion.
pub trait Engine {
    /// Executes `command`, however malformed, and returns how many bytes of `response` it filled.
    ///
    /// `response` has at least [`MAX_RESPONSE`] bytes.
    fn execute(
        &mut self,
        locality: Locality,
        command: &[u8],
        response: &mut [u8],
    ) -> Result<usize, EngineFailure>;

    /// _TPM_Init: the platform was reset.
    fn reset(&mut self) -> Result<(), EngineFailure>;

    /// Whether a dynamic launch has happened since this was last reset.
    fn establishment(&self) -> bool;

    /// Forgets that a dynamic launch has happened. The caller has checked that `locality` is 3 or 4.
    fn reset_establishment(&mut self, locality: Locality) -> Result<(), EngineFailure>;

    /// Commits to its store what it has written to NV and left to a later commit: Clock.
    ///
    /// # Errors
    /// It is out of service.
    fn commit(&mut self) -> Result<(), EngineFailure> {
        Ok(())
    }

    /// Tells it whether what it writes to NV can be kept. While it cannot, Clock stands and is not safe.
    fn set_nv_available(&mut self, available: bool) {
        let _ = available;
    }

    /// All of its state now, to go back to; `None` for an engine that cannot.
    fn save(&self) -> Option<SavedState> {
        None
    }

    /// Goes back to a state that [`save`](Self::save) gave, as if nothing had happened since.
    ///
    /// # Errors
    /// The engine is then out of service until it is [reset](Self::reset).
    fn restore(&mut self, saved: &SavedState) -> Result<(), EngineFailure> {
        let _ = saved;
        Err(EngineFailure)
    }
}

/// The state of an engine at one moment. Secret; erased when dropped.
pub struct SavedState {
    /// What survives a power cycle.
    pub permanent: Zeroizing<Vec<u8>>,
    /// What does not.
    pub volatile: Zeroizing<Vec<u8>>,
}
