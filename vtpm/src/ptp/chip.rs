//! The TPM behind its registers: what every interface in front of it shares.

use super::buffers::Buffers;
use super::localities::Arbitration;
use crate::{Engine, EngineFailure, Locality, Progress};

/// The engine, who has it, and the command that is under way.
pub(super) struct Chip<E> {
    pub(super) engine: E,
    pub(super) arbitration: Arbitration,
    pub(super) buffers: Buffers,
    /// The engine's, kept here because every read of ACCESS shows it.
    established: bool,
    /// The engine is at the command in the buffers.
    running: bool,
}

impl<E: Engine> Chip<E> {
    /// `engine` has had its _TPM_Init.
    pub(super) fn new(engine: E) -> Self {
        Self {
            established: engine.establishment(),
            engine,
            arbitration: Arbitration::default(),
            buffers: Buffers::new(),
            running: false,
        }
    }

    /// The platform was reset: nobody has the TPM, no command and no response, _TPM_Init to the engine.
    pub(super) fn reset(&mut self) -> Result<(), EngineFailure> {
        self.abandon();
        self.buffers.clear();
        self.arbitration = Arbitration::default();
        let result = self.engine.reset();
        self.established = self.engine.establishment();
        result
    }

    /// Begins the command in the buffers, for `locality`. Whether its response is there.
    pub(super) fn execute(&mut self, locality: Locality) -> bool {
        let (command, response) = self.buffers.execution();
        let progress = self.engine.begin(locality, command, response);
        self.is_complete(progress)
    }

    /// Gives the command that runs a slice, to `until` on the TSC or as long as the engine has them. Whether its response is
    /// there now.
    pub(super) fn go_on(&mut self, until: Option<u64>) -> bool {
        if !self.running {
            return false;
        }
        let (_, response) = self.buffers.execution();
        let progress = self.engine.go_on(until, response);
        self.is_complete(progress)
    }

    fn is_complete(&mut self, progress: Result<Progress, EngineFailure>) -> bool {
        self.running = progress == Ok(Progress::Running);
        match progress {
            Ok(Progress::Running) => return false,
            Ok(Progress::Done(length)) => self.buffers.complete(Some(length)),
            Err(EngineFailure) => self.buffers.complete(None),
        }
        true
    }

    /// Whether a command runs.
    pub(super) const fn is_running(&self) -> bool {
        self.running
    }

    /// The command that runs, if one does, is to give up. Its response comes all the same.
    pub(super) fn cancel(&mut self) {
        if self.running {
            self.engine.cancel();
        }
    }

    /// The response of the command that runs, if one does, is not to come.
    pub(super) fn abandon(&mut self) {
        if core::mem::take(&mut self.running) {
            self.engine.abandon();
        }
    }

    /// Whether a dynamic launch has happened.
    pub(super) const fn established(&self) -> bool {
        self.established
    }

    /// `locality`, which is 3 or 4, says that none has.
    pub(super) fn reset_establishment(&mut self, locality: Locality) {
        // A failure leaves the bit as it is, which the guest can read.
        let _ = self.engine.reset_establishment(locality);
        self.established = self.engine.establishment();
    }
}
