//! The image's entry point and its stack.

use core::arch::naked_asm;

use super::image;

/// What the main stack is filled with before it is used.
const PAINT: u64 = 0x5AA5_C33C_0FF0_9669;

/// Called by td-shim as `fn(hob, base)`: 64-bit mode, privilege level 0, interrupts disabled, memory
/// identity-mapped, a stack of td-shim's.
///
/// # Safety
/// Only td-shim calls it, once.
#[unsafe(no_mangle)]
#[unsafe(naked)]
#[unsafe(link_section = ".text.entry")]
unsafe extern "sysv64" fn l1_entry(hob: u64, base: u64) -> ! {
    naked_asm!(
        "cli",
        "cld",
        "mov r12, rdi",
        // The loader may rely on fresh pages being zero; this image does not.
        "lea rdi, [rip + image_bss_start]",
        "lea rcx, [rip + image_bss_end]",
        "sub rcx, rdi",
        "shr rcx, 3",
        "xor eax, eax",
        "rep stosq",
        "lea rdi, [rip + image_stack_bottom]",
        "lea rcx, [rip + image_stack_top]",
        "sub rcx, rdi",
        "shr rcx, 3",
        "movabs rax, {paint}",
        "rep stosq",
        "lea rsp, [rip + image_stack_top]",
        "xor ebp, ebp",
        "mov rdi, r12",
        "call {main}",
        "ud2",
        paint = const PAINT,
        main = sym crate::l1_main,
    )
}

/// The most of the main stack that was ever in use, in bytes.
pub(crate) fn stack_high_water_mark() -> u64 {
    let mut at = image::stack_bottom();
    // SAFETY: the main stack is this image's memory from `stack_bottom` to `stack_top`, 8-byte
    // aligned, and a word is only looked at, as a volatile read; some of it is in use.
    while at < image::stack_top() && unsafe { (at as *const u64).read_volatile() } == PAINT {
        at += 8;
    }
    image::stack_top() - at
}
