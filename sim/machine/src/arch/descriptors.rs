//! The program's own GDT, TSS and IDT. Every gate switches to a stack of its own (IST): the
//! prebuilt core library uses the red zone below RSP.

use core::arch::{asm, naked_asm};
use core::cell::UnsafeCell;

use alloc::boxed::Box;

const STACK: usize = 0x8000;
const VECTORS: usize = 256;

/// A 64-bit TSS (SDM volume 3, figure 9-11).
#[repr(C, packed)]
struct TaskState {
    _reserved0: u32,
    rsp: [u64; 3],
    _reserved1: u64,
    ist: [u64; 7],
    _reserved2: [u16; 5],
    io_map_base: u16,
}

#[repr(C, align(16))]
struct Tables {
    gdt: [u64; 5],
    tss: TaskState,
    idt: [[u64; 2]; VECTORS],
    exception_stack: [u8; STACK],
    interrupt_stack: [u8; STACK],
}

#[repr(transparent)]
struct Descriptors(UnsafeCell<Tables>);

// SAFETY: `install`, which the first processor calls once, is the only code that takes a reference.
unsafe impl Sync for Descriptors {}

static DESCRIPTORS: Descriptors = Descriptors(UnsafeCell::new(Tables::EMPTY));

impl Tables {
    const EMPTY: Self = Self {
        gdt: [0; 5],
        tss: TaskState {
            _reserved0: 0,
            rsp: [0; 3],
            _reserved1: 0,
            ist: [0; 7],
            _reserved2: [0; 5],
            io_map_base: 0,
        },
        idt: [[0; 2]; VECTORS],
        exception_stack: [0; STACK],
        interrupt_stack: [0; STACK],
    };
}

const CODE: u64 = 0x8;
const TASK: u16 = 0x18;

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

/// Loads GDT, TSS and IDT of the first processor. Called once, before anything can trap.
pub(crate) fn install() {
    let tables = DESCRIPTORS.0.get();
    // SAFETY: called once, at start, by the only processor that runs: nothing else refers to the tables.
    load(unsafe { &mut *tables });
}

/// Loads GDT, TSS and IDT of a further processor, which keeps them for ever.
pub(crate) fn install_more() {
    load(Box::leak(Box::new(Tables::EMPTY)));
}

fn load(tables: &'static mut Tables) {
    let exception_top = tables.exception_stack.as_ptr_range().end as u64 & !15;
    let interrupt_top = tables.interrupt_stack.as_ptr_range().end as u64 & !15;
    tables.tss.ist[0] = exception_top;
    tables.tss.ist[1] = interrupt_top;
    tables.tss.io_map_base = size_of::<TaskState>() as u16;
    let base = &raw const tables.tss as u64;
    let limit = size_of::<TaskState>() as u64 - 1;
    tables.gdt = [
        0,
        0x00AF_9B00_0000_FFFF,
        0x00CF_9300_0000_FFFF,
        limit | (base & 0xFF_FFFF) << 16 | 0x89 << 40 | (base >> 24 & 0xFF) << 56,
        base >> 32,
    ];
    for (vector, gate) in tables.idt.iter_mut().enumerate() {
        let handler = STUBS as *const () as u64 + (vector * STUB_SIZE) as u64;
        let stack = if vector < 32 { 1 } else { 2 };
        *gate = [
            handler & 0xFFFF
                | CODE << 16
                | stack << 32
                | 0x8E << 40
                | (handler >> 16 & 0xFFFF) << 48,
            handler >> 32,
        ];
    }
    let gdt = TablePointer {
        limit: (size_of_val(&tables.gdt) - 1) as u16,
        base: tables.gdt.as_ptr() as u64,
    };
    let idt = TablePointer {
        limit: (size_of_val(&tables.idt) - 1) as u16,
        base: tables.idt.as_ptr() as u64,
    };
    // SAFETY: the tables are for ever and complete; the segment selectors in use (8 and 16) keep
    // their meaning.
    unsafe {
        asm!("lgdt [{}]", "lidt [{}]", "ltr {:x}", in(reg) &gdt, in(reg) &idt, in(reg) TASK);
    }
}

const STUB_SIZE: usize = 16;
const STUBS: unsafe extern "C" fn() = stubs;

/// One 16-byte stub a vector: pushes a zero where the processor pushes no error code, and the
/// vector.
#[unsafe(naked)]
unsafe extern "C" fn stubs() {
    naked_asm!(
        ".set exception_vector, 0",
        ".rept 256",
        ".balign 16",
        // Vectors with an error code: 8, 10-14, 17, 21.
        ".if !((0x00227d00 >> exception_vector) & 1) || (exception_vector > 31)",
        "push 0",
        ".endif",
        "push exception_vector",
        "jmp {trap}",
        ".set exception_vector, exception_vector + 1",
        ".endr",
        trap = sym trap,
    )
}

#[unsafe(naked)]
unsafe extern "C" fn trap() {
    naked_asm!(
        "push rax",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push rbx",
        "mov rdi, rsp",
        "mov rbx, rsp",
        "cld",
        "and rsp, -16",
        "call {handler}",
        "mov rsp, rbx",
        "pop rbx",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "add rsp, 16",
        "iretq",
        handler = sym handler,
    )
}

/// What the stubs leave on the stack.
#[repr(C)]
struct Frame {
    scratch: [u64; 10],
    vector: u64,
    error_code: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

extern "sysv64" fn handler(frame: &Frame) {
    if frame.vector >= 32 {
        super::interrupts::taken(frame.vector as u8);
        return;
    }
    let cr2: u64;
    // SAFETY: a read without effects.
    unsafe { asm!("mov {}, cr2", out(reg) cr2, options(nomem, nostack)) };
    panic!(
        "exception {} error {:#x} at {:#x}, RSP {:#x}, CR2 {:#x}",
        frame.vector, frame.error_code, frame.rip, frame.rsp, cr2
    );
}
