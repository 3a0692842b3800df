//! What an exit tells L1: the VM-exit information fields, and the registers of TDG.VP.ENTER that
//! carry them.

use crate::platform::Event;
use crate::transition::{AsynchronousExit, ExtendedQualification};
use x86_defs::exit_reason;

/// The VM-exit information fields of one exit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExitInformation {
    /// Basic exit reason, with bit 31 if the entry failed.
    pub(super) reason: u32,
    pub(super) qualification: u64,
    pub(super) linear_address: u64,
    pub(super) gpa: u64,
    pub(super) interruption: u32,
    pub(super) interruption_error_code: u32,
    pub(super) instruction_length: u32,
    pub(super) instruction_information: u32,
    /// Extended exit qualification (TDG.VP.ENTER, R13).
    pub(super) extended: u64,
}

impl ExitInformation {
    /// Extended exit qualification of an access to a page that L1 has not accepted.
    pub(super) const PENDING: u64 = 6;

    /// An exit that the reason says all about.
    pub(super) fn of(reason: u32) -> ExitInformation {
        ExitInformation {
            reason,
            ..ExitInformation::default()
        }
    }

    /// An exit by an instruction.
    pub(super) fn instruction(reason: u32, length: u32) -> ExitInformation {
        ExitInformation {
            reason,
            instruction_length: length,
            ..ExitInformation::default()
        }
    }

    pub(super) fn with_qualification(self, qualification: u64) -> ExitInformation {
        ExitInformation {
            qualification,
            ..self
        }
    }

    /// The exit as the host gets it.
    pub(super) fn to_host(self) -> AsynchronousExit {
        if self.reason == exit_reason::EPT_VIOLATION {
            return AsynchronousExit::ept_violation(
                self.gpa,
                self.qualification,
                ExtendedQualification::NONE,
            );
        }
        AsynchronousExit {
            reason: self.reason,
            qualification: self.qualification,
            interruption_information: self.interruption,
            ..AsynchronousExit::default()
        }
    }

    /// An exit by an exception that L1 asked for.
    pub(super) fn exception(event: &Event, qualification: u64) -> ExitInformation {
        ExitInformation {
            reason: exit_reason::EXCEPTION_OR_NMI,
            qualification,
            interruption: event.information(),
            interruption_error_code: event.error_code.unwrap_or(0),
            instruction_length: event.instruction_length.into(),
            ..ExitInformation::default()
        }
    }
}
