//! Numbers of TDG.VP.VMCALL (Guest-Hypervisor Communication Interface for Intel TDX, "GHCI" 1.5,
//! section "TDG.VP.VMCALL leaf").

/// Sub-functions of a standard TDVMCALL, R11.
pub mod sub_function {
    /// Instruction.CPUID.
    pub const CPUID: u64 = 10;
    /// Instruction.HLT.
    pub const HLT: u64 = 12;
    /// Instruction.IO.
    pub const IO: u64 = 30;
    /// Instruction.RDMSR.
    pub const RDMSR: u64 = 31;
    /// Instruction.WRMSR.
    pub const WRMSR: u64 = 32;
    /// #VE.RequestMMIO.
    pub const MMIO: u64 = 48;
    /// Instruction.WBINVD.
    pub const WBINVD: u64 = 54;
    /// Instruction.PCONFIG.
    pub const PCONFIG: u64 = 65;
    /// GetTdVmCallInfo.
    pub const GET_TD_VM_CALL_INFO: u64 = 0x10000;
    /// MapGPA.
    pub const MAP_GPA: u64 = 0x10001;
    /// GetQuote.
    pub const GET_QUOTE: u64 = 0x10002;
    /// ReportFatalError: R12 bits 31:0 are the error code, of which only 0 (panic) is not reserved, and bits 62:32 the
    /// extended one, which is the TD's own. QEMU takes any other error code for no report at all.
    pub const REPORT_FATAL_ERROR: u64 = 0x10003;
    /// SetupEventNotifyInterrupt.
    pub const SETUP_EVENT_NOTIFY_INTERRUPT: u64 = 0x10004;
    /// Service.
    pub const SERVICE: u64 = 0x10005;
}

/// R10 of a standard TDVMCALL.
pub const STANDARD: u64 = 0;

/// Direction of Instruction.IO and RequestMMIO: read.
pub const DIRECTION_READ: u64 = 0;
/// Direction of Instruction.IO and RequestMMIO: write.
pub const DIRECTION_WRITE: u64 = 1;

/// Which registers a TDVMCALL passes, RCX. A register not in the mask keeps its value and the
/// host sees 0.
pub mod mask {
    /// RDX.
    pub const RDX: u64 = 1 << 2;
    /// RBX.
    pub const RBX: u64 = 1 << 3;
    /// RBP: refused where CONFIG_FLAGS.NO_RBP_MOD is set.
    pub const RBP: u64 = 1 << 5;
    /// RSI.
    pub const RSI: u64 = 1 << 6;
    /// RDI.
    pub const RDI: u64 = 1 << 7;
    /// R8.
    pub const R8: u64 = 1 << 8;
    /// R9.
    pub const R9: u64 = 1 << 9;
    /// R10 to R15: what every standard sub-function passes.
    pub const R10_TO_R15: u64 = 0xFC00;
    /// R10 to R15, RDX, RBX, RSI, RDI, R8 and R9: everything but RBP.
    pub const WIDE: u64 = R10_TO_R15 | RDX | RBX | RSI | RDI | R8 | R9;
    /// Bits that are always refused: RAX, RCX, RSP and 63:32.
    pub const FORBIDDEN: u64 = 0xFFFF_FFFF_0000_0000 | 1 << 4 | 0b11;
}

/// Completion status of a TDVMCALL, R10. The host's word: not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompletionStatus {
    /// TDG.VP.VMCALL_SUCCESS.
    Success,
    /// TDG.VP.VMCALL_RETRY: the same call again, perhaps from a later address.
    Retry,
    /// TDG.VP.VMCALL_INVALID_OPERAND.
    InvalidOperand,
    /// TDG.VP.VMCALL_GPA_INUSE.
    GpaInUse,
    /// TDG.VP.VMCALL_ALIGN_ERROR.
    AlignError,
    /// TDG.VP.VMCALL_SUBFUNC_UNSUPPORTED. Older hosts answer INVALID_OPERAND instead.
    SubfuncUnsupported,
    /// Nothing the GHCI defines.
    Unknown(u64),
}

impl CompletionStatus {
    /// Decodes R10.
    pub const fn from_r10(r10: u64) -> Self {
        match r10 {
            0 => Self::Success,
            1 => Self::Retry,
            0x8000_0000_0000_0000 => Self::InvalidOperand,
            0x8000_0000_0000_0001 => Self::GpaInUse,
            0x8000_0000_0000_0002 => Self::AlignError,
            0x8000_0000_0000_0003 => Self::SubfuncUnsupported,
            other => Self::Unknown(other),
        }
    }

    /// The value of R10.
    pub const fn r10(self) -> u64 {
        match self {
            Self::Success => 0,
            Self::Retry => 1,
            Self::InvalidOperand => 0x8000_0000_0000_0000,
            Self::GpaInUse => 0x8000_0000_0000_0001,
            Self::AlignError => 0x8000_0000_0000_0002,
            Self::SubfuncUnsupported => 0x8000_0000_0000_0003,
            Self::Unknown(value) => value,
        }
    }
}

/// Width of a port access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Width {
    /// 8 bits.
    Byte = 1,
    /// 16 bits.
    Word = 2,
    /// 32 bits.
    Dword = 4,
}

impl Width {
    /// The width of so many bytes.
    pub const fn from_bytes(bytes: u64) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Word),
            4 => Some(Self::Dword),
            _ => None,
        }
    }

    /// Number of bytes.
    pub const fn bytes(self) -> u64 {
        self as u64
    }

    /// The bits of a value this wide.
    pub const fn mask(self) -> u32 {
        match self {
            Self::Byte => 0xFF,
            Self::Word => 0xFFFF,
            Self::Dword => 0xFFFF_FFFF,
        }
    }
}

/// Width of an MMIO access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MmioWidth {
    /// 8 bits.
    Byte = 1,
    /// 16 bits.
    Word = 2,
    /// 32 bits.
    Dword = 4,
    /// 64 bits.
    Qword = 8,
}

impl MmioWidth {
    /// The width of so many bytes.
    pub const fn from_bytes(bytes: u64) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Word),
            4 => Some(Self::Dword),
            8 => Some(Self::Qword),
            _ => None,
        }
    }

    /// Number of bytes.
    pub const fn bytes(self) -> u64 {
        self as u64
    }

    /// The bits of a value this wide.
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wide_mask_is_the_one_hosts_know() {
        assert_eq!(mask::WIDE, 0xFFCC);
        assert_eq!(mask::WIDE & mask::FORBIDDEN, 0);
    }

    #[test]
    fn a_completion_status_survives_a_round_trip() {
        for r10 in [
            0,
            1,
            2,
            1 << 63,
            1 << 63 | 1,
            1 << 63 | 2,
            1 << 63 | 3,
            1 << 63 | 4,
            u64::MAX,
        ] {
            assert_eq!(CompletionStatus::from_r10(r10).r10(), r10);
        }
    }

    #[test]
    fn masks_cover_their_width() {
        assert_eq!(MmioWidth::Qword.mask(), u64::MAX);
        assert_eq!(MmioWidth::Byte.mask(), 0xFF);
        assert_eq!(Width::Word.mask(), 0xFFFF);
    }
}
