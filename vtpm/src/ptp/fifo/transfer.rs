//! One command on its way in and its response on its way out (PTP 1.05, "FIFO State Machine").
//!
//! Execution is no state here: the engine runs a command to its end within the access that sets
//! tpmGo, so that no other access can see it.

use alloc::boxed::Box;

use super::bits::Status;

/// Length of the longest command and response: the engine's.
pub(in crate::ptp) const CAPACITY: usize = 4096;

/// Tag, size, code.
const HEADER: usize = 10;

/// A whole response that says TPM_RC_FAILURE, for when the engine has none.
const FAILURE: [u8; HEADER] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x01];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is under way, and nothing can be before commandReady.
    Idle,
    /// A command can be written.
    Ready,
    /// Some of a command has been written; `expect` while there is more to come.
    Reception { expect: bool },
    /// There is a response.
    Completion,
}

/// What the active locality does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ptp) enum Event {
    CommandReady,
    Go,
    ResponseRetry,
    /// A byte into the FIFO.
    Write(u8),
}

/// What is to be done because of it, beyond this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ptp) enum Action {
    None,
    /// Execute the command, then [`Transfer::complete`].
    Execute,
}

/// The two buffers and the state of the active locality.
pub(in crate::ptp) struct Transfer {
    state: State,
    command: Box<[u8; CAPACITY]>,
    written: usize,
    response: Box<[u8; CAPACITY]>,
    length: usize,
    read: usize,
}

impl Transfer {
    pub(in crate::ptp) fn new() -> Self {
        Self {
            state: State::Idle,
            command: Box::new([0; CAPACITY]),
            written: 0,
            response: Box::new([0; CAPACITY]),
            length: 0,
            read: 0,
        }
    }

    pub(in crate::ptp) fn handle(&mut self, event: Event) -> Action {
        match (self.state, event) {
            (State::Idle | State::Ready, Event::CommandReady) => {
                self.state = State::Ready;
                Action::None
            }
            (State::Idle, _) => Action::None,
            (State::Ready, Event::Write(byte)) => {
                self.state = State::Reception { expect: true };
                self.store(byte);
                Action::None
            }
            (State::Ready, Event::Go | Event::ResponseRetry) => Action::None,
            (State::Reception { expect: true }, Event::Write(byte)) => {
                self.store(byte);
                Action::None
            }
            (State::Reception { expect: false }, Event::Write(_)) => Action::None,
            (State::Reception { expect: true }, Event::Go) => Action::None,
            (State::Reception { expect: false }, Event::Go) => Action::Execute,
            (State::Reception { .. }, Event::ResponseRetry) => Action::None,
            (State::Reception { .. } | State::Completion, Event::CommandReady) => {
                self.clear();
                self.state = State::Ready;
                Action::None
            }
            (State::Completion, Event::ResponseRetry) => {
                self.read = 0;
                Action::None
            }
            (State::Completion, Event::Write(_) | Event::Go) => Action::None,
        }
    }

    /// Takes a byte of the command and finds out whether it was the last: by the size in the
    /// header, or for want of room. What the header says is not checked: that is the engine's.
    fn store(&mut self, byte: u8) {
        let Some(place) = self.command.get_mut(self.written) else {
            self.state = State::Reception { expect: false };
            return;
        };
        *place = byte;
        self.written += 1;
        if let Some(size) = declared_size(self.command.get(..self.written).unwrap_or_default())
            && self.written >= size
        {
            self.state = State::Reception { expect: false };
        }
    }

    /// The command, and room for its response. Only after [`Action::Execute`].
    pub(in crate::ptp) fn execution(&mut self) -> (&[u8], &mut [u8]) {
        let command = self.command.get(..self.written).unwrap_or_default();
        (command, self.response.as_mut_slice())
    }

    /// There is a response of `length` bytes, or none because the engine failed. A response that
    /// contradicts itself would only confuse a driver: it counts as none.
    pub(in crate::ptp) fn complete(&mut self, length: Option<usize>) {
        let whole = length.filter(|length| {
            self.response.get(..*length).is_some_and(|response| {
                response.len() >= HEADER && declared_size(response) == Some(*length)
            })
        });
        self.length = whole.unwrap_or_else(|| {
            self.response.fill(0);
            if let Some(place) = self.response.first_chunk_mut() {
                *place = FAILURE;
            }
            HEADER
        });
        wipe(self.command.as_mut_slice(), self.written);
        self.written = 0;
        self.read = 0;
        self.state = State::Completion;
    }

    /// The next byte of the response; all ones when there is none.
    pub(in crate::ptp) fn read(&mut self) -> u8 {
        match self.response.get(self.read) {
            Some(byte) if self.data_avail() => {
                self.read += 1;
                *byte
            }
            _ => 0xff,
        }
    }

    fn data_avail(&self) -> bool {
        self.state == State::Completion && self.read < self.length
    }

    /// Status as the active locality sees it.
    pub(in crate::ptp) fn status(&self) -> Status {
        let status = Status::new().with_tpm_family(1);
        match self.state {
            State::Idle => status,
            State::Ready => status
                .with_command_ready(true)
                .with_burst_count(CAPACITY as u16),
            State::Reception { expect } => status
                .with_sts_valid(true)
                .with_expect(expect)
                // Never 0: a driver would wait for more, which never comes.
                .with_burst_count(CAPACITY.saturating_sub(self.written).max(1) as u16),
            State::Completion => status
                .with_sts_valid(true)
                .with_data_avail(self.data_avail())
                .with_burst_count(self.length.saturating_sub(self.read) as u16),
        }
    }

    /// The locality gives up the TPM or loses it: nothing of its command or response stays. True
    /// when it was ready for a command and so may find itself again.
    pub(in crate::ptp) fn leave(&mut self) -> bool {
        let ready = self.state == State::Ready;
        self.clear();
        self.state = State::Idle;
        ready
    }

    /// A locality gets the TPM.
    pub(in crate::ptp) fn enter(&mut self, ready: bool) {
        self.clear();
        self.state = if ready { State::Ready } else { State::Idle };
    }

    fn clear(&mut self) {
        wipe(self.command.as_mut_slice(), self.written);
        wipe(self.response.as_mut_slice(), self.length);
        self.written = 0;
        self.length = 0;
        self.read = 0;
    }
}

/// The size in the header of a command or response, once it is there.
fn declared_size(message: &[u8]) -> Option<usize> {
    let size = message.get(2..6)?.first_chunk()?;
    usize::try_from(u32::from_be_bytes(*size)).ok()
}

fn wipe(buffer: &mut [u8], used: usize) {
    if let Some(used) = buffer.get_mut(..used) {
        used.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A command of 12 bytes, executed: its response is of 11.
    fn completed() -> Transfer {
        let mut transfer = Transfer::new();
        transfer.handle(Event::CommandReady);
        for byte in [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0xC0, 0xC1] {
            transfer.handle(Event::Write(byte));
        }
        assert_eq!(transfer.handle(Event::Go), Action::Execute);
        let (command, response) = transfer.execution();
        assert_eq!(command.len(), 12);
        response[..11].copy_from_slice(&[0x80, 1, 0, 0, 0, 11, 0, 0, 0, 0, 0xAA]);
        transfer.complete(Some(11));
        transfer
    }

    /// Commands have passwords in them, responses keys: they are gone as soon as nobody needs them.
    #[test]
    fn nothing_of_a_command_or_response_outlives_it() {
        let transfer = completed();
        assert!(transfer.command.iter().all(|byte| *byte == 0));
        let leave: fn(&mut Transfer) = |transfer| {
            transfer.leave();
        };
        let ready: fn(&mut Transfer) = |transfer| {
            transfer.handle(Event::CommandReady);
        };
        for end in [leave, ready] {
            let mut transfer = completed();
            assert_eq!(transfer.read(), 0x80);
            end(&mut transfer);
            assert!(transfer.response.iter().all(|byte| *byte == 0));

            let mut transfer = Transfer::new();
            transfer.handle(Event::CommandReady);
            transfer.handle(Event::Write(0xC0));
            end(&mut transfer);
            assert!(transfer.command.iter().all(|byte| *byte == 0));
        }
    }
}
