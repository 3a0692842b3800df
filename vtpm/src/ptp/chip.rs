//! The TPM behind its registers: what every interface in front of it shares.

use super::buffers::Buffers;
use super::localities::Arbitration;
use crate::{Engine, EngineFailure, Locality};

/// The engine, who has it, and the command that is under way.
pub(super) struct Chip<E> {
    pub(super) engine: E,
    pub(super) arbitration: Arbitration,
    pub(super) buffers: Buffers,
    /// The engine's, kept here because every read of ACCESS shows it.
    established: bool,
}

impl<E: Engine> Chip<E> {
    /// `engine` has had its _TPM_Init.
    pub(super) fn new(engine: E) -> Self {
        Self {
            established: engine.establishment(),
            engine,
            arbitration: Arbitration::default(),
            buffers: Buffers::new(),
        }
    }

    /// The platform was reset: nobody has the TPM, no command and no response, _TPM_Init to the engine.
    pub(super) fn reset(&mut self) -> Result<(), EngineFailure> {
        self.buffers.clear();
        self.arbitration = Arbitration::default();
        let result = self.engine.reset();
        self.established = self.engine.establishment();
        result
    }

    /// Runs the command in the buffers to its end, for `locality`.
    pub(super) fn execute(&mut self, locality: Locality) {
        let (command, response) = self.buffers.execution();
        let length = self.engine.execute(locality, command, response).ok();
        self.buffers.complete(length);
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
