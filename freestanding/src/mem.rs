//! The memory functions that compiled code calls by name.
//!
//! Large blocks are string instructions: short, and fast wherever the processor (or an emulator of
//! one) moves whole blocks at a time. Small copies, which are most, take plain moves: a string
//! instruction has a cost to start. None of them touches a vector register.
#![allow(unsafe_code, reason = "memory functions by their C names")]

use core::arch::naked_asm;

/// # Safety
/// As C's `memcpy`: both ranges are valid and do not overlap.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "sysv64" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 8",
        "jb 4f",
        "cmp rdx, 256",
        "ja 3f",
        // The last eight bytes are read first, so that `memmove` may come here to move down.
        "mov r8, [rsi + rdx - 8]",
        "lea r9, [rdi + rdx - 8]",
        "2:",
        "mov rcx, [rsi]",
        "mov [rdi], rcx",
        "add rsi, 8",
        "add rdi, 8",
        "cmp rdi, r9",
        "jb 2b",
        "mov [r9], r8",
        "ret",
        "3:",
        "mov rcx, rdx",
        "shr rcx, 3",
        "rep movsq",
        "and edx, 7",
        "4:",
        "mov ecx, edx",
        "rep movsb",
        "ret",
    )
}

/// # Safety
/// As C's `memmove`: both ranges are valid.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "sysv64" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "sub rax, rsi",
        "cmp rax, rdx",
        "jae {forward}",
        // The target starts inside the source: copy backwards.
        "mov rax, rdi",
        "lea rdi, [rdi + rdx - 1]",
        "lea rsi, [rsi + rdx - 1]",
        "mov rcx, rdx",
        "std",
        "rep movsb",
        "cld",
        "ret",
        forward = sym memcpy,
    )
}

/// # Safety
/// As C's `memset`: the range is valid.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "sysv64" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    naked_asm!(
        "mov r8, rdi",
        "movzx eax, sil",
        "mov r9, 0x0101010101010101",
        "imul rax, r9",
        "mov rcx, rdx",
        "shr rcx, 3",
        "rep stosq",
        "mov ecx, edx",
        "and ecx, 7",
        "rep stosb",
        "mov rax, r8",
        "ret",
    )
}

/// # Safety
/// As C's `memcmp`: both ranges are valid.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "sysv64" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    naked_asm!(
        "xor ecx, ecx",
        "4:",
        "lea rax, [rcx + 8]",
        "cmp rax, rdx",
        "ja 2f",
        "mov r8, [rdi + rcx]",
        "cmp r8, [rsi + rcx]",
        "jne 2f",
        "mov rcx, rax",
        "jmp 4b",
        "2:",
        "cmp rcx, rdx",
        "je 3f",
        "movzx eax, byte ptr [rdi + rcx]",
        "movzx r8d, byte ptr [rsi + rcx]",
        "inc rcx",
        "sub eax, r8d",
        "je 2b",
        "ret",
        "3:",
        "xor eax, eax",
        "ret",
    )
}

/// # Safety
/// As [`memcmp`].
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "sysv64" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    naked_asm!("jmp {compare}", compare = sym memcmp)
}
