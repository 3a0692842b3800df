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

/// An FXSAVE image: the only extended state that this program's own code changes.
///
/// All VMs share one, as they share the processor's registers on TDX: the module switches no
/// vector state. The upper halves of YMM, PKRU and XCR0 just stay in the processor.
#[derive(Clone, Debug)]
#[repr(C, align(16))]
pub(crate) struct FxState([u8; 512]);

impl FxState {
    /// The state after reset: all exceptions masked, everything else zero.
    pub(crate) const fn new() -> Self {
        let mut image = [0; 512];
        // FCW 0x037F, MXCSR 0x1F80 (SDM volume 1, 8.1.5 and 10.2.3).
        image[0] = 0x7F;
        image[1] = 0x03;
        image[24] = 0x80;
        image[25] = 0x1F;
        Self(image)
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
    extended: *mut FxState,
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
        "fxrstor64 [rdx]",
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
        "fxsave64 [rdx]",
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
    )
}

/// A page for VMSAVE and VM_HSAVE_PA.
#[derive(Debug)]
#[repr(C, align(4096))]
pub(crate) struct HostState(pub(crate) [u8; 4096]);
