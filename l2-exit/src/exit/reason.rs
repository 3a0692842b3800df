//! Exit reasons as values (SDM Vol. 3C, appendix "VMX Basic Exit Reasons").

use tdx_defs::vmcs::InterruptionInfo;
use tdx_defs::vp_enter::Outcome;

use super::qualification::{
    ControlRegisterAccess, DebugRegisterAccess, DescriptorTable, EptViolation, ExceptionExit,
    IoAccess, OperandWidth, TaskSwitch,
};
use crate::event::Event;
use crate::vcpu::{Gpr, gpr_from_number};

/// Exit reason bit 26: bus lock asserted.
pub(super) const BUS_LOCK: u32 = 1 << 26;
/// Exit reason bit 31: the VM entry failed.
const ENTRY_FAILURE: u32 = 1 << 31;

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
        if outcome.exit_reason & ENTRY_FAILURE != 0 {
            return match outcome.exit_reason & 0xFFFF {
                33 => Self::InvalidGuestState { qualification },
                _ => Self::Other {
                    reason: outcome.exit_reason,
                    qualification,
                },
            };
        }
        match outcome.exit_reason & 0xFFFF {
            // First: the only reason on the device path.
            48 => Self::EptViolation(EptViolation::decode(
                qualification,
                outcome.gla,
                outcome.gpa,
                outcome.extended_qualification,
            )),
            0 => exception(outcome),
            1 => Self::ExternalInterrupt,
            2 => Self::TripleFault,
            7 => Self::InterruptWindow,
            8 => Self::NmiWindow,
            9 => Self::TaskSwitch(TaskSwitch::decode(qualification)),
            10 => Self::Cpuid,
            11 => Self::Getsec,
            12 => Self::Hlt,
            13 => Self::Invd,
            14 => Self::Invlpg {
                linear: qualification,
            },
            15 => Self::Rdpmc,
            16 => Self::Rdtsc,
            17 => Self::Rsm,
            18 => Self::Vmcall,
            basic @ (19..=27 | 50 | 53) => Self::Vmx {
                basic: basic as u16,
            },
            28 => Self::ControlRegister(ControlRegisterAccess::decode(qualification)),
            29 => Self::DebugRegister(DebugRegisterAccess::decode(qualification)),
            30 => Self::Io(IoAccess::decode(qualification, information)),
            31 => Self::Rdmsr,
            32 => Self::Wrmsr,
            36 => Self::Mwait,
            39 => Self::Monitor,
            40 => Self::Pause,
            43 => Self::TprBelowThreshold,
            45 => Self::VirtualizedEoi {
                vector: qualification as u8,
            },
            46 => Self::DescriptorTable {
                instruction: DescriptorTable::gdtr_or_idtr(information),
                information,
                displacement: qualification,
            },
            47 => Self::DescriptorTable {
                instruction: DescriptorTable::ldtr_or_tr(information),
                information,
                displacement: qualification,
            },
            51 => Self::Rdtscp,
            52 => Self::PreemptionTimer,
            54 => Self::Wbinvd {
                keep: qualification != 0,
            },
            55 => Self::Xsetbv,
            56 => Self::ApicWrite {
                offset: (qualification & 0xFFF) as u16,
            },
            57 => Self::Rdrand {
                to: operand_register(information),
                width: OperandWidth::decode((information >> 11) as u8),
            },
            61 => Self::Rdseed {
                to: operand_register(information),
                width: OperandWidth::decode((information >> 11) as u8),
            },
            58 => Self::Invpcid {
                kind: gpr_from_number((information >> 28) as u8),
                information,
                displacement: qualification,
            },
            59 => Self::Vmfunc,
            60 | 70 => Self::Encls,
            63 => Self::Xsaves,
            64 => Self::Xrstors,
            65 => Self::Pconfig,
            67 => Self::Umwait {
                state: operand_register(information),
            },
            68 => Self::Tpause {
                state: operand_register(information),
            },
            69 => Self::Loadiwkey,
            76 => Self::Seamcall,
            77 => Self::Tdcall,
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
