//! What changed is kept before the guest hears of it.
//!
//! The engine executes first and is asked for its state then, so that a command may have changed what cannot be kept.
//! A command that may do so runs between two saved states of the whole engine: if it succeeded and its state is not
//! kept, the engine goes back, and the command can be sent again as if it had not been. If it failed, what it changed
//! is what dictionary attacks are counted with: that stays, and until it is kept no command runs that could make use
//! of it. Commands that neither write NV nor are authorized go on.

use alloc::boxed::Box;
use alloc::vec::Vec;

use attestation::tpm::cc;

use crate::provision::Provisioner;
use crate::request::Request;
use crate::state::{Commits, Keeper, NotKept};
use crate::{CommandError, Engine, EngineFailure, SavedState};

/// Commands that the engine says write NV, and that only do so the first time after a startup, if at all: the state
/// of the whole engine is not saved for each extend.
const SELDOM: [u32; 4] = [
    cc::PCR_EXTEND,
    cc::PCR_EVENT,
    cc::PCR_RESET,
    cc::EVENT_SEQUENCE_COMPLETE,
];

/// Commands that are sent all the time and show nothing of Clock, nor of anything that is decided by it. A Clock that
/// nobody was shown may go back.
const TIMELESS: [u32; 7] = [
    cc::PCR_EXTEND,
    cc::PCR_EVENT,
    cc::PCR_RESET,
    cc::EVENT_SEQUENCE_COMPLETE,
    cc::PCR_READ,
    cc::GET_RANDOM,
    cc::STIR_RANDOM,
];

/// The keeper, and what there is to keep.
pub(super) struct Keeping {
    keeper: Box<dyn Keeper>,
    commits: Commits,
    /// TPM_CCs of the commands that may write NV.
    writers: Vec<u32>,
}

impl Keeping {
    /// Of an engine that was started; it is asked which of its commands write NV.
    pub(super) fn new<E: Engine>(
        keeper: Box<dyn Keeper>,
        commits: Commits,
        tpm: &mut Provisioner<E>,
    ) -> Result<Self, CommandError> {
        let mut writers = tpm.commands_that_write_nv()?;
        writers.retain(|code| !SELDOM.contains(code));
        Ok(Self {
            keeper,
            commits,
            writers,
        })
    }

    /// Whether the command may change the permanent state: it writes NV, or has an authorization that may be wrong.
    pub(super) fn may_change(&self, request: &Request<'_>) -> bool {
        let Some(code) = request.code else {
            return false;
        };
        !SELDOM.contains(&code) && (request.authorized || self.writers.contains(&code))
    }

    /// Whether the response may tell of Clock, so that Clock is kept before it is out: otherwise a host that cuts the
    /// power sets it back, and the TPM calls it safe a few seconds later.
    pub(super) fn may_show_clock(request: &Request<'_>) -> bool {
        request.code.is_some_and(|code| !TIMELESS.contains(&code))
    }

    /// Has the engine commit Clock, if nothing else made it do so. The journal has no record of that: it is no change that
    /// anybody made, and there are many.
    pub(super) fn commit_clock<E: Engine>(&mut self, engine: &mut E) -> Result<(), EngineFailure> {
        let noted = self.commits.is_noted();
        engine.commit()?;
        if !noted {
            let _ = self.commits.take();
        }
        Ok(())
    }

    /// Whether the last state that was committed is kept.
    pub(super) fn all_kept(&self) -> bool {
        self.commits.all_kept()
    }

    /// Keeps the last state that was committed, if that was not done.
    pub(super) fn keep(&mut self) -> Result<(), NotKept> {
        let Some(state) = self.commits.unkept() else {
            return Ok(());
        };
        self.keeper.keep(&state)?;
        self.commits.kept();
        Ok(())
    }

    /// Puts the engine back to where it was, whose state is the one that is kept.
    pub(super) fn go_back<E: Engine>(
        &mut self,
        tpm: &mut Provisioner<E>,
        saved: &SavedState,
    ) -> Result<(), CommandError> {
        tpm.engine_mut().restore(saved)?;
        self.commits.kept();
        let _ = self.commits.take();
        Ok(())
    }
}
