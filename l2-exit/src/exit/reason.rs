//! Exit reasons as values (SDM Vol. 3C, appendix "VMX Basic Exit Reasons").

use tdx_defs::vmcs::InterruptionInfo;
use tdx_defs::vp_enter::Outcome;
use x86_defs::exit_reason;

use super::qualification::{
    ControlRegisterAccess, DebugRegisterAccess, DescriptorTable, EptViolation, ExceptionExit,
    IoAccess, OperandWidth, TaskSwitch,
};
use crate::event::Event;
use crate::vcpu::{Gpr, gpr_from_number};

/// VMX basic exit reason with its decoded qualification, for each reason that the TDX module
/// passes on to L1. Numbers in parentheses are the basic reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// L2 was not entered because an interrupt waits for L1 (status PENDING_INTERRUPT):
    /// nothing happened, prepared injections are still prepared.
    NotEntered,
    /// Exception in L1's exception bitmap (0).
    Exception(ExceptionExit),
    /// An interrupt of L1's or the host's (1). Nothing to do but let L1 have its interrupts.
    ExternalInterrupt,
    /// Triple fault (2).
    TripleFault,
    /// L2 can take an interrupt (7).
    InterruptWindow,
    /// L2 can take an NMI (8).
    NmiWindow,
    /// Task switch (9).
    TaskSwitch(TaskSwitch),
    /// CPUID (10).
    Cpuid,
    /// GETSEC (11).
    Getsec,
    /// HLT (12).
    Hlt,
    /// INVD (13).
    Invd,
    /// INVLPG (14).
    Invlpg {
        /// Linear address to invalidate.
        linear: u64,
    },
    /// RDPMC (15).
    Rdpmc,
    /// RDTSC (16).
    Rdtsc,
    /// RSM (17).
    Rsm,
    /// VMCALL (18).
    Vmcall,
    /// VMX instruction (19 to 27, 50, 53): #UD for an L2 that is offered no VMX.
    Vmx {
        /// Basic reason.
        basic: u16,
    },
    /// Control-register access (28).
    ControlRegister(ControlRegisterAccess),
    /// Debug-register access (29).
    DebugRegister(DebugRegisterAccess),
    /// I/O instruction (30).
    Io(IoAccess),
    /// RDMSR (31).
    Rdmsr,
    /// WRMSR (32).
    Wrmsr,
    /// VM entry refused because of invalid guest state (33 with bit 31): L2's state as L1 set
    /// it is inconsistent. L2 did not run.
    InvalidGuestState {
        /// Exit qualification.
        qualification: u64,
    },
    /// MWAIT (36).
    Mwait,
    /// MONITOR (39).
    Monitor,
    /// PAUSE (40).
    Pause,
    /// TPR below threshold (43).
    TprBelowThreshold,
    /// EOI of a vector in the EOI-exit bitmap (45). Trap-like: the EOI is done.
    VirtualizedEoi {
        /// The vector.
        vector: u8,
    },
    /// Descriptor-table access (46, 47).
    DescriptorTable {
        /// The instruction.
        instruction: DescriptorTable,
        /// VM-exit instruction information: where the operand is.
        information: u32,
        /// Displacement of the operand's address.
        displacement: u64,
    },
    /// EPT violation (48).
    EptViolation(EptViolation),
    /// RDTSCP (51).
    Rdtscp,
    /// VMX-preemption timer: the TSC deadline of TDG.VP.WR, or as far as it could be set (52).
    PreemptionTimer,
    /// WBINVD or WBNOINVD (54).
    Wbinvd {
        /// It was WBNOINVD.
        keep: bool,
    },
    /// XSETBV (55).
    Xsetbv,
    /// Write to a virtual APIC register that is not virtualized (56). Trap-like: the value is
    /// in the VAPIC page.
    ApicWrite {
        /// Offset of the register in the page.
        offset: u16,
    },
    /// RDRAND (57).
    Rdrand {
        /// Destination.
        to: Gpr,
        /// Its width.
        width: OperandWidth,
    },
    /// RDSEED (61).
    Rdseed {
        /// Destination.
        to: Gpr,
        /// Its width.
        width: OperandWidth,
    },
    /// INVPCID (58).
    Invpcid {
        /// Register that holds the type.
        kind: Gpr,
        /// VM-exit instruction information: where the descriptor is.
        information: u32,
        /// Displacement of the descriptor's address.
        displacement: u64,
    },
    /// VMFUNC (59).
    Vmfunc,
    /// ENCLS, ENCLV (60, 70).
    Encls,
    /// XSAVES (63).
    Xsaves,
    /// XRSTORS (64).
    Xrstors,
    /// PCONFIG (65).
    Pconfig,
    /// UMWAIT (67).
    Umwait {
        /// Register that holds the requested state.
        state: Gpr,
    },
    /// TPAUSE (68).
    Tpause {
        /// Register that holds the requested state.
        state: Gpr,
    },
    /// LOADIWKEY (69).
    Loadiwkey,
    /// SEAMCALL (76).
    Seamcall,
    /// TDCALL (77): see [`crate::tdvmcall`].
    Tdcall,
    /// Any other reason: none that a TDX module gives an L1 today.
    Other {
        /// The reason, all 32 bits.
        reason: u32,
        /// Exit qualification.
        qualification: u64,
    },
}

impl Reason {
    pub(super) fn decode(outcome: &Outcome) -> Self {
        let qualification = outcome.qualification;
        let information = outcome.instruction_info;
        if outcome.exit_reason & exit_reason::ENTRY_FAILURE != 0 {
            return match outcome.exit_reason & exit_reason::BASIC {
                exit_reason::INVALID_GUEST_STATE => Self::InvalidGuestState { qualification },
                _ => Self::Other {
                    reason: outcome.exit_reason,
                    qualification,
                },
            };
        }
        match outcome.exit_reason & exit_reason::BASIC {
            // First: the only reason on the device path.
            exit_reason::EPT_VIOLATION => Self::EptViolation(EptViolation::decode(
                qualification,
                outcome.gla,
                outcome.gpa,
                outcome.extended_qualification,
            )),
            exit_reason::EXCEPTION_OR_NMI => exception(outcome),
            exit_reason::EXTERNAL_INTERRUPT => Self::ExternalInterrupt,
            exit_reason::TRIPLE_FAULT => Self::TripleFault,
            exit_reason::INTERRUPT_WINDOW => Self::InterruptWindow,
            exit_reason::NMI_WINDOW => Self::NmiWindow,
            exit_reason::TASK_SWITCH => Self::TaskSwitch(TaskSwitch::decode(qualification)),
            exit_reason::CPUID => Self::Cpuid,
            exit_reason::GETSEC => Self::Getsec,
            exit_reason::HLT => Self::Hlt,
            exit_reason::INVD => Self::Invd,
            exit_reason::INVLPG => Self::Invlpg {
                linear: qualification,
            },
            exit_reason::RDPMC => Self::Rdpmc,
            exit_reason::RDTSC => Self::Rdtsc,
            exit_reason::RSM => Self::Rsm,
            exit_reason::VMCALL => Self::Vmcall,
            basic @ (exit_reason::VMCLEAR..=exit_reason::VMXON
            | exit_reason::INVEPT
            | exit_reason::INVVPID) => Self::Vmx {
                basic: basic as u16,
            },
            exit_reason::CR_ACCESS => {
                Self::ControlRegister(ControlRegisterAccess::decode(qualification))
            }
            exit_reason::DR_ACCESS => {
                Self::DebugRegister(DebugRegisterAccess::decode(qualification))
            }
            exit_reason::IO_INSTRUCTION => Self::Io(IoAccess::decode(qualification, information)),
            exit_reason::RDMSR => Self::Rdmsr,
            exit_reason::WRMSR => Self::Wrmsr,
            exit_reason::MWAIT => Self::Mwait,
            exit_reason::MONITOR => Self::Monitor,
            exit_reason::PAUSE => Self::Pause,
            exit_reason::TPR_BELOW_THRESHOLD => Self::TprBelowThreshold,
            exit_reason::VIRTUALIZED_EOI => Self::VirtualizedEoi {
                vector: qualification as u8,
            },
            exit_reason::GDTR_IDTR_ACCESS => Self::DescriptorTable {
                instruction: DescriptorTable::gdtr_or_idtr(information),
                information,
                displacement: qualification,
            },
            exit_reason::LDTR_TR_ACCESS => Self::DescriptorTable {
                instruction: DescriptorTable::ldtr_or_tr(information),
                information,
                displacement: qualification,
            },
            exit_reason::RDTSCP => Self::Rdtscp,
            exit_reason::PREEMPTION_TIMER => Self::PreemptionTimer,
            exit_reason::WBINVD => Self::Wbinvd {
                keep: qualification != 0,
            },
            exit_reason::XSETBV => Self::Xsetbv,
            exit_reason::APIC_WRITE => Self::ApicWrite {
                offset: (qualification & 0xFFF) as u16,
            },
            exit_reason::RDRAND => Self::Rdrand {
                to: operand_register(information),
                width: OperandWidth::decode((information >> 11) as u8),
            },
            exit_reason::RDSEED => Self::Rdseed {
                to: operand_register(information),
                width: OperandWidth::decode((information >> 11) as u8),
            },
            exit_reason::INVPCID => Self::Invpcid {
                kind: gpr_from_number((information >> 28) as u8),
                information,
                displacement: qualification,
            },
            exit_reason::VMFUNC => Self::Vmfunc,
            exit_reason::ENCLS | exit_reason::ENCLV => Self::Encls,
            exit_reason::XSAVES => Self::Xsaves,
            exit_reason::XRSTORS => Self::Xrstors,
            exit_reason::PCONFIG => Self::Pconfig,
            exit_reason::UMWAIT => Self::Umwait {
                state: operand_register(information),
            },
            exit_reason::TPAUSE => Self::Tpause {
                state: operand_register(information),
            },
            exit_reason::LOADIWKEY => Self::Loadiwkey,
            exit_reason::SEAMCALL => Self::Seamcall,
            exit_reason::TDCALL => Self::Tdcall,
            _ => Self::Other {
                reason: outcome.exit_reason,
                qualification,
            },
        }
    }

    /// Whether the exit was caused by an instruction that has not executed and whose length
    /// the exit gives: L1 executes it and steps over it by [`crate::Exit::instruction_length`].
    ///
    /// Not so for event exits (1, 2, 7, 8, 52), trap-like ones (43, 45, 56), faults (0, 33,
    /// 48), and a TDCALL that the host served.
    pub const fn is_instruction(&self) -> bool {
        !matches!(
            self,
            Self::NotEntered
                | Self::Exception(_)
                | Self::ExternalInterrupt
                | Self::TripleFault
                | Self::InterruptWindow
                | Self::NmiWindow
                | Self::TaskSwitch(_)
                | Self::InvalidGuestState { .. }
                | Self::TprBelowThreshold
                | Self::VirtualizedEoi { .. }
                | Self::EptViolation(_)
                | Self::PreemptionTimer
                | Self::ApicWrite { .. }
                | Self::Other { .. }
        )
    }
}

/// Bits 6:3 of the instruction information of RDRAND, RDSEED, UMWAIT and TPAUSE.
const fn operand_register(information: u32) -> Gpr {
    gpr_from_number((information >> 3) as u8)
}

fn exception(outcome: &Outcome) -> Reason {
    let information = InterruptionInfo::from_bits(outcome.intr_info);
    let event =
        Event::from_information(information, outcome.intr_error, outcome.instruction_length);
    match event {
        Some(event) => Reason::Exception(ExceptionExit {
            event,
            qualification: outcome.qualification,
            nmi_unblocked: information.nmi_unblocking(),
        }),
        None => Reason::Other {
            reason: outcome.exit_reason,
            qualification: outcome.qualification,
        },
    }
}
