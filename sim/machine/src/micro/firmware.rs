//! The code of a micro-guest's L1: from the reset vector to an interpreter of steps.
//!
//! The interpreter loads the general registers from a step's record, calls the step's code, and
//! stores the registers. So a test is a table of register values, and its code is shared. An
//! exception ends a step and is noted in its record; a #VE is asked about, noted, and stepped over.
//!
//! Every virtual processor runs it, with steps of its own, and says when it is through: number 0 to the host, which ends the
//! test, the others by waiting for nothing.
//!
//! All code here is position-independent, or refers to the fixed addresses of [`super::layout`].

use core::arch::global_asm;

use super::layout;
use super::record;

global_asm!(
    r#"
.section .rodata
.balign 16
.globl micro_reset
micro_reset:
.code32
  mov eax, cr4
  or eax, 0x620
  mov cr4, eax
  mov eax, {page_tables}
  mov cr3, eax
  mov eax, cr0
  or eax, 0x80000002
  mov cr0, eax
  lgdt [{gdt_pointer}]
  .byte 0xea
  .long {code}
  .word 0x8
.globl micro_reset_end
micro_reset_end:

.code64
.balign 16
.globl micro_code
micro_code:
  mov ax, 0x10
  mov ds, ax
  mov es, ax
  mov ss, ax
  lidt [{idt_pointer}]
  // RSI is the virtual processor's index. Its own block is where number 0's is, and GS's base more.
  xor eax, eax
  test esi, esi
  jz 1f
  imul eax, esi, {block}
  add eax, {first_block}
1:
  xor edx, edx
  mov ecx, 0xc0000101
  wrmsr
  mov eax, esi
  shl eax, 4
  add eax, 0x28
  ltr ax
  mov rax, cr4
  or rax, 0x40000
  mov cr4, rax
  xor ecx, ecx
  xor edx, edx
  mov eax, 7
  xsetbv
micro_next:
  mov rsp, gs:[{stack}]
  mov rbx, gs:[{current}]
  cmp qword ptr [rbx + {r_code}], 0
  je micro_done
  lea rax, [rip + micro_after]
  push rax
  push qword ptr [rbx + {r_code}]
  mov rax, [rbx + 0x00]
  mov rcx, [rbx + 0x08]
  mov rdx, [rbx + 0x10]
  mov rbp, [rbx + 0x28]
  mov rsi, [rbx + 0x30]
  mov rdi, [rbx + 0x38]
  mov r8,  [rbx + 0x40]
  mov r9,  [rbx + 0x48]
  mov r10, [rbx + 0x50]
  mov r11, [rbx + 0x58]
  mov r12, [rbx + 0x60]
  mov r13, [rbx + 0x68]
  mov r14, [rbx + 0x70]
  mov r15, [rbx + 0x78]
  mov rbx, [rbx + 0x18]
  ret

micro_after:
  mov gs:[{scratch}], rbx
  mov rbx, gs:[{current}]
  mov [rbx + {r_out} + 0x00], rax
  mov [rbx + {r_out} + 0x08], rcx
  mov [rbx + {r_out} + 0x10], rdx
  mov rax, gs:[{scratch}]
  mov [rbx + {r_out} + 0x18], rax
  mov [rbx + {r_out} + 0x28], rbp
  mov [rbx + {r_out} + 0x30], rsi
  mov [rbx + {r_out} + 0x38], rdi
  mov [rbx + {r_out} + 0x40], r8
  mov [rbx + {r_out} + 0x48], r9
  mov [rbx + {r_out} + 0x50], r10
  mov [rbx + {r_out} + 0x58], r11
  mov [rbx + {r_out} + 0x60], r12
  mov [rbx + {r_out} + 0x68], r13
  mov [rbx + {r_out} + 0x70], r14
  mov [rbx + {r_out} + 0x78], r15
  mov byte ptr [rbx + {r_done}], 1
  add qword ptr gs:[{current}], {r_size}
  cli
  jmp micro_next

micro_done:
  cmp qword ptr gs:[{index}], 0
  jne micro_wait_for_the_end
  xor eax, eax
  mov ecx, 0xfc00
  mov r10, {done}
  .byte 0x66, 0x0f, 0x01, 0xcc
  jmp micro_done

// TDVMCALL<Instruction.HLT> with interrupts blocked.
micro_wait_for_the_end:
  xor eax, eax
  mov ecx, 0xfc00
  xor r10d, r10d
  mov r11d, 12
  mov r12d, 1
  .byte 0x66, 0x0f, 0x01, 0xcc
  jmp micro_wait_for_the_end

// One stub a vector, 16 bytes each: a zero where there is no error code, the vector.
.balign 16
.globl micro_stubs
micro_stubs:
.set micro_vector, 0
.rept 256
.balign 16
.if !((0x00227d00 >> micro_vector) & 1) || (micro_vector > 31)
  push 0
.endif
  push micro_vector
  jmp micro_trap
.set micro_vector, micro_vector + 1
.endr

.balign 16
micro_trap:
  push rbx
  push rax
  mov rbx, gs:[{current}]
  mov rax, [rsp + 16]
  cmp rax, 32
  jae micro_interrupt
  mov [rbx + {r_vector}], rax
  mov rax, [rsp + 24]
  mov [rbx + {r_error}], rax
  cmp qword ptr [rsp + 16], 20
  je micro_ve
  mov rax, cr2
  mov [rbx + {r_cr2}], rax
  pop rax
  pop rbx
  mov rsp, gs:[{stack}]
  jmp micro_after

micro_ve:
  push rcx
  push rdx
  push r8
  push r9
  push r10
  mov eax, 3
  .byte 0x66, 0x0f, 0x01, 0xcc
  mov [rbx + {r_ve} + 0x00], rcx
  mov [rbx + {r_ve} + 0x08], rdx
  mov [rbx + {r_ve} + 0x10], r8
  mov [rbx + {r_ve} + 0x18], r9
  mov [rbx + {r_ve} + 0x20], r10
  mov [rbx + {r_ve} + 0x28], rax
  mov eax, r10d
  // RIP, above five registers, RAX, RBX, vector and error code.
  add [rsp + 72], rax
  pop r10
  pop r9
  pop r8
  pop rdx
  pop rcx
  pop rax
  pop rbx
  add rsp, 16
  iretq

micro_interrupt:
  mov [rbx + {r_interrupt}], rax
  push rcx
  push rdx
  mov ecx, 0x80b
  xor eax, eax
  xor edx, edx
  wrmsr
  pop rdx
  pop rcx
  pop rax
  pop rbx
  add rsp, 16
  iretq

// What steps call.
.balign 16
.globl micro_tdcall
micro_tdcall:
  .byte 0x66, 0x0f, 0x01, 0xcc
  ret
.globl micro_cpuid
micro_cpuid:
  cpuid
  ret
.globl micro_rdmsr
micro_rdmsr:
  rdmsr
  ret
.globl micro_wrmsr
micro_wrmsr:
  wrmsr
  ret
// RAX = [RSI]
.globl micro_load
micro_load:
  mov rax, [rsi]
  ret
// [RDI] = RAX
.globl micro_store
micro_store:
  mov [rdi], rax
  ret
// Until [RSI] is not below RAX.
.globl micro_wait
micro_wait:
  cmp [rsi], rax
  jae 2f
  pause
  jmp micro_wait
2:
  ret
// The same, without letting others run.
.globl micro_spin
micro_spin:
  cmp [rsi], rax
  jb micro_spin
  ret
// RCX bytes from [RSI] to [RDI]
.globl micro_copy
micro_copy:
  cld
  rep movsb
  ret
.globl micro_out
micro_out:
  out dx, al
  ret
.globl micro_in
micro_in:
  in al, dx
  ret
.globl micro_hlt
micro_hlt:
  hlt
  ret
// YMM0 = [RSI], YMM15 = [RSI + 32]
.globl micro_load_vectors
micro_load_vectors:
  vmovdqu ymm0, ymmword ptr [rsi]
  vmovdqu ymm15, ymmword ptr [rsi + 32]
  ret
// [RDI] = YMM0, [RDI + 32] = YMM15
.globl micro_store_vectors
micro_store_vectors:
  vmovdqu ymmword ptr [rdi], ymm0
  vmovdqu ymmword ptr [rdi + 32], ymm15
  ret
// RAX = CR2
.globl micro_read_cr2
micro_read_cr2:
  mov rax, cr2
  ret
// CR2 = RAX
.globl micro_write_cr2
micro_write_cr2:
  mov cr2, rax
  ret
// RAX = XCR0
.globl micro_xgetbv
micro_xgetbv:
  push rcx
  xor ecx, ecx
  xgetbv
  pop rcx
  ret
// Interrupts on for a moment.
.globl micro_interrupts
micro_interrupts:
  sti
  nop
  nop
  nop
  cli
  ret
// TDCALL with interrupts on from the instruction on, as an idle loop does.
.globl micro_sti_tdcall
micro_sti_tdcall:
  sti
  .byte 0x66, 0x0f, 0x01, 0xcc
  cli
  ret
// TDCALL at CPL 3.
.globl micro_user_tdcall
micro_user_tdcall:
  push 0x1b
  push {user_stack_top}
  push 2
  push 0x23
  lea rbx, [rip + 2f]
  push rbx
  iretq
2:
  .byte 0x66, 0x0f, 0x01, 0xcc
  ud2
.globl micro_ud2
micro_ud2:
  ud2
.globl micro_code_end
micro_code_end:
.text
"#,
    page_tables = const layout::PAGE_TABLES,
    gdt_pointer = const layout::GDT_POINTER,
    idt_pointer = const layout::IDT_POINTER,
    code = const layout::CODE,
    current = const layout::CURRENT,
    scratch = const layout::SCRATCH,
    stack = const layout::STACK,
    index = const layout::INDEX,
    block = const layout::BLOCK_SIZE,
    first_block = const layout::BLOCKS - layout::TABLES,
    user_stack_top = const layout::USER_STACK_TOP,
    done = const layout::DONE,
    r_code = const record::CODE,
    r_out = const record::OUTPUT,
    r_done = const record::DONE,
    r_vector = const record::VECTOR,
    r_error = const record::ERROR,
    r_cr2 = const record::CR2,
    r_ve = const record::VE,
    r_interrupt = const record::INTERRUPT,
    r_size = const record::SIZE,
);

unsafe extern "C" {
    safe static micro_reset: u8;
    safe static micro_reset_end: u8;
    safe static micro_code: u8;
    safe static micro_code_end: u8;
    safe static micro_stubs: u8;
}

/// Declares the labels of steps' code and gives them addresses in the guest.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $label:ident;)*) => {
        unsafe extern "C" {
            $(safe static $label: u8;)*
        }
        /// What a step calls.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Code {
            $($(#[$doc])* $name,)*
        }
        impl Code {
            /// The code's address in L1.
            pub(super) fn gpa(self) -> u64 {
                let label = match self {
                    $(Self::$name => &raw const $label,)*
                };
                layout::CODE + (label.addr() - (&raw const micro_code).addr()) as u64
            }
        }
    };
}

codes! {
    /// TDCALL.
    Tdcall = micro_tdcall;
    /// CPUID.
    Cpuid = micro_cpuid;
    /// RDMSR.
    Rdmsr = micro_rdmsr;
    /// WRMSR.
    Wrmsr = micro_wrmsr;
    /// RAX = \[RSI\].
    Load = micro_load;
    /// \[RDI\] = RAX.
    Store = micro_store;
    /// PAUSE until \[RSI\] is not below RAX.
    Wait = micro_wait;
    /// Until \[RSI\] is not below RAX, without PAUSE.
    Spin = micro_spin;
    /// RCX bytes from \[RSI\] to \[RDI\].
    Copy = micro_copy;
    /// OUT DX, AL.
    Out = micro_out;
    /// IN AL, DX.
    In = micro_in;
    /// HLT.
    Hlt = micro_hlt;
    /// YMM0 and YMM15 from \[RSI\].
    LoadVectors = micro_load_vectors;
    /// YMM0 and YMM15 to \[RDI\].
    StoreVectors = micro_store_vectors;
    /// RAX = CR2.
    ReadCr2 = micro_read_cr2;
    /// CR2 = RAX.
    WriteCr2 = micro_write_cr2;
    /// EDX:EAX = XCR0.
    Xgetbv = micro_xgetbv;
    /// STI, some instructions, CLI.
    Interrupts = micro_interrupts;
    /// STI; TDCALL; CLI.
    StiTdcall = micro_sti_tdcall;
    /// TDCALL at CPL 3.
    UserTdcall = micro_user_tdcall;
    /// UD2.
    Ud2 = micro_ud2;
}

/// The bytes between two labels.
pub(super) fn between(start: *const u8, end: *const u8) -> &'static [u8] {
    // SAFETY: both labels are in this program's read-only data, the second behind the first.
    unsafe { core::slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// The code from the reset vector's target on.
pub(super) fn reset() -> &'static [u8] {
    between(&raw const micro_reset, &raw const micro_reset_end)
}

/// The interpreter and the steps' code, for [`layout::CODE`].
pub(super) fn code() -> &'static [u8] {
    between(&raw const micro_code, &raw const micro_code_end)
}

/// The guest address of the exception stubs, 16 bytes each.
pub(super) fn stubs() -> u64 {
    layout::CODE + ((&raw const micro_stubs).addr() - (&raw const micro_code).addr()) as u64
}
