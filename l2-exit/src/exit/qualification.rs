//! Exit qualifications as values (SDM Vol. 3C, "Exit Qualification" and "VM-Exit Instruction
//! Information").

use tdx_defs::ghci::Width;
use tdx_defs::vmcs::{
    CrAccess, CrQualification, EptViolationQualification, IoInstructionInfo, IoQualification,
};
use tdx_defs::vp_enter::Outcome;

use crate::event::Event;
use crate::vcpu::{Gpr, SegmentRegister, gpr_from_number};

/// EPT violation (reason 48): SDM Vol. 3C, table "Exit Qualification for EPT Violations".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EptViolation {
    /// Guest-physical address, with its shared bit and its offset in the page.
    pub gpa: u64,
    /// Guest linear address, if the exit has one (bit 7).
    pub linear: Option<u64>,
    /// The access was a read (bit 0). A read-modify-write may set this and `write`.
    pub read: bool,
    /// The access was a write (bit 1).
    pub write: bool,
    /// The access was an instruction fetch (bit 2).
    pub fetch: bool,
    /// The access was to the page that `linear` translates to (bit 8), not to a paging
    /// structure on the way there.
    pub final_access: bool,
    /// L2 executed IRET and thereby ended blocking by NMI (bit 12): if no event was being
    /// delivered, L1 must block NMIs again before it enters L2.
    pub nmi_unblocked: bool,
    /// The page is pending: the host added it and L1 has not accepted it (extended exit
    /// qualification type 6).
    pub pending: bool,
}

impl EptViolation {
    /// Decodes qualification, linear and guest-physical address, extended qualification.
    pub const fn decode(qualification: u64, linear: u64, gpa: u64, extended: u64) -> Self {
        let bits = EptViolationQualification::from_bits(qualification);
        Self {
            gpa,
            linear: if bits.linear_valid() {
                Some(linear)
            } else {
                None
            },
            read: bits.read(),
            write: bits.write(),
            fetch: bits.fetch(),
            final_access: bits.linear_valid() && bits.translated(),
            nmi_unblocked: bits.nmi_unblocking(),
            pending: extended & 0xF == Outcome::EXTENDED_PENDING_EPT_VIOLATION,
        }
    }
}

/// I/O instruction (reason 30): SDM Vol. 3C, table "Exit Qualification for I/O Instructions".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoAccess {
    /// Port number.
    pub port: u16,
    /// Bytes an access moves; None for a size the processor cannot report.
    pub width: Option<Width>,
    /// IN or INS.
    pub input: bool,
    /// INS or OUTS.
    pub string: Option<IoString>,
    /// The qualification as it came.
    pub qualification: u64,
}

/// What sets INS and OUTS apart from IN and OUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoString {
    /// With a REP prefix.
    pub repeat: bool,
    /// Address size: how much of RCX, RSI and RDI counts.
    pub address: OperandWidth,
    /// Segment of the source of OUTS. INS always writes through ES.
    pub segment: SegmentRegister,
}

/// Size of an operand or address that can be 16, 32 or 64 bits wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperandWidth {
    /// 16 bits.
    Bits16,
    /// 32 bits.
    Bits32,
    /// 64 bits.
    Bits64,
}

impl OperandWidth {
    /// The encoding 0, 1, 2 of the instruction information. 3 does not occur.
    pub const fn decode(encoding: u8) -> Self {
        match encoding & 0b11 {
            0 => Self::Bits16,
            1 => Self::Bits32,
            _ => Self::Bits64,
        }
    }

    /// All the bits of a value of this width.
    pub const fn mask(self) -> u64 {
        match self {
            Self::Bits16 => 0xFFFF,
            Self::Bits32 => 0xFFFF_FFFF,
            Self::Bits64 => u64::MAX,
        }
    }
}

impl IoAccess {
    /// Decodes qualification and instruction information.
    pub const fn decode(qualification: u64, information: u32) -> Self {
        let bits = IoQualification::from_bits(qualification);
        let information = IoInstructionInfo::from_bits(information);
        Self {
            port: bits.port(),
            width: Width::from_bytes(bits.size_minus_one() as u64 + 1),
            input: bits.direction_in(),
            string: if bits.string() {
                Some(IoString {
                    repeat: bits.rep(),
                    address: OperandWidth::decode(information.address_size()),
                    segment: segment(information.segment_register()),
                })
            } else {
                None
            },
            qualification,
        }
    }
}

const fn segment(encoding: u8) -> SegmentRegister {
    match encoding {
        0 => SegmentRegister::Es,
        1 => SegmentRegister::Cs,
        2 => SegmentRegister::Ss,
        4 => SegmentRegister::Fs,
        5 => SegmentRegister::Gs,
        _ => SegmentRegister::Ds,
    }
}

/// Exception or NMI (reason 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExceptionExit {
    /// The exception, as it would have to be injected to let L2 have it.
    pub event: Event,
    /// Linear address for #PF, new DR6 bits for #DB, else 0.
    pub qualification: u64,
    /// The exception arose in an IRET that ended blocking by NMI (bit 12 of the information).
    pub nmi_unblocked: bool,
}

/// Control-register access (reason 28).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRegisterAccess {
    /// MOV to CR.
    Write {
        /// Number of the control register.
        number: u8,
        /// Source.
        from: Gpr,
    },
    /// MOV from CR.
    Read {
        /// Number of the control register.
        number: u8,
        /// Destination.
        to: Gpr,
    },
    /// CLTS.
    Clts,
    /// LMSW with its source operand.
    Lmsw {
        /// The operand.
        value: u16,
    },
}

impl ControlRegisterAccess {
    /// Decodes the qualification.
    pub const fn decode(qualification: u64) -> Self {
        let bits = CrQualification::from_bits(qualification);
        let number = bits.control_register();
        let register = gpr_from_number(bits.gpr());
        match bits.access() {
            CrAccess::MovToCr => Self::Write {
                number,
                from: register,
            },
            CrAccess::MovFromCr => Self::Read {
                number,
                to: register,
            },
            CrAccess::Clts => Self::Clts,
            CrAccess::Lmsw => Self::Lmsw {
                value: bits.lmsw_source(),
            },
        }
    }
}

/// MOV to or from a debug register (reason 29).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugRegisterAccess {
    /// Number of the debug register.
    pub number: u8,
    /// MOV from the debug register to `register`.
    pub read: bool,
    /// The general register.
    pub register: Gpr,
}

impl DebugRegisterAccess {
    /// Decodes the qualification.
    pub const fn decode(qualification: u64) -> Self {
        Self {
            number: (qualification & 0b111) as u8,
            read: qualification >> 4 & 1 != 0,
            register: gpr_from_number((qualification >> 8) as u8),
        }
    }
}

/// Task switch (reason 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskSwitch {
    /// Selector of the new task's TSS.
    pub selector: u16,
    /// What switches.
    pub source: TaskSwitchSource,
}

/// What caused a task switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskSwitchSource {
    /// CALL.
    Call,
    /// IRET.
    Iret,
    /// JMP.
    Jmp,
    /// A task gate in the IDT.
    Gate,
}

impl TaskSwitch {
    /// Decodes the qualification.
    pub const fn decode(qualification: u64) -> Self {
        Self {
            selector: qualification as u16,
            source: match qualification >> 30 & 0b11 {
                0 => TaskSwitchSource::Call,
                1 => TaskSwitchSource::Iret,
                2 => TaskSwitchSource::Jmp,
                _ => TaskSwitchSource::Gate,
            },
        }
    }
}

/// Instruction that loads or stores a descriptor-table register (reasons 46 and 47).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescriptorTable {
    /// SGDT.
    Sgdt,
    /// SIDT.
    Sidt,
    /// LGDT.
    Lgdt,
    /// LIDT.
    Lidt,
    /// SLDT.
    Sldt,
    /// STR.
    Str,
    /// LLDT.
    Lldt,
    /// LTR.
    Ltr,
}

impl DescriptorTable {
    /// Reason 46, from the instruction information.
    pub const fn gdtr_or_idtr(information: u32) -> Self {
        match information >> 28 & 0b11 {
            0 => Self::Sgdt,
            1 => Self::Sidt,
            2 => Self::Lgdt,
            _ => Self::Lidt,
        }
    }

    /// Reason 47, from the instruction information.
    pub const fn ldtr_or_tr(information: u32) -> Self {
        match information >> 28 & 0b11 {
            0 => Self::Sldt,
            1 => Self::Str,
            2 => Self::Lldt,
            _ => Self::Ltr,
        }
    }
}
