//! A guest that touches L1's memory is ended at once, and learns nothing.

use super::guest::Guest;
use super::program::{Blob, Program};
use anyhow::Result;
use iced_x86::code_asm::{byte_ptr, qword_ptr, rax, rbx, rcx, rdi, rsi, rsp};

const OWN: &str = "which is the L1 VMM's memory";

pub(super) fn guests() -> Vec<Guest> {
    vec![
        Guest::reported("read of L1's code", &["read of 0x", OWN], |l1| {
            read(l1.start)
        }),
        Guest::reported("read of L1's heap", &["read of 0x", OWN], |l1| {
            read(l1.symbol("image_heap_start")? + 0x1000)
        }),
        Guest::reported(
            "read of L1's stack, where the guest state is",
            &["read of 0x", OWN],
            |l1| read(l1.symbol("image_stack_top")? - 0x100),
        ),
        Guest::reported(
            "read of the buffer that L1 shares with the host",
            &["read of 0x", OWN],
            |l1| read(l1.region),
        ),
        Guest::reported("write to L1's page tables", &["write to 0x", OWN], |l1| {
            write(l1.symbol("image_page_tables_start")?)
        }),
        Guest::reported("write to L1's code", &["write to 0x", OWN], |l1| {
            write(l1.start)
        }),
        Guest::reported("string move into L1's stack", &["write to 0x", OWN], |l1| {
            let mut p = Program::new()?;
            p.a.mov(rdi, l1.symbol("image_stack_bottom")?)?;
            p.a.mov(rsi, 0x40_000_u64)?;
            p.a.mov(rcx, 64_u64)?;
            p.ends_here()?;
            p.a.rep().movsb()?;
            ran_on(p)
        }),
        Guest::reported(
            "copy from L1's memory to the TPM by one instruction",
            &["read of 0x", OWN],
            |l1| {
                let mut p = Program::new()?;
                p.a.mov(rsi, l1.start)?;
                p.a.lea(rdi, rbx + 0x80)?;
                p.ends_here()?;
                p.a.movsb()?;
                ran_on(p)
            },
        ),
        Guest::reported(
            "copy from the TPM to L1's memory by one instruction",
            &["which is neither memory nor a device"],
            |l1| {
                let mut p = Program::new()?;
                p.a.lea(rsi, rbx + 0xF00)?;
                p.a.mov(rdi, l1.symbol("image_stack_top")? - 0x100)?;
                p.a.mov(rcx, 4_u64)?;
                p.ends_here()?;
                p.a.rep().movsb()?;
                ran_on(p)
            },
        ),
        Guest::reported(
            "execution of L1's memory",
            &["instruction fetch from 0x", OWN],
            |l1| {
                let mut p = Program::new()?;
                p.a.mov(rax, l1.start)?;
                p.a.jmp(rax)?;
                ran_on(p)
            },
        ),
        Guest::reported("page tables in L1's memory", &[OWN], |l1| {
            let mut p = Program::new()?;
            p.a.mov(rax, l1.symbol("image_page_tables_start")?)?;
            p.a.mov(iced_x86::code_asm::cr3, rax)?;
            ran_on(p)
        }),
        Guest::reported(
            "a stack in L1's memory when an exception comes",
            &[OWN],
            |l1| {
                let mut p = Program::new()?;
                p.a.mov(rsp, l1.symbol("image_stack_top")?)?;
                p.ends_here()?;
                p.a.ud2()?;
                ran_on(p)
            },
        ),
        Guest::reported(
            "string output from L1's memory",
            &["access to 0x", "which is neither memory nor a device"],
            |l1| {
                let mut p = Program::new()?;
                p.a.mov(rsi, l1.start)?;
                p.a.mov(rcx, 16_u64)?;
                p.a.mov(iced_x86::code_asm::dx, 0x3F8)?;
                p.ends_here()?;
                p.a.rep().outsb()?;
                ran_on(p)
            },
        ),
    ]
}

fn read(address: u64) -> Result<Blob> {
    let mut p = Program::new()?;
    p.a.mov(rsi, address)?;
    p.ends_touching(address)?;
    p.a.mov(rax, qword_ptr(rsi))?;
    ran_on(p)
}

fn write(address: u64) -> Result<Blob> {
    let mut p = Program::new()?;
    p.a.mov(rdi, address)?;
    p.ends_touching(address)?;
    p.a.mov(byte_ptr(rdi), 0x55)?;
    ran_on(p)
}

fn ran_on(mut p: Program) -> Result<Blob> {
    p.say("@still running")?;
    p.halt()?;
    p.assemble()
}
