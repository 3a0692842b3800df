//! Completion status of a TDCALL (RAX).
//!
//! A status is never compared as a whole number: its low half carries details (an operand, a page
//! level, a VMX exit reason). [`Status::code`] decodes the high half into [`Code`], and a value
//! nobody knows stays in [`Code::Unknown`].

use core::fmt;

/// A completion status as RAX holds it (TDX Module ABI, "Function Completion Status").
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Status(pub u64);

impl Status {
    /// TDX_SUCCESS with no details.
    pub const SUCCESS: Self = Self(0);

    const ERROR: u64 = 1 << 63;
    const NON_RECOVERABLE: u64 = 1 << 62;
    const FATAL: u64 = 1 << 61;
    const HOST_RECOVERABILITY_HINT: u64 = 1 << 60;

    /// A status from its code and its low half.
    pub const fn new(code: Code, details_l2: u32) -> Self {
        Self((code.upper32() as u64) << 32 | details_l2 as u64)
    }

    /// TDX_OPERAND_INVALID for `operand`.
    pub const fn operand_invalid(operand: Operand) -> Self {
        Self::new(Code::OperandInvalid, operand.0)
    }

    /// TDX_OPERAND_BUSY for `operand`.
    pub const fn operand_busy(operand: Operand) -> Self {
        Self::new(Code::OperandBusy, operand.0)
    }

    /// What the status says, without its low half and without the host's hint (bit 60).
    pub const fn code(self) -> Code {
        Code::from_upper32(((self.0 & !Self::HOST_RECOVERABILITY_HINT) >> 32) as u32)
    }

    /// Bits 63:32 as they are.
    pub const fn upper32(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// DETAILS_L2, bits 31:0: operand, level or VMX exit reason, as the code says.
    pub const fn details_l2(self) -> u32 {
        self.0 as u32
    }

    /// CLASS, bits 47:40.
    pub const fn class(self) -> u8 {
        (self.0 >> 40) as u8
    }

    /// DETAILS_L1, bits 39:32: the code within its class.
    pub const fn details(self) -> u8 {
        (self.0 >> 32) as u8
    }

    /// DETAILS_L2 read as the operand that the call stumbled over.
    pub const fn operand(self) -> Operand {
        Operand(self.details_l2())
    }

    /// ERROR, bit 63. A warning (for example [`Code::PageAlreadyAccepted`]) is no error.
    pub const fn is_error(self) -> bool {
        self.0 & Self::ERROR != 0
    }

    /// FATAL, bit 61: the TD can not run on.
    pub const fn is_fatal(self) -> bool {
        self.0 & Self::FATAL != 0
    }

    /// An error that the same call may not meet again (busy, interrupted): bits 63:62 are 10b.
    pub const fn is_recoverable(self) -> bool {
        self.0 & (Self::ERROR | Self::NON_RECOVERABLE) == Self::ERROR
    }

    /// HOST_RECOVERABILITY_HINT, bit 60: set by the host, so no more than a hint.
    pub const fn host_recoverability_hint(self) -> bool {
        self.0 & Self::HOST_RECOVERABILITY_HINT != 0
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({:#018x})", self.code(), self.0)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        /// What happened, bits 63:32 of a status (TDX Module ABI, "Function Completion Status
        /// Codes"). Only codes that a TD can see are named.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// A code this crate does not know; the value is bits 63:32.
            Unknown(u32),
        }

        impl Code {
            /// Decodes bits 63:32.
            pub const fn from_upper32(upper32: u32) -> Self {
                match upper32 {
                    $($value => Self::$name,)*
                    other => Self::Unknown(other),
                }
            }

            /// Bits 63:32 of a status with this code.
            pub const fn upper32(self) -> u32 {
                match self {
                    $(Self::$name => $value,)*
                    Self::Unknown(value) => value,
                }
            }
        }

        #[cfg(test)]
        const ALL: &[Code] = &[$(Code::$name,)*];
    };
}

codes! {
    /// TDX_SUCCESS. TDG.VP.ENTER: L2 ran and exited; the low half is the VMX exit reason.
    Success = 0x0000_0000,
    /// TDX_INTERRUPTED_RESUMABLE: the same call continues where it stopped.
    InterruptedResumable = 0x8000_0003,
    /// TDX_OPERAND_INVALID; the low half is the operand.
    OperandInvalid = 0xC000_0100,
    /// TDX_OPERAND_BUSY; the low half is the operand.
    OperandBusy = 0x8000_0200,
    /// TDX_TD_VMCS_FIELD_NOT_INITIALIZED; the low half is the VMCS encoding.
    TdVmcsFieldNotInitialized = 0xC000_0730,
    /// TDX_NO_VALID_VE_INFO: no #VE is pending.
    NoValidVeInfo = 0xC000_0704,
    /// TDX_EPT_WALK_FAILED. A TD never gets it; a failed walk becomes a TD exit.
    EptWalkFailed = 0xC000_0B00,
    /// TDX_PAGE_ALREADY_ACCEPTED, a warning; the low half is the level found.
    PageAlreadyAccepted = 0x0000_0B0A,
    /// TDX_PAGE_SIZE_MISMATCH; the low half is the level asked for.
    PageSizeMismatch = 0xC000_0B0B,
    /// TDX_L2_SEPT_WALK_FAILED; the low half is VM index 31:16 and level 15:0.
    L2SeptWalkFailed = 0xC000_0B0F,
    /// TDX_PAGE_ATTR_INVALID.
    PageAttrInvalid = 0xC000_0B11,
    /// TDX_METADATA_FIELD_ID_INCORRECT.
    MetadataFieldIdIncorrect = 0xC000_0C00,
    /// TDX_METADATA_FIELD_NOT_WRITABLE.
    MetadataFieldNotWritable = 0xC000_0C01,
    /// TDX_METADATA_FIELD_NOT_READABLE.
    MetadataFieldNotReadable = 0xC000_0C02,
    /// TDX_METADATA_FIELD_VALUE_NOT_VALID.
    MetadataFieldValueNotValid = 0xC000_0C03,
    /// TDX_METADATA_LIST_OVERFLOW: more fields remain than the list holds.
    MetadataListOverflow = 0xC000_0C04,
    /// TDX_METADATA_FIRST_FIELD_ID_IN_CONTEXT: the field id was −1, the first one is returned.
    MetadataFirstFieldIdInContext = 0x0000_0C0B,
    /// TDX_INVALID_CPUSVN.
    InvalidCpusvn = 0xC000_1000,
    /// TDX_INVALID_REPORTMACSTRUCT.
    InvalidReportmacstruct = 0xC000_1001,
    /// TDX_MR_KEY_GET_NOT_SUPPORTED: TDG.MR.KEY.GET is not enabled for the TD.
    MrKeyGetNotSupported = 0xC000_1004,
    /// TDX_SVN_INVALID: a key is asked for with a TCB that the platform does not have.
    SvnInvalid = 0xC000_1006,
    /// TDX_L2_EXIT_HOST_ROUTED_ASYNC; the low half is the VMX exit reason.
    L2ExitHostRoutedAsync = 0x0000_1100,
    /// TDX_L2_EXIT_HOST_ROUTED_TDVMCALL; the low half is the VMX exit reason.
    L2ExitHostRoutedTdvmcall = 0x0000_1101,
    /// TDX_L2_EXIT_PENDING_INTERRUPT; the low half is the VMX exit reason.
    L2ExitPendingInterrupt = 0x0000_1102,
    /// TDX_PENDING_INTERRUPT: an interrupt for L1 is pending, L2 was not entered.
    PendingInterrupt = 0x0000_1120,
    /// TDX_TD_EXIT_BEFORE_L2_ENTRY. Meant for the host of a debug TD.
    TdExitBeforeL2Entry = 0x0000_1140,
    /// TDX_TD_EXIT_ON_L2_VM_EXIT. Meant for the host of a debug TD.
    TdExitOnL2VmExit = 0x0000_1141,
    /// TDX_TD_EXIT_ON_L2_TO_L1. Meant for the host of a debug TD.
    TdExitOnL2ToL1 = 0x0000_1142,
    /// TDX_GLA_NOT_CANONICAL.
    GlaNotCanonical = 0xC000_1160,
}

/// What an operand status is about (TDX Module ABI, "Function Completion Status Operand IDs").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Operand(pub u32);

impl Operand {
    /// RAX: the leaf number or its version.
    pub const RAX: Self = Self(0);
    /// RCX.
    pub const RCX: Self = Self(1);
    /// RDX.
    pub const RDX: Self = Self(2);
    /// RBX.
    pub const RBX: Self = Self(3);
    /// RBP.
    pub const RBP: Self = Self(5);
    /// RSI.
    pub const RSI: Self = Self(6);
    /// RDI.
    pub const RDI: Self = Self(7);
    /// R8.
    pub const R8: Self = Self(8);
    /// R9.
    pub const R9: Self = Self(9);
    /// R10.
    pub const R10: Self = Self(10);
    /// R11.
    pub const R11: Self = Self(11);
    /// R12.
    pub const R12: Self = Self(12);
    /// R13.
    pub const R13: Self = Self(13);
    /// R14.
    pub const R14: Self = Self(14);
    /// R15.
    pub const R15: Self = Self(15);
    /// NUM_L2_VMS in TD_PARAMS.
    pub const NUM_L2_VMS: Self = Self(71);
    /// KEYNAME in a TDKEYREQUEST.
    pub const KEYNAME: Self = Self(100);
    /// KEYSIZE_BITMAP in a TDKEYREQUEST.
    pub const KEYSIZE_BITMAP: Self = Self(108);
    /// TDR page.
    pub const TDR: Self = Self(128);
    /// TDCS pages.
    pub const TDCS: Self = Self(144);
    /// TDVPS pages.
    pub const TDVPS: Self = Self(145);
    /// Secure EPT tree.
    pub const SEPT_TREE: Self = Self(146);
    /// Secure EPT entry.
    pub const SEPT_ENTRY: Self = Self(147);
    /// The RTMRs.
    pub const RTMR: Self = Self(168);
    /// TD epoch.
    pub const TD_EPOCH: Self = Self(169);
    /// L2's virtual-APIC page: its GPA was never written.
    pub const L2_VAPIC_GPA: Self = Self(170);
    /// TD operation state.
    pub const OP_STATE: Self = Self(172);
    /// Service TD bindings.
    pub const SERVTD_BINDINGS: Self = Self(174);
    /// A metadata field.
    pub const METADATA_FIELD: Self = Self(176);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_a_round_trip() {
        for &code in ALL {
            assert_eq!(Status::new(code, 0x1234_5678).code(), code);
            assert_eq!(Status::new(code, 7).details_l2(), 7);
        }
        assert_eq!(
            Status(0xDEAD_BEEF_0000_0000 & !(1 << 60)).code(),
            Code::Unknown(0xCEAD_BEEF)
        );
    }

    #[test]
    fn only_busy_and_interrupted_are_recoverable() {
        for &code in ALL {
            let expected = matches!(code, Code::OperandBusy | Code::InterruptedResumable);
            assert_eq!(Status::new(code, 0).is_recoverable(), expected, "{code:?}");
        }
    }

    #[test]
    fn the_hint_of_the_host_does_not_change_the_code() {
        let status = Status(Status::operand_busy(Operand::RTMR).0 | 1 << 60);
        assert_eq!(status.code(), Code::OperandBusy);
        assert!(status.host_recoverability_hint());
        assert_eq!(status.operand(), Operand::RTMR);
    }

    #[test]
    fn warnings_are_no_errors() {
        assert!(!Status::new(Code::PageAlreadyAccepted, 1).is_error());
        assert!(Status::new(Code::PageSizeMismatch, 1).is_error());
        assert_eq!(Status::new(Code::PageSizeMismatch, 1).class(), 0x0B);
        assert_eq!(Status::new(Code::PageSizeMismatch, 1).details(), 0x0B);
    }
}
