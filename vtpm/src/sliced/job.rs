//! The engine on its stack, and what it is at.

use alloc::boxed::Box;

use crate::service::{Answer, Call, Serve};
use crate::{Engine, EngineFailure, Locality, MAX_RESPONSE};

/// The engine, and the command it is at.
pub(super) struct Job<E> {
    pub(super) engine: E,
    pub(super) locality: Locality,
    pub(super) command: Box<[u8; MAX_RESPONSE]>,
    pub(super) length: usize,
    pub(super) response: Box<[u8; MAX_RESPONSE]>,
    pub(super) outcome: Result<usize, EngineFailure>,
    pub(super) call: Option<Call>,
    pub(super) answer: Option<Answer>,
}

impl<E: Engine + Serve> Job<E> {
    pub(super) fn serve(&mut self) {
        let call = self.call.take();
        self.answer = call.map(|call| self.engine.serve(&call.guid, &call.data, call.room));
    }
}

impl<E: Engine> Job<E> {
    pub(super) fn execute(&mut self) {
        let command = self.command.get(..self.length).unwrap_or_default();
        let response = self.response.as_mut_slice();
        self.outcome = self.engine.execute(self.locality, command, response);
        self.wipe_command();
    }

    pub(super) fn work(&mut self) {
        self.engine.work(0);
    }

    fn wipe_command(&mut self) {
        wipe(self.command.as_mut_slice(), self.length);
        self.length = 0;
    }

    /// A new one, at nothing.
    pub(super) fn new(engine: E) -> Self {
        Self {
            engine,
            locality: Locality::Zero,
            command: Box::new([0; MAX_RESPONSE]),
            length: 0,
            response: Box::new([0; MAX_RESPONSE]),
            outcome: Err(EngineFailure),
            call: None,
            answer: None,
        }
    }

    /// The answer, of which nothing stays.
    pub(super) fn take_answer(&mut self, into: &mut [u8]) -> Result<usize, EngineFailure> {
        let length = core::mem::replace(&mut self.outcome, Err(EngineFailure))?;
        let answer = self.response.get_mut(..length).ok_or(EngineFailure)?;
        let copied = into
            .get_mut(..length)
            .map(|into| into.copy_from_slice(answer));
        answer.fill(0);
        copied.map(|()| length).ok_or(EngineFailure)
    }
}

/// The first `used` bytes become zeros.
pub(super) fn wipe(buffer: &mut [u8], used: usize) {
    if let Some(used) = buffer.get_mut(..used) {
        used.fill(0);
    }
}
