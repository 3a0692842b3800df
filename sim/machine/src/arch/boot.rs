//! From QEMU's PVH entry (32-bit, paging off) to [`crate::main`] in 64-bit mode.
//!
//! All of memory below 512 GiB is mapped one to one with 1 GiB pages. Paging has five levels when
//! the processor can: nested page tables have as many levels as the host's own, and a 52-bit guest
//! address (shared bit 51) needs five.

use core::arch::global_asm;

global_asm!(
    r#"
.section .note.pvh,"a",@note
.p2align 2
.long 4
.long 8
.long 18
.asciz "Xen"
.p2align 2
.quad pvh_start

.section .boot32,"ax"
.code32
.globl pvh_start
pvh_start:
  cli
  cld
  mov ebp, ebx
  mov edi, offset boot_pdpt
  xor ecx, ecx
2:
  mov eax, ecx
  shl eax, 30
  or eax, 0x83
  mov [edi + ecx*8], eax
  mov eax, ecx
  shr eax, 2
  mov [edi + ecx*8 + 4], eax
  inc ecx
  cmp ecx, 512
  jb 2b
  mov eax, offset boot_pdpt
  or eax, 3
  mov [boot_pml4], eax
  mov eax, offset boot_pml4
  or eax, 3
  mov [boot_pml5], eax

  // CR4: PAE, OSFXSR, OSXMMEXCPT; LA57 where CPUID.7.0:ECX[16] allows it.
  mov esi, 0x620
  mov edi, offset boot_pml4
  mov eax, 7
  xor ecx, ecx
  cpuid
  bt ecx, 16
  jnc 3f
  or esi, 0x1000
  mov edi, offset boot_pml5
3:
  mov cr4, esi
  mov cr3, edi
  // EFER: LME, NXE.
  mov ecx, 0xc0000080
  rdmsr
  or eax, 0x900
  wrmsr
  // CR0: PG, WP, NE, MP, PE; EM off.
  mov eax, cr0
  and eax, 0xfffffffb
  or eax, 0x80010023
  mov cr0, eax
  lgdt [boot_gdt_pointer]
  .byte 0xea
  .long boot_start64
  .word 0x8

// A further processor, in protected mode on the descriptors of its real-mode start (`super::runner`).
.globl runner_start32
runner_start32:
  mov ax, 0x10
  mov ds, ax
  mov es, ax
  mov ss, ax
  mov eax, [runner_cr4]
  mov cr4, eax
  mov eax, [runner_cr3]
  mov cr3, eax
  mov ecx, 0xc0000080
  rdmsr
  or eax, 0x900
  wrmsr
  mov eax, cr0
  and eax, 0x9ffffffb
  or eax, 0x80010023
  mov cr0, eax
  lgdt [boot_gdt_pointer]
  .byte 0xea
  .long runner_start64
  .word 0x8
.p2align 2
boot_gdt_pointer:
  .word boot_gdt_end - boot_gdt - 1
  .long boot_gdt

.code64
boot_start64:
  mov ax, 0x10
  mov ds, ax
  mov es, ax
  mov ss, ax
  xor eax, eax
  mov fs, ax
  mov gs, ax
  lea rsp, [boot_stack_top]
  mov edi, ebp
  xor ebp, ebp
  call {main}
4:
  hlt
  jmp 4b
runner_start64:
  mov ax, 0x10
  mov ds, ax
  mov es, ax
  mov ss, ax
  xor eax, eax
  mov fs, ax
  mov gs, ax
  mov rsp, [runner_stack]
  xor ebp, ebp
  call {runner}
5:
  hlt
  jmp 5b

.section .rodata
.p2align 4
boot_gdt:
  .quad 0
  .quad 0x00af9b000000ffff
  .quad 0x00cf93000000ffff
boot_gdt_end:

.section .bss
.p2align 3
.globl runner_cr3
runner_cr3: .skip 8
.globl runner_cr4
runner_cr4: .skip 8
.globl runner_stack
runner_stack: .skip 8
.p2align 12
boot_pml5: .skip 4096
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_stack: .skip 0x80000
boot_stack_top:
.text
"#,
    main = sym crate::main,
    runner = sym crate::hardware::runners::main,
);
