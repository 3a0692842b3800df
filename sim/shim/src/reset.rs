//! From the TD's reset state to Rust: 32-bit protected mode without paging, EFER.LME already set
//! (TDX Module ABI, "Initial State of TDVPS").

use core::arch::global_asm;

/// Bytes of stack, at the end of the shim's work area.
const STACK_SIZE: usize = 0x2_0000;

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
    // RSI is the virtual processor's index: only the boot processor goes on.
2:  test esi, esi
    jnz 2b
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
    lea rsp, [rip + shim_stack_top]
    xor ebp, ebp
    call {main}
    ud2

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
);
