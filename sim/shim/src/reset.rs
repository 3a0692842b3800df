//! From the TD's reset state to Rust: 32-bit protected mode without paging, EFER.LME already set
//! (TDX Module ABI, "Initial State of TDVPS").
//!
//! Every virtual processor starts here, at any time and in any order that the host likes. Number 0 is
//! the boot processor. The others wait for a wakeup as td-shim's do, in two loops:
//!
//! 1. at the image's mailbox, by their index (`ResetVector/Main.asm`, of whose commands this is the one
//!    that leads out of the loop), from their first instruction on: what that mailbox holds before the
//!    boot processor wrote to it is as much their program as this file, so the image brings it and MRTD
//!    covers it. Nothing else in memory is read here;
//! 2. at the payload's mailbox, by the APIC ID that the host tells each of them (`td-shim`,
//!    `asm/ap_loop.asm`), once the boot processor has accepted and initialised that page. Its own
//!    wakeup at the first mailbox stays there for ever, so that a processor which the host starts late
//!    comes the same way.

use core::arch::global_asm;
use tdshim_config::layout::{mailbox, shim};
use tdx_defs::ghci::{mask, sub_function};
use tdx_defs::tdg;

/// Bytes of stack, at the end of the shim's work area.
const STACK_SIZE: usize = 0x2_0000;

/// CPUID leaf of the extended topology, whose EDX is the x2APIC ID at any sub-leaf.
const TOPOLOGY: u32 = 0xB;

global_asm!(
    r#"
    .section .reset_vector, "ax"
    .code32
    .globl reset_vector
reset_vector:
    jmp shim_start32

    .section .text.start32, "ax"
    .code32
shim_start32:
    cli
    cld
    mov eax, 0x660                  // OSXMMEXCPT | OSFXSR | MCE | PAE
    mov cr4, eax
    mov eax, offset shim_pml4
    mov cr3, eax
    mov eax, 0x80010033             // PG | WP | NE | ET | MP | PE
    mov cr0, eax
    lgdt [shim_gdt_pointer]
    .byte 0xea                      // far jump
    .long shim_start64
    .word 0x38

    .code64
shim_start64:
    mov eax, 8
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov ss, eax
    // RSI is the virtual processor's index, all of it.
    test esi, esi
    jnz shim_park
    lea rsp, [rip + shim_stack_top]
    xor ebp, ebp
    call {main}
    ud2

shim_park:
    mov esp, {mailbox}
2:  pause
    mov eax, [rsp + {apic_id}]
    cmp eax, {broadcast}
    je 3f
    cmp eax, esi
    jne 2b
3:  cmp dword ptr [rsp + {command}], {wakeup}
    jne 2b
    mov eax, [rsp + {wakeup_vector}]
    jmp rax

    .globl shim_wait
shim_wait:
    mov rax, [rsp + {firmware}]     // page tables
    mov cr3, rax
    mov rbx, [rsp + {firmware} + 8] // mailbox
    mov eax, {vmcall}
    mov ecx, {r10_to_r15}
    xor r10d, r10d
    mov r11d, {cpuid}
    mov r12d, {topology}
    xor r13d, r13d
    xor r14d, r14d
    xor r15d, r15d
    .byte 0x66, 0x0f, 0x01, 0xcc    // TDCALL
    or rax, r10
    jz 4f
    mov r15d, esi                   // no answer: the index
4:  pause
    mov eax, [rbx + {apic_id}]
    cmp eax, {broadcast}
    je 5f
    cmp eax, r15d
    jne 4b
5:  cmp dword ptr [rbx + {command}], {wakeup}
    jne 4b
    mov eax, [rbx + {wakeup_vector}]
    mov qword ptr [rbx + {command}], 0 // done, for the one that waits for it
    jmp rax

    .section .rodata.gdt, "a"
    .p2align 3
    // td-shim's selectors: data 0x08, 64-bit code 0x38.
shim_gdt:
    .quad 0
    .quad 0x00cf93000000ffff
    .quad 0, 0, 0, 0, 0
    .quad 0x00af9b000000ffff
shim_gdt_pointer:
    .word 0x3f
    .quad shim_gdt

    .section .page_tables, "a"
    .p2align 12
shim_pml4:
    .quad shim_pdpt + 3
    .fill 511, 8, 0
shim_pdpt:
    .quad 0x83, 0x40000083, 0x80000083, 0xc0000083
    .fill 508, 8, 0

    .section .bss.stack, "aw", @nobits
    .p2align 4
    .skip {stack_size}
shim_stack_top:
    .text
    "#,
    main = sym super::shim_main,
    stack_size = const STACK_SIZE,
    mailbox = const shim::MAILBOX,
    command = const mailbox::COMMAND,
    apic_id = const mailbox::APIC_ID,
    wakeup_vector = const mailbox::WAKEUP_VECTOR,
    wakeup = const mailbox::WAKEUP,
    broadcast = const mailbox::BROADCAST,
    firmware = const mailbox::FIRMWARE,
    vmcall = const tdg::VP_VMCALL,
    r10_to_r15 = const mask::R10_TO_R15,
    cpuid = const sub_function::CPUID,
    topology = const TOPOLOGY,
);

/// Where a processor goes from the image's mailbox, when that holds the addresses at [`mailbox::FIRMWARE`].
pub(crate) fn wait_at_the_payloads_mailbox() -> u64 {
    unsafe extern "C" {
        static shim_wait: u8;
    }
    (&raw const shim_wait) as u64
}
