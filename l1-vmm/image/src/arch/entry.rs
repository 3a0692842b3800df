//! The image's entry points, and the stacks they lead to.

use core::arch::naked_asm;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tdx_defs::ghci::{mask, sub_function};
use tdx_defs::tdg;
use tpm2_ref_sys::Stack;

use super::image;

/// What a main stack is filled with before it is used.
const PAINT: u64 = 0x5AA5_C33C_0FF0_9669;

/// Which stacks are in use, a bit for each processor by its VCPU_INDEX. The boot processor's are from the
/// start.
static STACKS_IN_USE: AtomicU32 = AtomicU32::new(1);

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
        "lea rdi, [rip + image_stacks_start + {bottom}]",
        "mov ecx, {words}",
        "movabs rax, {paint}",
        "rep stosq",
        "mov rsp, rdi",
        "xor ebp, ebp",
        "mov rdi, r12",
        "call {main}",
        "ud2",
        bottom = const image::MAIN_BOTTOM,
        words = const image::MAIN_STACK / 8,
        paint = const PAINT,
        main = sym crate::l1_main,
    )
}

/// Where an application processor comes to from td-shim's mailbox: 64-bit mode, privilege level 0,
/// interrupts disabled, td-shim's page tables, which map the image to the same addresses; RSP is the
/// address of another mailbox, which every other processor has there too, so nothing is pushed on it.
///
/// The processor asks the module which one it is: that the host has no part in. The stacks of that index
/// are then its own, unless somebody has them or there are none; such a processor halts here for ever.
///
/// # Safety
/// Only processors of this TD come here, after L1's page tables are in use on the boot processor.
#[unsafe(naked)]
unsafe extern "sysv64" fn application_entry() -> ! {
    naked_asm!(
        "cli",
        "cld",
        "mov eax, {vp_info}",
        ".byte 0x66, 0x0F, 0x01, 0xCC", // TDCALL
        "test rax, rax",
        "jnz 2f",
        // R9[31:0] is VCPU_INDEX.
        "mov r12d, r9d",
        "cmp r12d, {processors}",
        "jae 2f",
        "lock bts dword ptr [rip + {in_use}], r12d",
        "jc 2f",
        "imul rdi, r12, {stacks}",
        "lea rcx, [rip + image_stacks_start + {bottom}]",
        "add rdi, rcx",
        "mov ecx, {words}",
        "movabs rax, {paint}",
        "rep stosq",
        "mov rsp, rdi",
        "lea rax, [rip + image_page_tables_start]",
        "mov cr3, rax",
        "xor ebp, ebp",
        "mov edi, r12d",
        "call {main}",
        "ud2",
        // TDG.VP.VMCALL<Instruction.HLT>, interrupts blocked.
        "2:",
        "mov eax, {vmcall}",
        "mov ecx, {r10_to_r15}",
        "xor r10d, r10d",
        "mov r11d, {hlt}",
        "mov r12d, 1",
        ".byte 0x66, 0x0F, 0x01, 0xCC", // TDCALL
        "jmp 2b",
        vp_info = const tdg::VP_INFO,
        processors = const image::PROCESSORS,
        in_use = sym STACKS_IN_USE,
        stacks = const image::STACKS,
        bottom = const image::MAIN_BOTTOM,
        words = const image::MAIN_STACK / 8,
        paint = const PAINT,
        main = sym crate::application::application_main,
        vmcall = const tdg::VP_VMCALL,
        r10_to_r15 = const mask::R10_TO_R15,
        hlt = const sub_function::HLT,
    )
}

/// The stack of L2's commands, for whoever asks first.
pub(crate) fn engine_stack() -> Option<Stack> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return None;
    }
    let (bottom, end) = (image::engine_stack_start(), image::engine_stack_end());
    let memory = NonNull::new(ptr::with_exposed_provenance_mut(bottom as usize))?;
    // SAFETY: the linker script gives this memory to nothing else, a multiple of pages, and `paging` leaves 64 KiB below it
    // unmapped; it is given away once.
    Some(unsafe { Stack::new(memory, (end - bottom) as usize) })
}

/// The wakeup vector for application processors: below 4 GiB, as all of the image.
pub(crate) fn wakeup_vector() -> u64 {
    (application_entry as *const ()).expose_provenance() as u64
}

/// The most of a processor's main stack that was ever in use, in bytes; nothing for one that never came.
pub(crate) fn stack_high_water_mark(processor: usize) -> u64 {
    if STACKS_IN_USE.load(Ordering::Relaxed) >> processor & 1 == 0 {
        return 0;
    }
    let (bottom, top) = image::main_stack(processor);
    let mut at = bottom;
    // SAFETY: the main stack is this image's memory from `bottom` to `top`, 8-byte aligned, and a word is
    // only looked at, as a volatile read; some of it is in use.
    while at < top && unsafe { (at as *const u64).read_volatile() } == PAINT {
        at += 8;
    }
    top - at
}
