//! One command on its way in and its response on its way out (PTP 1.05, "CRB State Machine").
//!
//! Reception is no state here: until START what is in the buffer is the guest's alone. Neither is Execution: the engine
//! runs a command to its end within the access that sets START, so that no other access can see it.

use super::bits::CtrlSts;

/// How far a command has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is under way.
    Idle,
    /// A command can be written, or is being written.
    Ready,
    /// There is a response.
    Completion,
}

/// What the active locality does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    CommandReady,
    GoIdle,
    Start,
}

/// What is to be done because of it, beyond this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    None,
    /// Nothing of a command or response is needed any more.
    Clear,
    /// Execute the command, then [`Command::complete`].
    Execute,
}

/// The state of the active locality's command.
#[derive(Debug)]
pub(super) struct Command(State);

impl Command {
    pub(super) const IDLE: Self = Self(State::Idle);

    /// Drivers leave steps out: SeaBIOS starts its first command without cmdReady, Linux sends cmdReady once for several
    /// commands. START runs what is in the buffer in every state.
    pub(super) fn handle(&mut self, event: Event) -> Action {
        let (next, action) = match (self.0, event) {
            (State::Idle | State::Ready, Event::CommandReady) => (State::Ready, Action::None),
            // The response is not needed any more; what the driver may have written over it by now is.
            (State::Completion, Event::CommandReady) => (State::Ready, Action::None),
            (State::Idle, Event::GoIdle) => (State::Idle, Action::None),
            (State::Ready | State::Completion, Event::GoIdle) => (State::Idle, Action::Clear),
            (state, Event::Start) => (state, Action::Execute),
        };
        self.0 = next;
        action
    }

    /// The command has been executed.
    pub(super) fn complete(&mut self) {
        self.0 = State::Completion;
    }

    /// The locality gives up the TPM or loses it: nothing of its command or response stays.
    pub(super) fn leave(&mut self) {
        if self.0 == State::Completion {
            self.0 = State::Ready;
        }
    }

    /// TPM_CRB_CTRL_STS_x.
    pub(super) fn status(&self) -> CtrlSts {
        CtrlSts::new().with_tpm_idle(self.0 == State::Idle)
    }
}
