//! The TDCALL instruction itself: the only module with `unsafe`.
//!
//! One stub is the path of every leaf, with every register both ways: TDG.VP.ENTER returns CS in RSI
//! and RDI and L2's RBP, and TDG.VP.VMCALL takes any register that its mask names.
#![allow(unsafe_code, reason = "the TDCALL instruction")]

use core::arch::naked_asm;
use core::mem::offset_of;

use crate::raw::RawTdcall;
use tdx_defs::Registers;
use x86_defs::msr;

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
    (
        $($first:literal,)* ; $($before:literal,)* ; $($after:literal,)* ; $($last:literal,)*
        $(; $($name:ident = $value:expr,)*)?
    ) => {
        naked_asm!(
            "push rbp",
            "push rbx",
            "push r12",
            "push r13",
            "push r14",
            "push r15",
            $($first,)*
            "push rdi",
            "mov rax, [rdi + {rax}]",
            "mov rcx, [rdi + {rcx}]",
            "mov rdx, [rdi + {rdx}]",
            "mov rbx, [rdi + {rbx}]",
            "mov rbp, [rdi + {rbp}]",
            "mov rsi, [rdi + {rsi}]",
            "mov r8, [rdi + {r8}]",
            "mov r9, [rdi + {r9}]",
            "mov r10, [rdi + {r10}]",
            "mov r11, [rdi + {r11}]",
            "mov r12, [rdi + {r12}]",
            "mov r13, [rdi + {r13}]",
            "mov r14, [rdi + {r14}]",
            "mov r15, [rdi + {r15}]",
            "mov rdi, [rdi + {rdi}]",
            $($before,)*
            ".byte 0x66, 0x0F, 0x01, 0xCC", // TDCALL
            $($after,)*
            "push rdi",
            "mov rdi, [rsp + 8]",
            "mov [rdi + {rax}], rax",
            "mov [rdi + {rcx}], rcx",
            "mov [rdi + {rdx}], rdx",
            "mov [rdi + {rbx}], rbx",
            "mov [rdi + {rbp}], rbp",
            "mov [rdi + {rsi}], rsi",
            "pop qword ptr [rdi + {rdi}]",
            "mov [rdi + {r8}], r8",
            "mov [rdi + {r9}], r9",
            "mov [rdi + {r10}], r10",
            "mov [rdi + {r11}], r11",
            "mov [rdi + {r12}], r12",
            "mov [rdi + {r13}], r13",
            "mov [rdi + {r14}], r14",
            "mov [rdi + {r15}], r15",
            "add rsp, 8",
            $($last,)*
            "pop r15",
            "pop r14",
            "pop r13",
            "pop r12",
            "pop rbx",
            "pop rbp",
            "ret",
            rax = const offset_of!(Registers, rax),
            rcx = const offset_of!(Registers, rcx),
            rdx = const offset_of!(Registers, rdx),
            rbx = const offset_of!(Registers, rbx),
            rbp = const offset_of!(Registers, rbp),
            rsi = const offset_of!(Registers, rsi),
            rdi = const offset_of!(Registers, rdi),
            r8 = const offset_of!(Registers, r8),
            r9 = const offset_of!(Registers, r9),
            r10 = const offset_of!(Registers, r10),
            r11 = const offset_of!(Registers, r11),
            r12 = const offset_of!(Registers, r12),
            r13 = const offset_of!(Registers, r13),
            r14 = const offset_of!(Registers, r14),
            r15 = const offset_of!(Registers, r15),
            $($($name = const $value,)*)?
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
        "cmp byte ptr [rsi + {barrier}], 0",
        "je 2f",
        "mov ecx, {pred_cmd}",
        "mov eax, 1", // IBPB
        "xor edx, edx",
        "wrmsr",
        "2:",
        "cmp byte ptr [rsi + {control}], 0",
        "je 3f",
        "mov ecx, {spec_ctrl}",
        "mov eax, [rsi + {l2}]",
        "mov edx, [rsi + {l2} + 4]",
        "wrmsr",
        "3:",
        ;;;
        "pop rsi",
        "cmp byte ptr [rsi + {control}], 0",
        "je 4f",
        "mov ecx, {spec_ctrl}",
        "rdmsr",
        "mov [rsi + {l2}], eax",
        "mov [rsi + {l2} + 4], edx",
        "mov eax, [rsi + {l1}]",
        "mov edx, [rsi + {l1} + 4]",
        "wrmsr",
        "4:",
        "cmp byte ptr [rsi + {barrier}], 0",
        "je 5f",
        "mov ecx, {pred_cmd}",
        "mov eax, 1",
        "xor edx, edx",
        "wrmsr",
        "5:",
        ;
        pred_cmd = msr::IA32_PRED_CMD,
        spec_ctrl = msr::IA32_SPEC_CTRL,
        barrier = offset_of!(Speculation, barrier),
        control = offset_of!(Speculation, control),
        l1 = offset_of!(Speculation, l1),
        l2 = offset_of!(Speculation, l2),
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
