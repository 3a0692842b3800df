//! One command on its way in and its response on its way out (PTP 1.05, "CRB State Machine").
//!
//! Reception is no state here: until START what is in the buffer is the guest's alone.

use super::bits::CtrlSts;

/// How far a command has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is under way.
    Idle,
    /// A command can be written, or is being written.
    Ready,
    /// The engine is at it, for longer than the access that set START.
    Execution,
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
    /// Begin the command; when it is executed, [`Command::complete`].
    Execute,
    /// Nobody wants the response of the command that is executed, nor needs anything of it.
    Abandon,
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
            (State::Execution, Event::Start) => (State::Execution, Action::None),
            // The profile leaves it open.
            (State::Execution, Event::CommandReady) => (State::Ready, Action::Abandon),
            (State::Execution, Event::GoIdle) => (State::Idle, Action::Abandon),
            (State::Idle | State::Ready | State::Completion, Event::Start) => {
                (State::Execution, Action::Execute)
            }
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
        if matches!(self.0, State::Execution | State::Completion) {
            self.0 = State::Ready;
        }
    }

    /// Whether a command is executed: TPM_CRB_CTRL_START_x.
    pub(super) fn is_executed(&self) -> bool {
        self.0 == State::Execution
    }

    /// TPM_CRB_CTRL_STS_x.
    pub(super) fn status(&self) -> CtrlSts {
        CtrlSts::new().with_tpm_idle(self.0 == State::Idle)
    }
}
