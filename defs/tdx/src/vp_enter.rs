//! Layouts of TDG.VP.ENTER: what L1 gives and what it gets back.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::registers::Registers;
use crate::status::{Code, Status};

/// Index of a general-purpose register in [`GuestState::gprs`], in instruction-encoding order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // The names say it.
pub enum Gpr {
    Rax = 0,
    Rcx = 1,
    Rdx = 2,
    Rbx = 3,
    Rsp = 4,
    Rbp = 5,
    Rsi = 6,
    Rdi = 7,
    R8 = 8,
    R9 = 9,
    R10 = 10,
    R11 = 11,
    R12 = 12,
    R13 = 13,
    R14 = 14,
    R15 = 15,
}

/// L2_ENTER_GUEST_STATE: read by the module at entry, rewritten at every exit to L1.
///
/// Must be private, accepted, 256-byte aligned and must never have an L2 alias (TDX Module ABI,
/// "L2_ENTER_GUEST_STATE").
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(256))]
pub struct GuestState {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 .. R15; see [`Gpr`].
    pub gprs: [u64; 16],
    /// RFLAGS.
    pub rflags: u64,
    /// RIP of the exit; the module does not step over an instruction that exits.
    pub rip: u64,
    /// Shadow-stack pointer.
    pub ssp: u64,
    /// Guest interrupt status: RVI in bits 7:0, SVI in bits 15:8.
    pub interrupt_status: u16,
    /// Not touched by the module.
    reserved: [u8; 102],
}

impl GuestState {
    /// Bytes that the module reads and writes.
    pub const ABI_SIZE: usize = 0x9A;

    /// All zero but the fixed bit of RFLAGS.
    pub const fn new() -> Self {
        Self {
            gprs: [0; 16],
            rflags: 2,
            rip: 0,
            ssp: 0,
            interrupt_status: 0,
            reserved: [0; 102],
        }
    }

    /// A register.
    #[expect(clippy::indexing_slicing, reason = "a Gpr is below 16")]
    pub const fn gpr(&self, gpr: Gpr) -> u64 {
        self.gprs[gpr as usize]
    }

    /// Sets a register.
    #[expect(clippy::indexing_slicing, reason = "a Gpr is below 16")]
    pub const fn set_gpr(&mut self, gpr: Gpr, value: u64) {
        self.gprs[gpr as usize] = value;
    }

    /// Requesting virtual interrupt.
    pub const fn rvi(&self) -> u8 {
        self.interrupt_status as u8
    }

    /// Servicing virtual interrupt.
    pub const fn svi(&self) -> u8 {
        (self.interrupt_status >> 8) as u8
    }

    /// Sets the requesting virtual interrupt.
    pub const fn set_rvi(&mut self, vector: u8) {
        self.interrupt_status = self.interrupt_status & 0xFF00 | vector as u16;
    }
}

impl Default for GuestState {
    fn default() -> Self {
        Self::new()
    }
}

/// What to flush of L2's translations at entry, RCX bits 1:0.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TlbFlush {
    /// Nothing.
    #[default]
    None = 0,
    /// INVEPT, single context: everything of this L2.
    Invept = 1,
    /// INVVPID, single context. Needs feature L2_TLB_INVD_OPT.
    Invvpid = 2,
    /// INVVPID, single context, globals retained. Needs feature L2_TLB_INVD_OPT.
    InvvpidRetainGlobals = 3,
}

/// How L2's run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryStatus {
    /// L2 exited to L1; the exit information is the module's word.
    Exit,
    /// The host routed an exit to L1: a hint that may be stale or forged.
    HostRoutedAsync,
    /// The host completed a TDVMCALL of L2 and resumed L1; L2's RIP is past the TDCALL.
    HostRoutedTdvmcall,
    /// L2 was left because an interrupt for L1 is pending.
    PendingInterruptExit,
    /// L2 was not entered because an interrupt for L1 is pending. Nothing else has changed.
    PendingInterrupt,
}

/// L2's code segment at the exit.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct CodeSegment {
    /// Selector.
    pub selector: u16,
    /// Access rights, bits 15:0 of the VMCS form (an unusable CS does not exist).
    pub access_rights: u16,
    /// Limit.
    pub limit: u32,
    /// Base.
    pub base: u64,
}

/// Everything TDG.VP.ENTER returned in registers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// How the run ended.
    pub status: EntryStatus,
    /// VMX exit reason with its modifier bits (31: entry failure, 26: bus lock).
    pub exit_reason: u32,
    /// Exit qualification.
    pub qualification: u64,
    /// Guest-linear address; valid where the exit reason says so.
    pub gla: u64,
    /// L2's CS.
    pub cs: CodeSegment,
    /// Guest-physical address; valid for EPT violations. Not page-masked, SHARED bit included.
    pub gpa: u64,
    /// VM-exit interruption information.
    pub intr_info: u32,
    /// VM-exit interruption error code.
    pub intr_error: u32,
    /// IDT-vectoring information: an event whose delivery the exit cut short.
    pub idt_info: u32,
    /// IDT-vectoring error code.
    pub idt_error: u32,
    /// VM-exit instruction information.
    pub instruction_info: u32,
    /// VM-exit instruction length in bytes.
    pub instruction_length: u32,
    /// L2's current privilege level.
    pub cpl: u8,
    /// Extended exit qualification.
    pub extended_qualification: u64,
}

impl Outcome {
    /// Extended exit qualification type of an EPT violation on a pending page.
    pub const EXTENDED_PENDING_EPT_VIOLATION: u64 = 6;

    /// Reads the output registers. `None` if RAX is none of the statuses after L2 ran or would
    /// have run.
    pub const fn from_registers(registers: &Registers) -> Option<Self> {
        let status = Status(registers.rax);
        let entry = match status.code() {
            Code::Success => EntryStatus::Exit,
            Code::L2ExitHostRoutedAsync => EntryStatus::HostRoutedAsync,
            Code::L2ExitHostRoutedTdvmcall => EntryStatus::HostRoutedTdvmcall,
            Code::L2ExitPendingInterrupt => EntryStatus::PendingInterruptExit,
            Code::PendingInterrupt => EntryStatus::PendingInterrupt,
            _ => return None,
        };
        Some(Self {
            status: entry,
            exit_reason: status.details_l2(),
            qualification: registers.rcx,
            gla: registers.rdx,
            cs: CodeSegment {
                selector: registers.rsi as u16,
                access_rights: (registers.rsi >> 16) as u16,
                limit: (registers.rsi >> 32) as u32,
                base: registers.rdi,
            },
            gpa: registers.r8,
            intr_info: registers.r9 as u32,
            intr_error: (registers.r9 >> 32) as u32,
            idt_info: registers.r10 as u32,
            idt_error: (registers.r10 >> 32) as u32,
            instruction_info: registers.r11 as u32,
            instruction_length: (registers.r11 >> 32) as u32,
            cpl: (registers.r12 & 3) as u8,
            extended_qualification: registers.r13,
        })
    }

    /// Extended exit qualification type, bits 3:0.
    pub const fn extended_type(&self) -> u8 {
        (self.extended_qualification & 0xF) as u8
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} reason {:#x} qualification {:#x} gla {:#x} gpa {:#x} intr {:#x}/{:#x} \
             idt {:#x}/{:#x} instruction {:#x}/{} cpl {} cs {:#x?} extended {:#x}",
            self.status,
            self.exit_reason,
            self.qualification,
            self.gla,
            self.gpa,
            self.intr_info,
            self.intr_error,
            self.idt_info,
            self.idt_error,
            self.instruction_info,
            self.instruction_length,
            self.cpl,
            self.cs,
            self.extended_qualification,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn guest_state_has_the_layout_of_the_abi() {
        assert_eq!(size_of::<GuestState>(), 256);
        assert_eq!(align_of::<GuestState>(), 256);
        assert_eq!(offset_of!(GuestState, rflags), 0x80);
        assert_eq!(offset_of!(GuestState, rip), 0x88);
        assert_eq!(offset_of!(GuestState, ssp), 0x90);
        assert_eq!(offset_of!(GuestState, interrupt_status), 0x98);
        assert_eq!(offset_of!(GuestState, reserved), GuestState::ABI_SIZE);
    }

    #[test]
    fn every_output_register_is_decoded() {
        let outcome = Outcome::from_registers(&Registers {
            rax: 0x0000_1100_0000_0030,
            rcx: 0x0182,
            rdx: 0xFFFF_8000_0000_1018,
            rsi: 0xFFFF_FFFF_A09B_0010,
            rdi: 0x1000,
            r8: 0xFED4_0018,
            r9: 0x0000_0001_0000_0002,
            r10: 0x0000_0003_8000_0B0E,
            r11: 0x0000_0004_0000_0005,
            r12: 0xFFFF_FFFF_FFFF_FFFF,
            r13: 6,
            ..Registers::default()
        })
        .unwrap();
        assert_eq!(outcome.status, EntryStatus::HostRoutedAsync);
        assert_eq!(outcome.exit_reason, 48);
        assert_eq!(outcome.qualification, 0x0182);
        assert_eq!(outcome.gla, 0xFFFF_8000_0000_1018);
        assert_eq!(
            outcome.cs,
            CodeSegment {
                selector: 0x10,
                access_rights: 0xA09B,
                limit: 0xFFFF_FFFF,
                base: 0x1000
            }
        );
        assert_eq!(outcome.gpa, 0xFED4_0018);
        assert_eq!((outcome.intr_info, outcome.intr_error), (2, 1));
        assert_eq!((outcome.idt_info, outcome.idt_error), (0x8000_0B0E, 3));
        assert_eq!(
            (outcome.instruction_info, outcome.instruction_length),
            (5, 4)
        );
        assert_eq!(outcome.cpl, 3);
        assert_eq!(
            u64::from(outcome.extended_type()),
            Outcome::EXTENDED_PENDING_EPT_VIOLATION
        );
    }

    #[test]
    fn an_error_is_no_outcome() {
        let registers = Registers {
            rax: 0xC000_0100_0000_00AA,
            ..Registers::default()
        };
        assert_eq!(Outcome::from_registers(&registers), None);
    }
}
