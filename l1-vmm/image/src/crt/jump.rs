//! `setjmp` and `longjmp`, by which the TPM engine leaves a command that failed.

use core::arch::naked_asm;
use core::ffi::c_int;

/// `jmp_buf`: its first 64 of glibc's 200 bytes are used.
#[repr(C)]
struct JumpBuffer([u64; 8]);

/// Without the signal mask, which does not exist here.
///
/// # Safety
/// As C's `setjmp`: the caller's frame lives when [`__longjmp_chk`] is called.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn _setjmp(buffer: *mut JumpBuffer) -> c_int {
    naked_asm!(
        "mov [rdi], rbx",
        "mov [rdi + 8], rbp",
        "mov [rdi + 16], r12",
        "mov [rdi + 24], r13",
        "mov [rdi + 32], r14",
        "mov [rdi + 40], r15",
        "lea rax, [rsp + 8]",
        "mov [rdi + 48], rax",
        "mov rax, [rsp]",
        "mov [rdi + 56], rax",
        "xor eax, eax",
        "ret",
    )
}

/// `longjmp` as `_FORTIFY_SOURCE` calls it; the frame is not checked.
///
/// # Safety
/// `buffer` was filled by [`_setjmp`] in a frame that still lives.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn __longjmp_chk(buffer: *const JumpBuffer, value: c_int) -> ! {
    naked_asm!(
        "mov eax, esi",
        "test eax, eax",
        "jnz 2f",
        "inc eax",
        "2:",
        "mov rbx, [rdi]",
        "mov rbp, [rdi + 8]",
        "mov r12, [rdi + 16]",
        "mov r13, [rdi + 24]",
        "mov r14, [rdi + 32]",
        "mov r15, [rdi + 40]",
        "mov rsp, [rdi + 48]",
        "jmp qword ptr [rdi + 56]",
    )
}
