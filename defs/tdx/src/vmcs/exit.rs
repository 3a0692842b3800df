//! Layout of exit information (Intel SDM volume 3, chapter "VM Exits").
#![allow(missing_docs)] // The macro's own constants have none; every field has one.

use bitfield_struct::{bitenum, bitfield};

/// Kind of an event, bits 10:8 of interruption information.
#[bitenum]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum InterruptionType {
    /// External interrupt.
    ExternalInterrupt = 0,
    /// Not used.
    #[fallback]
    Reserved = 1,
    /// Non-maskable interrupt.
    Nmi = 2,
    /// Hardware exception.
    HardwareException = 3,
    /// Software interrupt (INT n).
    SoftwareInterrupt = 4,
    /// Privileged software exception (INT1).
    PrivilegedSoftwareException = 5,
    /// Software exception (INT3, INTO).
    SoftwareException = 6,
    /// Other event.
    OtherEvent = 7,
}

/// VM-entry, VM-exit and IDT-vectoring interruption information: one layout.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct InterruptionInfo {
    /// Vector.
    pub vector: u8,
    /// Kind of event.
    #[bits(3)]
    pub kind: InterruptionType,
    /// An error code is delivered (entry) or valid (exit).
    pub error_code_valid: bool,
    /// NMI unblocking due to IRET (exit only; undefined in IDT-vectoring information).
    pub nmi_unblocking: bool,
    #[bits(18)]
    __: u32,
    /// The field says something.
    pub valid: bool,
}

/// Exit qualification of an I/O instruction (reason 30).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct IoQualification {
    /// Width less one: 0, 1 or 3 for 1, 2 or 4 bytes.
    #[bits(3)]
    pub size_minus_one: u8,
    /// IN, not OUT.
    pub direction_in: bool,
    /// String instruction.
    pub string: bool,
    /// REP-prefixed.
    pub rep: bool,
    /// The port is an immediate operand, not DX.
    pub immediate: bool,
    #[bits(9)]
    __: u16,
    /// Port number.
    pub port: u16,
    __: u32,
}

/// Instruction information of INS and OUTS.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct IoInstructionInfo {
    #[bits(7)]
    __: u8,
    /// Address size: 0 is 16, 1 is 32, 2 is 64 bits.
    #[bits(3)]
    pub address_size: u8,
    #[bits(5)]
    __: u8,
    /// Segment register of OUTS: 0 ES, 1 CS, 2 SS, 3 DS, 4 FS, 5 GS.
    #[bits(3)]
    pub segment_register: u8,
    #[bits(14)]
    __: u16,
}

/// Access type of a control-register exit.
#[bitenum]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CrAccess {
    /// MOV to CR.
    #[fallback]
    MovToCr = 0,
    /// MOV from CR.
    MovFromCr = 1,
    /// CLTS.
    Clts = 2,
    /// LMSW.
    Lmsw = 3,
}

/// Exit qualification of a control-register access (reason 28).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct CrQualification {
    /// Number of the control register; 0 for CLTS and LMSW.
    #[bits(4)]
    pub control_register: u8,
    /// Access type.
    #[bits(2)]
    pub access: CrAccess,
    /// LMSW operand is memory.
    pub lmsw_memory: bool,
    __: bool,
    /// General-purpose register of MOV, in instruction encoding (0 RAX .. 15 R15, 4 RSP).
    #[bits(4)]
    pub gpr: u8,
    #[bits(4)]
    __: u8,
    /// Source data of LMSW.
    pub lmsw_source: u16,
    __: u32,
}

/// Exit qualification of an EPT violation (reason 48).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct EptViolationQualification {
    /// Data read.
    pub read: bool,
    /// Data write.
    pub write: bool,
    /// Instruction fetch.
    pub fetch: bool,
    /// The page was readable.
    pub readable: bool,
    /// The page was writable.
    pub writable: bool,
    /// The page was executable (supervisor mode with mode-based execute control).
    pub executable: bool,
    /// The page was executable in user mode.
    pub executable_user: bool,
    /// The guest-linear address is valid.
    pub linear_valid: bool,
    /// The access was to the translation of the linear address, not to a paging structure.
    pub translated: bool,
    /// User-mode linear address.
    pub user: bool,
    /// Read/write page.
    pub read_write: bool,
    /// Execute-disable page.
    pub execute_disable: bool,
    /// NMI unblocking due to IRET.
    pub nmi_unblocking: bool,
    /// Shadow-stack access.
    pub shadow_stack: bool,
    #[bits(50)]
    __: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fault_to_inject() {
        let info = InterruptionInfo::new()
            .with_vector(14)
            .with_kind(InterruptionType::HardwareException)
            .with_error_code_valid(true)
            .with_valid(true);
        assert_eq!(info.into_bits(), 0x8000_0B0E);
    }

    #[test]
    fn an_out_to_the_debug_port() {
        let qualification = IoQualification::from_bits(0x0080_0040);
        assert_eq!(qualification.port(), 0x80);
        assert!(qualification.immediate() && !qualification.direction_in());
        assert_eq!(qualification.size_minus_one(), 0);
    }

    #[test]
    fn a_move_to_cr4_from_rax() {
        let qualification = CrQualification::from_bits(0x0000_0304);
        assert_eq!(qualification.control_register(), 4);
        assert_eq!(qualification.access(), CrAccess::MovToCr);
        assert_eq!(qualification.gpr(), 3);
    }
}
