//! Entry and exit of every interrupt handler.

use core::arch::global_asm;

/// What a handler finds on its stack: pushed by the stub, then by the processor.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Frame {
    /// R15.
    pub(crate) r15: u64,
    /// R14.
    pub(crate) r14: u64,
    /// R13.
    pub(crate) r13: u64,
    /// R12.
    pub(crate) r12: u64,
    /// R11.
    pub(crate) r11: u64,
    /// R10.
    pub(crate) r10: u64,
    /// R9.
    pub(crate) r9: u64,
    /// R8.
    pub(crate) r8: u64,
    /// RBP.
    pub(crate) rbp: u64,
    /// RDI.
    pub(crate) rdi: u64,
    /// RSI.
    pub(crate) rsi: u64,
    /// RDX.
    pub(crate) rdx: u64,
    /// RCX.
    pub(crate) rcx: u64,
    /// RBX.
    pub(crate) rbx: u64,
    /// RAX.
    pub(crate) rax: u64,
    /// Vector, from the stub.
    pub(crate) vector: u64,
    /// Error code, or 0.
    pub(crate) error_code: u64,
    /// RIP.
    pub(crate) rip: u64,
    /// CS.
    pub(crate) cs: u64,
    /// RFLAGS.
    pub(crate) rflags: u64,
    /// RSP.
    pub(crate) rsp: u64,
    /// SS.
    pub(crate) ss: u64,
}

/// Bytes of one stub.
const STUB: usize = 16;

unsafe extern "C" {
    static interrupt_stubs: u8;
}

/// Address of the stub of `vector`.
pub(super) fn address(vector: usize) -> u64 {
    (&raw const interrupt_stubs) as u64 + (vector * STUB) as u64
}

global_asm!(
    ".pushsection .text.interrupts, \"ax\", @progbits",
    ".balign 16",
    ".globl interrupt_stubs",
    ".hidden interrupt_stubs",
    "interrupt_stubs:",
    ".set interrupt_vector, 0",
    ".rept 256",
    ".balign 16",
    // Vectors with an error code: 8, 10 to 14, 17, 21, 29 and 30.
    ".if ((0x60227D00 >> interrupt_vector) & 1) == 0 || interrupt_vector > 31",
    "push 0",
    ".endif",
    ".byte 0x68", // push imm32
    ".long interrupt_vector",
    "jmp interrupt_entry",
    ".set interrupt_vector, interrupt_vector + 1",
    ".endr",
    ".balign 16",
    "interrupt_entry:",
    "push rax",
    "push rbx",
    "push rcx",
    "push rdx",
    "push rsi",
    "push rdi",
    "push rbp",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "cld",
    "mov rdi, rsp",
    "mov rbx, rsp",
    "sub rsp, 512",
    "and rsp, -16",
    // The upper halves of YMM registers stay as they are: handlers have no AVX instruction.
    "fxsave64 [rsp]",
    "call {dispatch}",
    "fxrstor64 [rsp]",
    "mov rsp, rbx",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rbp",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "pop rbx",
    "pop rax",
    "add rsp, 16",
    "iretq",
    ".popsection",
    dispatch = sym super::dispatch::dispatch,
);
