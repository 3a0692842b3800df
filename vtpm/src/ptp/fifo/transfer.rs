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

/// Bytes that a driver moves at a stretch: then it sees a burstCount of 0 once, and waits.
///
/// A driver moves what burstCount says without a pause, on a processor that its guest may have for nothing else meanwhile, and
/// each byte costs more here than on a bus. No other than a long command or response is longer than this.
pub(super) const STRETCH: usize = 768;

/// Bytes that were moved since the driver waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace(usize);

impl Pace {
    const FRESH: Self = Self(0);
    /// A pause is due.
    const OVER: Self = Self(STRETCH);

    const fn moves(&mut self) {
        self.0 = self.0.saturating_add(1);
    }

    /// As many of `bytes` as are to be moved now.
    fn limit(self, bytes: usize) -> usize {
        bytes.min(STRETCH.saturating_sub(self.0))
    }
}

/// How a command came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// In the access that began it.
    AtOnce,
    /// In a later slice, which the driver's processor may just have spent on it.
    Later,
}

/// The state of the active locality; its bytes are in the [`Buffers`].
pub(super) struct Transfer {
    state: State,
    pace: Pace,
}

impl Transfer {
    /// Nothing is under way.
    pub(super) const IDLE: Self = Self {
        state: State::Idle,
        pace: Pace::FRESH,
    };

    pub(super) fn handle(&mut self, event: Event, buffers: &mut Buffers) -> Action {
        if event == Event::CommandReady {
            self.pace = Pace::FRESH;
        }
        match (self.state, event) {
            (State::Idle, Event::CommandReady) => {
                self.state = State::Ready;
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
                self.state = State::Execution;
                return Action::Execute;
            }
            (State::Reception(_), Event::ResponseRetry) => {}
            (State::Execution, Event::CommandReady) => {
                buffers.clear();
                self.state = State::Ready;
                return Action::Abandon;
            }
            (State::Execution, Event::Write(_) | Event::Go | Event::ResponseRetry) => {}
            (State::Reception(_) | State::Completion, Event::CommandReady) => {
                buffers.clear();
                self.state = State::Ready;
                return Action::Ready;
            }
            (State::Completion, Event::ResponseRetry) => buffers.rewind(),
            (State::Completion, Event::Write(_) | Event::Go) => {}
        }
        Action::None
    }

    fn store(&mut self, byte: u8, buffers: &mut Buffers) -> Action {
        let reception = buffers.push(byte);
        self.pace.moves();
        self.state = State::Reception(reception);
        match reception {
            Reception::More => Action::None,
            Reception::Whole => Action::Whole,
        }
    }

    /// The command has been executed.
    pub(super) fn complete(&mut self, ended: Ended) {
        self.state = State::Completion;
        self.pace = match ended {
            Ended::AtOnce => Pace::FRESH,
            Ended::Later => Pace::OVER,
        };
    }

    /// A driver has read the count: where that was 0, it waits.
    pub(super) fn count_is_read(&mut self) {
        if self.pace.limit(1) == 0 {
            self.pace = Pace::FRESH;
        }
    }

    /// The next byte of the response; all ones when there is none.
    pub(super) fn read(&mut self, buffers: &mut Buffers) -> u8 {
        match self.state {
            State::Completion => {
                self.pace.moves();
                buffers.pop().unwrap_or(0xff)
            }
            _ => 0xff,
        }
    }

    /// Status as the active locality sees it.
    pub(super) fn status(&self, buffers: &Buffers) -> Status {
        let status = Status::new().with_tpm_family(1);
        match self.state {
            // Not even stsValid: a driver may take it alone for the end of the command (Winbond's parts, Linux).
            State::Idle | State::Execution => status,
            State::Ready => status
                .with_command_ready(true)
                .with_burst_count(self.pace.limit(CAPACITY) as u16),
            State::Reception(Reception::More) => status
                .with_sts_valid(true)
                .with_expect(true)
                .with_burst_count(self.pace.limit(buffers.room().max(1)) as u16),
            State::Reception(Reception::Whole) => status
                .with_sts_valid(true)
                // Not 0: a driver would wait for more, which never comes.
                .with_burst_count(buffers.room().clamp(1, STRETCH) as u16),
            State::Completion => status
                .with_sts_valid(true)
                .with_data_avail(buffers.left() != 0)
                .with_burst_count(self.pace.limit(buffers.left()) as u16),
        }
    }

    /// The locality gives up the TPM or loses it: nothing of its command or response stays. Says whether it was
    /// ready for a command and so may find itself again.
    pub(super) fn leave(&mut self, buffers: &mut Buffers) -> Readiness {
        let readiness = match self.state {
            State::Ready => Readiness::Ready,
            _ => Readiness::Idle,
        };
        buffers.clear();
        *self = Self::IDLE;
        readiness
    }

    /// A locality gets the TPM.
    pub(super) fn enter(&mut self, readiness: Readiness) {
        self.state = match readiness {
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
        transfer.complete(Ended::AtOnce);
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
