//! One command on its way in and its response on its way out (PTP 1.05, "FIFO State Machine").

use super::bits::Status;
use crate::ptp::buffers::{Buffers, CAPACITY, Reception};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is under way, and nothing can be before commandReady.
    Idle,
    /// A command can be written.
    Ready,
    /// Some of a command has been written, or all.
    Reception(Reception),
    /// The engine is at it, for longer than the access that set tpmGo.
    Execution,
    /// There is a response.
    Completion,
}

/// What the active locality does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    CommandReady,
    Go,
    ResponseRetry,
    /// A byte into the FIFO.
    Write(u8),
}

/// What is to be done because of it, beyond this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    None,
    /// Say that a command can be written.
    Ready,
    /// Say that the command is whole.
    Whole,
    /// Begin the command; when it is executed, [`Transfer::complete`].
    Execute,
    /// Nobody wants the response of the command that is executed.
    Abandon,
}

/// What a locality finds when it gets the TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// commandReady is needed first.
    Idle,
    /// It was ready for a command when it gave the TPM up, and still is.
    Ready,
}

/// The state of the active locality; its bytes are in the [`Buffers`].
pub(super) struct Transfer(State);

impl Transfer {
    /// Nothing is under way.
    pub(super) const IDLE: Self = Self(State::Idle);

    pub(super) fn handle(&mut self, event: Event, buffers: &mut Buffers) -> Action {
        match (self.0, event) {
            (State::Idle, Event::CommandReady) => {
                self.0 = State::Ready;
                return Action::Ready;
            }
            (State::Ready, Event::CommandReady) => {}
            (State::Idle, _) => {}
            (State::Ready | State::Reception(Reception::More), Event::Write(byte)) => {
                return self.store(byte, buffers);
            }
            (State::Ready, Event::Go | Event::ResponseRetry) => {}
            (State::Reception(Reception::Whole), Event::Write(_)) => {}
            (State::Reception(Reception::More), Event::Go) => {}
            (State::Reception(Reception::Whole), Event::Go) => {
                self.0 = State::Execution;
                return Action::Execute;
            }
            (State::Reception(_), Event::ResponseRetry) => {}
            (State::Execution, Event::CommandReady) => {
                buffers.clear();
                self.0 = State::Ready;
                return Action::Abandon;
            }
            (State::Execution, Event::Write(_) | Event::Go | Event::ResponseRetry) => {}
            (State::Reception(_) | State::Completion, Event::CommandReady) => {
                buffers.clear();
                self.0 = State::Ready;
                return Action::Ready;
            }
            (State::Completion, Event::ResponseRetry) => buffers.rewind(),
            (State::Completion, Event::Write(_) | Event::Go) => {}
        }
        Action::None
    }

    fn store(&mut self, byte: u8, buffers: &mut Buffers) -> Action {
        let reception = buffers.push(byte);
        self.0 = State::Reception(reception);
        match reception {
            Reception::More => Action::None,
            Reception::Whole => Action::Whole,
        }
    }

    /// The command has been executed.
    pub(super) fn complete(&mut self) {
        self.0 = State::Completion;
    }

    /// The next byte of the response; all ones when there is none.
    pub(super) fn read(&self, buffers: &mut Buffers) -> u8 {
        match self.0 {
            State::Completion => buffers.pop().unwrap_or(0xff),
            _ => 0xff,
        }
    }

    /// Status as the active locality sees it.
    pub(super) fn status(&self, buffers: &Buffers) -> Status {
        let status = Status::new().with_tpm_family(1);
        match self.0 {
            // Not even stsValid: a driver may take it alone for the end of the command (Winbond's parts, Linux).
            State::Idle | State::Execution => status,
            State::Ready => status
                .with_command_ready(true)
                .with_burst_count(CAPACITY as u16),
            State::Reception(reception) => status
                .with_sts_valid(true)
                .with_expect(reception == Reception::More)
                // Never 0: a driver would wait for more, which never comes.
                .with_burst_count(buffers.room().max(1) as u16),
            State::Completion => status
                .with_sts_valid(true)
                .with_data_avail(buffers.left() != 0)
                .with_burst_count(buffers.left() as u16),
        }
    }

    /// The locality gives up the TPM or loses it: nothing of its command or response stays. Says whether it was
    /// ready for a command and so may find itself again.
    pub(super) fn leave(&mut self, buffers: &mut Buffers) -> Readiness {
        let readiness = match self.0 {
            State::Ready => Readiness::Ready,
            _ => Readiness::Idle,
        };
        buffers.clear();
        self.0 = State::Idle;
        readiness
    }

    /// A locality gets the TPM.
    pub(super) fn enter(&mut self, readiness: Readiness) {
        self.0 = match readiness {
            Readiness::Idle => State::Idle,
            Readiness::Ready => State::Ready,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A command of 12 bytes, executed: its response is of 11.
    fn completed() -> (Transfer, Buffers) {
        let (mut transfer, mut buffers) = (Transfer::IDLE, Buffers::new());
        transfer.handle(Event::CommandReady, &mut buffers);
        for byte in [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0xC0, 0xC1] {
            transfer.handle(Event::Write(byte), &mut buffers);
        }
        assert_eq!(transfer.handle(Event::Go, &mut buffers), Action::Execute);
        let (command, response) = buffers.execution();
        assert_eq!(command.len(), 12);
        response[..11].copy_from_slice(&[0x80, 1, 0, 0, 0, 11, 0, 0, 0, 0, 0xAA]);
        buffers.complete(Some(11));
        transfer.complete();
        (transfer, buffers)
    }

    /// Commands have passwords in them, responses keys: they are gone as soon as nobody needs them.
    #[test]
    fn nothing_of_a_command_or_response_outlives_it() {
        let (_, buffers) = completed();
        assert_eq!(buffers.are_wiped(), [true, false]);
        let leave: fn(&mut Transfer, &mut Buffers) = |transfer, buffers| {
            transfer.leave(buffers);
        };
        let ready: fn(&mut Transfer, &mut Buffers) = |transfer, buffers| {
            transfer.handle(Event::CommandReady, buffers);
        };
        for end in [leave, ready] {
            let (mut transfer, mut buffers) = completed();
            assert_eq!(transfer.read(&mut buffers), 0x80);
            end(&mut transfer, &mut buffers);
            assert_eq!(buffers.are_wiped(), [true, true]);

            let (mut transfer, mut buffers) = (Transfer::IDLE, Buffers::new());
            transfer.handle(Event::CommandReady, &mut buffers);
            transfer.handle(Event::Write(0xC0), &mut buffers);
            assert_eq!(buffers.are_wiped(), [false, true]);
            end(&mut transfer, &mut buffers);
            assert_eq!(buffers.are_wiped(), [true, true]);
        }
    }
}
