//! From one stack to another and back.
//!
//! What a function has to keep for its caller by the System V ABI for x86-64 (3.2.1, "Registers and the stack frame") is
//! on the stack that is left: RBX, RBP, R12 to R15, the control bits of MXCSR, the x87 control word. All other registers
//! are free to be changed by any call, and so by this one. Interrupts have stacks of their own and notice nothing.

use core::arch::{asm, naked_asm};
use core::ffi::c_void;
use core::num::NonZeroUsize;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::Stack;

/// The fiber's stack: lowest byte and size, both zero where there is no fiber.
pub(super) static BOTTOM: AtomicUsize = AtomicUsize::new(0);
pub(super) static SIZE: AtomicUsize = AtomicUsize::new(0);
/// TSC value at which the slice ends. Written and read by the processor that is on the fiber's stack.
pub(super) static END: AtomicU64 = AtomicU64::new(0);
/// Stack pointer of who waits for the slice to end. As `END`.
static OUTSIDE: AtomicUsize = AtomicUsize::new(0);

/// MXCSR and x87 control word as at the start of a program (System V ABI, 3.4.1).
const MXCSR: u64 = 0x1F80;
const X87_CONTROL: u64 = 0x037F;

/// What work begins with, at the top of its stack.
#[repr(C, align(16))]
struct Beginning<T> {
    work: fn(&mut T),
    value: NonNull<T>,
}

/// Words that [`enter`] takes from a stack, and two that keep what is above them aligned.
const FRAME: usize = 10;

pub(super) fn set_stack(bottom: usize, size: usize) {
    BOTTOM.store(bottom, Ordering::Relaxed);
    SIZE.store(size, Ordering::Relaxed);
}

/// The processor's time stamp counter, by which slices are measured.
pub fn tsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: RDTSC only reads the counter.
    unsafe {
        asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags))
    };
    u64::from(high) << 32 | u64::from(low)
}

/// A place at which work may be left, beside those in OpenSSL, for work in Rust that takes long. Nothing happens outside
/// of a [`Fiber`](super::Fiber) and before the slice is over. Not to be called with a lock held.
pub fn yield_now() {
    let here = 0_u8;
    let above = (&raw const here)
        .addr()
        .wrapping_sub(BOTTOM.load(Ordering::Relaxed));
    if above < SIZE.load(Ordering::Relaxed) && tsc() >= END.load(Ordering::Relaxed) {
        // SAFETY: the stack is the fiber's, so somebody is in `enter`.
        unsafe { leave() };
    }
}

/// A frame on the free `stack` that [`enter`] begins `work` on `value` with.
///
/// # Safety
/// Nobody uses the stack, nor the value until the work is done.
pub(super) unsafe fn prepare<T>(
    stack: &mut Stack,
    value: NonNull<T>,
    work: fn(&mut T),
) -> NonZeroUsize {
    let main: unsafe extern "sysv64" fn(*mut c_void) -> ! = run::<T>;
    let beginning = stack.top().cast::<Beginning<T>>().wrapping_sub(1);
    let frame = beginning.cast::<u64>().wrapping_sub(FRAME);
    let words = [
        MXCSR | X87_CONTROL << 32,
        0,                                    // R15
        0,                                    // R14
        main as usize as u64,                 // R13
        beginning.expose_provenance() as u64, // R12
        0,                                    // RBX
        0,                                    // RBP
        begin as *const () as usize as u64,   // where `enter` returns to
    ];
    // SAFETY: inside the stack, which nobody uses (the caller's), and aligned to 16 as its top is.
    unsafe { beginning.write_volatile(Beginning { work, value }) };
    for (index, word) in words.into_iter().enumerate() {
        // SAFETY: as before.
        unsafe { frame.wrapping_add(index).write_volatile(word) };
    }
    NonZeroUsize::new(frame.expose_provenance()).unwrap_or(NonZeroUsize::MIN)
}

/// The first function of work.
///
/// # Safety
/// `beginning` is the one of this stack, by [`prepare`].
unsafe extern "sysv64" fn run<T>(beginning: *mut c_void) -> ! {
    // SAFETY: written by `prepare`, and used once.
    let Beginning { work, mut value } = unsafe { beginning.cast::<Beginning<T>>().read() };
    // SAFETY: by `prepare`'s contract nobody else has the value.
    work(unsafe { value.as_mut() });
    // SAFETY: on the fiber's stack, so somebody is in `enter`.
    unsafe { done() }
}

/// What a new frame returns to, aligned as behind a call.
#[unsafe(naked)]
unsafe extern "sysv64" fn begin() -> ! {
    naked_asm!("mov rdi, r12", "call r13", "ud2",)
}

/// Goes on where the fiber was left, up to `until` or a little later. The stack pointer with which to come back, or
/// `None` if the work is done.
///
/// # Safety
/// `stack_pointer` is from [`prepare`] or from the last call, and was not used.
pub(super) unsafe fn enter(stack_pointer: NonZeroUsize, until: u64) -> Option<NonZeroUsize> {
    END.store(until, Ordering::Relaxed);
    // SAFETY: the caller's.
    NonZeroUsize::new(unsafe { exchange(stack_pointer.get()) })
}

/// # Safety
/// As [`enter`].
#[unsafe(naked)]
unsafe extern "sysv64" fn exchange(stack_pointer: usize) -> usize {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "stmxcsr [rsp]",
        "fnstcw [rsp + 4]",
        "mov [rip + {outside}], rsp",
        "mov rsp, rdi",
        "ldmxcsr [rsp]",
        "fldcw [rsp + 4]",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        outside = sym OUTSIDE,
    )
}

/// Leaves the fiber's stack for who is in [`enter`]; returns when somebody is there again.
///
/// # Safety
/// The stack pointer is on the fiber's stack, and no lock is held.
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn leave() {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "stmxcsr [rsp]",
        "fnstcw [rsp + 4]",
        "mov rax, rsp",
        "jmp {outside}",
        outside = sym outside,
    )
}

/// Leaves the fiber's stack for good.
///
/// # Safety
/// The stack pointer is on the fiber's stack, and nothing on it is needed any more.
#[unsafe(naked)]
unsafe extern "sysv64" fn done() -> ! {
    naked_asm!(
        "xor eax, eax",
        "jmp {outside}",
        outside = sym outside,
    )
}

/// The way back to who is in [`exchange`], with RAX for it.
#[unsafe(naked)]
unsafe extern "sysv64" fn outside() {
    naked_asm!(
        "mov rsp, [rip + {outside}]",
        "ldmxcsr [rsp]",
        "fldcw [rsp + 4]",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        outside = sym OUTSIDE,
    )
}
