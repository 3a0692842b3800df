//! The registers that a TDCALL reads and writes.

/// The general-purpose registers of one TDCALL, both ways.
///
/// RSP is absent: no leaf reads or changes it. A register that a leaf does not list as an output
/// keeps its value (TDX Module ABI, "TDCALL Instruction (Common)").
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
    /// In: leaf number 15:0 and version 23:16. Out: completion status.
    pub rax: u64,
    /// Argument or result.
    pub rcx: u64,
    /// Argument or result.
    pub rdx: u64,
    /// Argument or result.
    pub rbx: u64,
    /// Argument or result. TDG.VP.ENTER returns L2's RBP here.
    pub rbp: u64,
    /// Argument or result.
    pub rsi: u64,
    /// Argument or result.
    pub rdi: u64,
    /// Argument or result.
    pub r8: u64,
    /// Argument or result.
    pub r9: u64,
    /// Argument or result.
    pub r10: u64,
    /// Argument or result.
    pub r11: u64,
    /// Argument or result.
    pub r12: u64,
    /// Argument or result.
    pub r13: u64,
    /// Argument or result.
    pub r14: u64,
    /// Argument or result.
    pub r15: u64,
}
