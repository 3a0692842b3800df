//! The one place where a VM runs.

use core::arch::naked_asm;
use core::mem::offset_of;

use super::vmcb::Vmcb;

/// What VMRUN leaves to software: the general registers but RAX and RSP, which the VMCB has, in
/// instruction encoding order.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct GeneralRegisters {
    /// Slots 0 and 4 (RAX, RSP) are not used.
    pub(crate) slot: [u64; 16],
    /// The TSC just before the guest's registers were loaded.
    pub(crate) entered: u64,
    /// The TSC just after they were stored.
    pub(crate) left: u64,
}

/// The SSE registers: the only extended state that this program's own code changes. It has no x87
/// and no VEX-encoded instructions.
///
/// All VMs of a virtual processor share one, as they share the processor's registers on TDX: the module switches no
/// vector state. The x87 state, the upper halves of YMM, PKRU and XCR0 just stay in the processor.
#[derive(Clone, Debug)]
#[repr(C, align(16))]
pub(crate) struct SseState {
    xmm: [u128; 16],
    mxcsr: u32,
}

impl SseState {
    /// The state after reset (SDM volume 1, 10.2.3).
    pub(crate) const fn new() -> Self {
        Self {
            xmm: [0; 16],
            mxcsr: 0x1F80,
        }
    }
}

/// Runs the VM until it exits.
///
/// # Safety
/// * `vmcb` describes a VM whose nested page tables reach no memory of this program, and
///   intercepts VMRUN, physical interrupts and shutdown.
/// * `host` is a page that VMSAVE has filled on this processor.
/// * SVM is on, and interrupts are disabled.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn vmrun(
    vmcb: *mut Vmcb,
    registers: *mut GeneralRegisters,
    sse: *mut SseState,
    host: *mut HostState,
) {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdx",
        "push rcx",
        "push rsi",
        "ldmxcsr [rdx + {mxcsr}]",
        "movaps xmm0, [rdx + 0x00]",
        "movaps xmm1, [rdx + 0x10]",
        "movaps xmm2, [rdx + 0x20]",
        "movaps xmm3, [rdx + 0x30]",
        "movaps xmm4, [rdx + 0x40]",
        "movaps xmm5, [rdx + 0x50]",
        "movaps xmm6, [rdx + 0x60]",
        "movaps xmm7, [rdx + 0x70]",
        "movaps xmm8, [rdx + 0x80]",
        "movaps xmm9, [rdx + 0x90]",
        "movaps xmm10, [rdx + 0xa0]",
        "movaps xmm11, [rdx + 0xb0]",
        "movaps xmm12, [rdx + 0xc0]",
        "movaps xmm13, [rdx + 0xd0]",
        "movaps xmm14, [rdx + 0xe0]",
        "movaps xmm15, [rdx + 0xf0]",
        "mov r8, rdi",
        "rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "mov [rsi + {entered}], rax",
        "mov rax, r8",
        "clgi",
        "vmload rax",
        "mov rcx, [rsi + 0x08]",
        "mov rdx, [rsi + 0x10]",
        "mov rbx, [rsi + 0x18]",
        "mov rbp, [rsi + 0x28]",
        "mov rdi, [rsi + 0x38]",
        "mov r8,  [rsi + 0x40]",
        "mov r9,  [rsi + 0x48]",
        "mov r10, [rsi + 0x50]",
        "mov r11, [rsi + 0x58]",
        "mov r12, [rsi + 0x60]",
        "mov r13, [rsi + 0x68]",
        "mov r14, [rsi + 0x70]",
        "mov r15, [rsi + 0x78]",
        "mov rsi, [rsi + 0x30]",
        // IF lets physical interrupts end the run; GIF holds them back until VMRUN. The NOP keeps
        // STI's shadow from the guest.
        "sti",
        "nop",
        "vmrun rax",
        "cli",
        "vmsave rax",
        "mov rax, [rsp + 8]",
        "vmload rax",
        "mov rax, [rsp]",
        "mov [rax + 0x08], rcx",
        "mov [rax + 0x10], rdx",
        "mov [rax + 0x18], rbx",
        "mov [rax + 0x28], rbp",
        "mov [rax + 0x30], rsi",
        "mov [rax + 0x38], rdi",
        "mov [rax + 0x40], r8",
        "mov [rax + 0x48], r9",
        "mov [rax + 0x50], r10",
        "mov [rax + 0x58], r11",
        "mov [rax + 0x60], r12",
        "mov [rax + 0x68], r13",
        "mov [rax + 0x70], r14",
        "mov [rax + 0x78], r15",
        "mov rsi, rax",
        "rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "mov [rsi + {left}], rax",
        "mov rdx, [rsp + 16]",
        "stmxcsr [rdx + {mxcsr}]",
        "movaps [rdx + 0x00], xmm0",
        "movaps [rdx + 0x10], xmm1",
        "movaps [rdx + 0x20], xmm2",
        "movaps [rdx + 0x30], xmm3",
        "movaps [rdx + 0x40], xmm4",
        "movaps [rdx + 0x50], xmm5",
        "movaps [rdx + 0x60], xmm6",
        "movaps [rdx + 0x70], xmm7",
        "movaps [rdx + 0x80], xmm8",
        "movaps [rdx + 0x90], xmm9",
        "movaps [rdx + 0xa0], xmm10",
        "movaps [rdx + 0xb0], xmm11",
        "movaps [rdx + 0xc0], xmm12",
        "movaps [rdx + 0xd0], xmm13",
        "movaps [rdx + 0xe0], xmm14",
        "movaps [rdx + 0xf0], xmm15",
        "mov dword ptr [rsp], 0x1f80",
        "ldmxcsr [rsp]",
        "cld",
        "stgi",
        "add rsp, 24",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        entered = const offset_of!(GeneralRegisters, entered),
        left = const offset_of!(GeneralRegisters, left),
        mxcsr = const offset_of!(SseState, mxcsr),
    )
}

/// A page for VMSAVE and VM_HSAVE_PA.
#[derive(Debug)]
#[repr(C, align(4096))]
pub(crate) struct HostState(pub(crate) [u8; 4096]);
