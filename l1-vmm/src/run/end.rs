//! How a run of L2 ends.

use core::fmt;

use l2_exit::exit::{TaskSwitch, TaskSwitchSource};
use l2_exit::{EmulationError, Event, InstructionBytes};
use tdcall::leaf::{MetadataError, VpEnterError};
use tdcall::tdvmcall::VmcallError;
use tdx_defs::field::FieldId;
use tdx_defs::vmcs::VmcsField;
use tdx_defs::vp_enter::GuestState;

/// Why L2 does not run any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// L2 entered ACPI S5.
    PowerOff,
    /// L2 asked for a system reset.
    Reset,
    /// L2 halted with interrupts disabled: nothing can wake it.
    Halted {
        /// Address of the HLT.
        rip: u64,
    },
    /// L2 had a fault while it delivered a double fault. A PC resets then.
    TripleFault {
        /// Address of the instruction that faulted.
        rip: u64,
        /// The event whose delivery failed, if the processor names it.
        event: Option<Event>,
    },
    /// L2 did what no guest does that this VMM is for.
    GuestError {
        /// Address of the instruction.
        rip: u64,
        /// What it did.
        error: GuestError,
    },
    /// L1 cannot go on.
    Failure(Failure),
    /// Another virtual processor's run has ended, and with it this one's.
    Stopped,
}

/// What L2 did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuestError {
    /// An access to L1's memory. It is not answered: a value would be L1's, and a fault would
    /// tell the guest of a machine that does not exist.
    #[error("{} {gpa:#x}, which is the L1 VMM's memory", access_name(*.write, *.fetch))]
    L1Memory {
        /// Guest-physical address.
        gpa: u64,
        /// The access was a write.
        write: bool,
        /// The access was an instruction fetch.
        fetch: bool,
    },
    /// An access to L2's own memory that the secure EPT does not let through.
    #[error(
        "access to {gpa:#x}, which was L2's memory and is {}",
        if *.pending { "pending acceptance" } else { "not mapped" }
    )]
    LostMemory {
        /// Guest-physical address.
        gpa: u64,
        /// The host removed the page and added it again.
        pending: bool,
    },
    /// An access to L2's own memory at its shared address. All of L2's memory is private: there
    /// is nothing, and never will be.
    #[error("access to {gpa:#x} as shared memory, of which L2 has none")]
    SharedMemory {
        /// Guest-physical address without the shared bit.
        gpa: u64,
    },
    /// An instruction that L1 cannot execute in L2's place.
    #[error(transparent)]
    Emulation(#[from] EmulationError),
    /// A task switch through a TSS.
    #[error("task switch to {:#x} by {}", switch.selector, source_name(switch.source))]
    TaskSwitch {
        /// Where to and how.
        switch: TaskSwitch,
    },
    /// The processor refuses L2's state.
    #[error("the processor refuses the guest state (qualification {qualification:#x})")]
    InvalidState {
        /// Exit qualification.
        qualification: u64,
    },
    /// L2 gave up by `TDG.VP.VMCALL<ReportFatalError>`.
    #[error("the guest reports fatal error {code:#x}: {}", Text(text))]
    FatalError {
        /// Its code.
        code: u64,
        /// Its words.
        text: [u8; 64],
    },
    /// An exit that L1 knows nothing to do about.
    #[error("exit {reason:#x} (qualification {qualification:#x})")]
    UnknownExit {
        /// Exit reason, all 32 bits.
        reason: u32,
        /// Exit qualification.
        qualification: u64,
    },
}

/// Why L1 cannot run L2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The module does not enter L2.
    #[error(transparent)]
    Enter(#[from] VpEnterError),
    /// A field of L2's VMCS cannot be reached.
    #[error("L2 VMCS field {:#06x}: {error}", field.0)]
    Vmcs {
        /// The field.
        field: VmcsField,
        /// Why.
        error: MetadataError,
    },
    /// Another field of the TD's or the virtual processor's cannot be reached.
    #[error("field {:#018x}: {error}", field.0)]
    Field {
        /// The field.
        field: FieldId,
        /// Why.
        error: MetadataError,
    },
    /// The host does not interrupt a virtual processor.
    #[error(
        "the host refuses WRMSR of the interrupt command register, which several virtual processors need: {0}"
    )]
    Kick(VmcallError),
    /// The TD's TSC frequency is zero.
    #[error("the TD has no TSC frequency")]
    NoTscFrequency,
}

impl End {
    /// Whether a PC goes on from here as from its reset button.
    pub const fn is_reset(&self) -> bool {
        matches!(self, Self::Reset | Self::TripleFault { .. })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => write!(f, "L2 powered off"),
            Self::Reset => write!(f, "L2 reset the machine"),
            Self::Halted { rip } => write!(f, "L2 halted for good at {rip:#x}"),
            Self::TripleFault {
                rip,
                event: Some(event),
            } => {
                write!(
                    f,
                    "L2 triple fault at {rip:#x} while delivering vector {}",
                    event.vector
                )
            }
            Self::TripleFault { rip, event: None } => write!(f, "L2 triple fault at {rip:#x}"),
            Self::GuestError { rip, error } => write!(f, "L2 at {rip:#x}: {error}"),
            Self::Failure(failure) => write!(f, "L1 cannot run L2: {failure}"),
            Self::Stopped => write!(f, "another virtual processor of L2's has ended the run"),
        }
    }
}

/// L2's registers and code, for a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// General registers, RIP, RFLAGS and interrupt status.
    pub state: GuestState,
    /// CR0, CR3, CR4 and EFER as L2 sees them.
    pub control: [u64; 4],
    /// CS selector and base.
    pub code: (u16, u64),
    /// The instruction that could not be emulated.
    pub instruction: Option<InstructionBytes>,
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 16] = [
            "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11",
            "r12", "r13", "r14", "r15",
        ];
        let (selector, base) = self.code;
        write!(
            f,
            "rip {:#x} rflags {:#x} cs {selector:#x}:{base:#x}",
            self.state.rip, self.state.rflags
        )?;
        for (name, value) in NAMES.iter().zip(self.state.gprs) {
            write!(f, " {name} {value:#x}")?;
        }
        let [cr0, cr3, cr4, efer] = self.control;
        write!(
            f,
            " cr0 {cr0:#x} cr3 {cr3:#x} cr4 {cr4:#x} efer {efer:#x} interrupts {:#06x}",
            self.state.interrupt_status
        )?;
        match &self.instruction {
            Some(instruction) => write!(f, " instruction {instruction}"),
            None => Ok(()),
        }
    }
}

/// Printable ASCII up to the first zero; anything else as a dot.
struct Text<'a>(&'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.iter().take_while(|byte| **byte != 0) {
            let character = if (0x20..0x7F).contains(byte) {
                char::from(*byte)
            } else {
                '.'
            };
            write!(f, "{character}")?;
        }
        Ok(())
    }
}

const fn access_name(write: bool, fetch: bool) -> &'static str {
    match (write, fetch) {
        (true, _) => "write to",
        (false, true) => "instruction fetch from",
        (false, false) => "read of",
    }
}

const fn source_name(source: TaskSwitchSource) -> &'static str {
    match source {
        TaskSwitchSource::Call => "CALL",
        TaskSwitchSource::Iret => "IRET",
        TaskSwitchSource::Jmp => "JMP",
        TaskSwitchSource::Gate => "a task gate",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_report_names_address_and_cause() {
        let error = GuestError::L1Memory {
            gpa: 0x3000_0000,
            write: false,
            fetch: false,
        };
        assert_eq!(
            End::GuestError { rip: 0x1000, error }.to_string(),
            "L2 at 0x1000: read of 0x30000000, which is the L1 VMM's memory"
        );
        let mut text = [0; 64];
        text[..6].copy_from_slice(b"no\x1b[0m");
        let error = GuestError::FatalError { code: 1, text };
        assert_eq!(
            error.to_string(),
            "the guest reports fatal error 0x1: no.[0m"
        );
    }
}
