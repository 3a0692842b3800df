//! The TDCALL instruction itself: the only module with `unsafe`.
//!
//! One stub is the path of every leaf, with every register both ways: TDG.VP.ENTER returns CS in RSI
//! and RDI and L2's RBP, and TDG.VP.VMCALL takes any register that its mask names.
#![allow(unsafe_code, reason = "the TDCALL instruction")]

use core::arch::naked_asm;

use crate::raw::RawTdcall;
use tdx_defs::Registers;

/// The instruction, on a processor that runs a TD.
#[derive(Clone, Copy, Debug)]
pub struct Hw(());

impl Hw {
    /// A token for the instruction.
    ///
    /// # Safety
    /// Whoever has the value can make the TDX module write to any GPA. The caller guarantees that
    /// the processor executes a TD's L1 at privilege level 0, and that the value reaches only
    /// code which passes addresses of memory set aside for the module to read or write: no
    /// Rust reference to such memory is live across the call unless the leaf only reads it.
    pub const unsafe fn new() -> Self {
        Self(())
    }

    /// TDCALL immediately after STI, with interrupts disabled again afterwards: the only race-free
    /// way to wait for an interrupt (GHCI, "`TDG.VP.VMCALL<Instruction.HLT>`").
    pub fn tdcall_with_interrupts_enabled(&self, registers: &mut Registers) {
        // SAFETY: a TD at privilege level 0, by the contract of `Hw::new`; `registers` is
        // exclusively ours. Interrupt handlers preserve every register.
        unsafe { sti_tdcall_cli(registers) }
    }
}

impl RawTdcall for Hw {
    /// TDG.VP.ENTER by this way leaves L2's vector registers, MXCSR and x87 state in the
    /// processor: the caller switches them around the call with [`tdcall_between_barriers`].
    fn tdcall(&self, registers: &mut Registers) {
        // SAFETY: a TD at privilege level 0, by the contract of `Hw::new`; `registers` is
        // exclusively ours.
        unsafe { tdcall_every_register(registers) }
    }
}

/// What TDG.VP.ENTER leaves to L1 of the control over indirect branch prediction: IA32_SPEC_CTRL is
/// not switched between the levels, and no barrier is between them (TDX Module ABI, TDG.VP.ENTER).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Speculation {
    /// The processor has IA32_PRED_CMD with IBPB, which then comes before the entry and after the
    /// exit: predictions of one level do not steer the other (SDM Vol. 3A, "Indirect Branch
    /// Prediction Barrier").
    pub barrier: bool,
    /// The processor has IA32_SPEC_CTRL, which is then switched.
    pub control: bool,
    /// IA32_SPEC_CTRL of L1.
    pub l1: u64,
    /// IA32_SPEC_CTRL of L2: loaded before the entry, saved after the exit.
    pub l2: u64,
}

/// Loads every register of a [`Registers`], executes, stores every register. `first` and `last` are
/// around all that and may use RAX, RCX, RDX and RSI; `last` comes before any indirect branch.
macro_rules! tdcall_body {
    ($($first:literal,)* ; $($before:literal,)* ; $($after:literal,)* ; $($last:literal,)*) => {
        naked_asm!(
            "push rbp",
            "push rbx",
            "push r12",
            "push r13",
            "push r14",
            "push r15",
            $($first,)*
            "push rdi",
            "mov rax, [rdi]",
            "mov rcx, [rdi + 0x08]",
            "mov rdx, [rdi + 0x10]",
            "mov rbx, [rdi + 0x18]",
            "mov rbp, [rdi + 0x20]",
            "mov rsi, [rdi + 0x28]",
            "mov r8, [rdi + 0x38]",
            "mov r9, [rdi + 0x40]",
            "mov r10, [rdi + 0x48]",
            "mov r11, [rdi + 0x50]",
            "mov r12, [rdi + 0x58]",
            "mov r13, [rdi + 0x60]",
            "mov r14, [rdi + 0x68]",
            "mov r15, [rdi + 0x70]",
            "mov rdi, [rdi + 0x30]",
            $($before,)*
            ".byte 0x66, 0x0F, 0x01, 0xCC", // TDCALL
            $($after,)*
            "push rdi",
            "mov rdi, [rsp + 8]",
            "mov [rdi], rax",
            "mov [rdi + 0x08], rcx",
            "mov [rdi + 0x10], rdx",
            "mov [rdi + 0x18], rbx",
            "mov [rdi + 0x20], rbp",
            "mov [rdi + 0x28], rsi",
            "pop qword ptr [rdi + 0x30]",
            "mov [rdi + 0x38], r8",
            "mov [rdi + 0x40], r9",
            "mov [rdi + 0x48], r10",
            "mov [rdi + 0x50], r11",
            "mov [rdi + 0x58], r12",
            "mov [rdi + 0x60], r13",
            "mov [rdi + 0x68], r14",
            "mov [rdi + 0x70], r15",
            "add rsp, 8",
            $($last,)*
            "pop r15",
            "pop r14",
            "pop r13",
            "pop r12",
            "pop rbx",
            "pop rbp",
            "ret",
        )
    };
}

/// TDCALL with every register in and out. RBP and the other callee-saved registers are kept,
/// which the module does not do: TDG.VP.ENTER returns with L2's RBP. Touches no vector register;
/// TDG.VP.ENTER itself returns with L2's.
///
/// # Safety
/// The processor runs a TD's L1 at privilege level 0; `registers` is valid for reads and writes;
/// what the leaf does to memory is covered by the contract of [`Hw::new`]. For TDG.VP.ENTER, the
/// caller puts MXCSR and the x87 control word back to what the ABI demands.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn tdcall_every_register(registers: *mut Registers) {
    tdcall_body!(;;;)
}

/// [`tdcall_every_register`] for TDG.VP.ENTER, with what `speculation` asks for: the exit's part is
/// done before the first return or other indirect branch, which L2 may have trained.
///
/// # Safety
/// As [`tdcall_every_register`]; `speculation` is valid for reads and writes, and names only
/// registers that CPUID says are there, with values that they take.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn tdcall_between_barriers(
    registers: *mut Registers,
    speculation: *mut Speculation,
) {
    tdcall_body!(
        "push rsi",
        "cmp byte ptr [rsi], 0",
        "je 2f",
        "mov ecx, 0x49", // IA32_PRED_CMD
        "mov eax, 1", // IBPB
        "xor edx, edx",
        "wrmsr",
        "2:",
        "cmp byte ptr [rsi + 1], 0",
        "je 3f",
        "mov ecx, 0x48", // IA32_SPEC_CTRL
        "mov eax, [rsi + 0x10]",
        "mov edx, [rsi + 0x14]",
        "wrmsr",
        "3:",
        ;;;
        "pop rsi",
        "cmp byte ptr [rsi + 1], 0",
        "je 4f",
        "mov ecx, 0x48",
        "rdmsr",
        "mov [rsi + 0x10], eax",
        "mov [rsi + 0x14], edx",
        "mov eax, [rsi + 0x08]",
        "mov edx, [rsi + 0x0C]",
        "wrmsr",
        "4:",
        "cmp byte ptr [rsi], 0",
        "je 5f",
        "mov ecx, 0x49",
        "mov eax, 1",
        "xor edx, edx",
        "wrmsr",
        "5:",
    )
}

/// STI, TDCALL, CLI.
///
/// # Safety
/// As [`tdcall_every_register`]; interrupt handlers are installed.
#[unsafe(naked)]
unsafe extern "sysv64" fn sti_tdcall_cli(registers: *mut Registers) {
    tdcall_body!(; "sti",; "cli",;)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn the_stub_uses_the_offsets_of_the_structure() {
        assert_eq!(offset_of!(Registers, rax), 0);
        assert_eq!(offset_of!(Registers, rdx), 0x10);
        assert_eq!(offset_of!(Registers, rbp), 0x20);
        assert_eq!(offset_of!(Registers, rdi), 0x30);
        assert_eq!(offset_of!(Registers, r8), 0x38);
        assert_eq!(offset_of!(Registers, r15), 0x70);
        assert_eq!(offset_of!(Speculation, barrier), 0);
        assert_eq!(offset_of!(Speculation, control), 1);
        assert_eq!(offset_of!(Speculation, l1), 0x08);
        assert_eq!(offset_of!(Speculation, l2), 0x10);
    }
}
