//! What a register interface needs of a TPM.

use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::Locality;
use crate::cancel::Cancel;

/// The engine could not do what it was asked, and has no response that says so.
///
/// The caller should take the TPM for broken: a register interface answers the command with
/// TPM_RC_FAILURE, as a TPM in failure mode does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("the TPM engine failed")]
pub struct EngineFailure;

/// Bytes of the longest response, and command, of an engine.
pub const MAX_RESPONSE: usize = tpm2_ref_sys::MAX_RESPONSE;

/// How far a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is executed: so many bytes of response.
    Done(usize),
    /// It is not: [`Engine::go_on`].
    Running,
}

/// What an engine has to do besides what it is called for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Nothing.
    #[default]
    None,
    /// Something that nobody waits for.
    Own,
    /// A command of the guest's.
    Command,
}

/// One TPM 2.0. Commands run to completion, or in slices where it can.
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

    /// Begins `command`, however malformed, and gives it a slice of time. While it is running, no other is begun.
    ///
    /// `response` has at least [`MAX_RESPONSE`] bytes, which are filled when it is done.
    fn begin(
        &mut self,
        locality: Locality,
        command: &[u8],
        response: &mut [u8],
    ) -> Result<Progress, EngineFailure> {
        self.execute(locality, command, response)
            .map(Progress::Done)
    }

    /// Gives the command that is running another slice, to `until` on the TSC or as long as the engine has them.
    fn go_on(
        &mut self,
        until: Option<u64>,
        response: &mut [u8],
    ) -> Result<Progress, EngineFailure> {
        let _ = (until, response);
        Err(EngineFailure)
    }

    /// Asks that the command that is running give up, with TPM_RC_CANCELED. It may come to its end nevertheless.
    fn cancel(&mut self) {}

    /// Nobody wants the answer of the command that is running, and another may be begun.
    fn abandon(&mut self) {}

    /// What there is to do besides.
    fn has_work(&self) -> Work {
        Work::None
    }

    /// Does some of what there is to do besides, but for a command's slices: to `until` on the TSC, if it has slices.
    fn work(&mut self, until: u64) {
        let _ = until;
    }

    /// From now on the guest's commands heed this, and what it does besides.
    fn heed(&mut self, cancel: Cancel) {
        let _ = cancel;
    }

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
