//! The entries of functions of OpenSSL at which work may be left: `build/hooks.rs` lists them.
//!
//! Each looks whether it is on the fiber's stack and the slice is over, leaves the stack if so, and goes on to the real
//! function with the registers and the stack that it was called with. Nothing but RAX, R11 and the flags is changed, which
//! are no arguments and kept by nobody (System V ABI for x86-64, 3.2.3); RAX is one of functions with variable arguments,
//! which these are not.

use core::arch::naked_asm;

use super::switch::{BOTTOM, END, SIZE, leave};

macro_rules! hooks {
    ($($name:ident = $real:literal;)*) => { $(
        /// # Safety
        /// As the function of OpenSSL.
        #[allow(non_snake_case, reason = "the name is OpenSSL's")]
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "sysv64" fn $name() {
            naked_asm!(
                "mov rax, rsp",
                "sub rax, [rip + {bottom}]",
                "cmp rax, [rip + {size}]",
                "jae 2f",
                "mov r11, rdx",
                "rdtsc",
                "shl rdx, 32",
                "or rax, rdx",
                "mov rdx, r11",
                "cmp rax, [rip + {end}]",
                "jb 2f",
                "push rdi",
                "push rsi",
                "push rdx",
                "push rcx",
                "push r8",
                "push r9",
                "sub rsp, 8",
                "call {leave}",
                "add rsp, 8",
                "pop r9",
                "pop r8",
                "pop rcx",
                "pop rdx",
                "pop rsi",
                "pop rdi",
                "2:",
                concat!("jmp ", $real, "@PLT"),
                bottom = sym BOTTOM,
                size = sym SIZE,
                end = sym END,
                leave = sym leave,
            )
        }
    )* };
}

include!(concat!(env!("OUT_DIR"), "/hooks.rs"));
