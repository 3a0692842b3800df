//! How a guest ends: by its own will, by a mistake, or not at all.

use super::guest::{Ends, Guest};
use super::l1_image::L1Image;
use super::program::{Blob, Program, tpm};
use anyhow::Result;
use iced_x86::code_asm::{al, byte_ptr, dword_ptr, dx, ptr, rax, rbx, rsp};

pub(super) fn guests() -> Vec<Guest> {
    vec![
        Guest::new("power-off in the middle of a TPM command", during_command),
        Guest::new("power-off with a TPM response unread", with_response),
        Guest {
            ends: Ends::Reset,
            ..Guest::new("reset by port 0xCF9", |_| write_port(0xCF9, &[0x02, 0x06]))
        },
        Guest {
            ends: Ends::Reset,
            ..Guest::new("reset by the keyboard controller", |_| {
                write_port(0x64, &[0xFE])
            })
        },
        Guest::reported("triple fault", &["L2 triple fault at "], |_| {
            triple_fault(0xFFF)
        }),
        Guest {
            ends: Ends::Reset,
            ..Guest::new("reset by a triple fault without an IDT", |_| {
                triple_fault(0)
            })
        },
        Guest {
            ends: Ends::Halted,
            ..Guest::new("HLT with interrupts off", halt)
        },
        Guest {
            options: &["watchdog=1"],
            ends: Ends::Stuck("no progress for 1 s"),
            ..Guest::new("busy loop", busy_loop)
        },
        Guest::reported(
            "stack in the TPM window when an exception comes",
            &["delivered through 0xfed4"],
            stack_in_window,
        ),
        Guest::reported(
            "execution in the TPM window",
            &["L2 at 0xfed40f00", "instruction fetch from 0xfed40"],
            |_| {
                let mut p = Program::new()?;
                p.a.mov(rax, 0xFED4_0F00_u64)?;
                p.a.jmp(rax)?;
                p.assemble()
            },
        ),
        Guest::reported(
            "page tables in the TPM window",
            &["paging structure at 0xfed4"],
            |_| {
                let mut p = Program::new()?;
                p.a.mov(iced_x86::code_asm::cr3, rbx)?;
                p.say("@still running")?;
                p.halt()?;
                p.assemble()
            },
        ),
        Guest::reported(
            "MOVUPS on the TPM window",
            &["L2 at 0x100", "cannot be emulated"],
            |_| vector_access(&[0x0F, 0x10, 0x03]),
        ),
        Guest::reported(
            "VMOVDQU on the TPM window",
            &["L2 at 0x100", "cannot be emulated"],
            |_| vector_access(&[0xC5, 0xFE, 0x6F, 0x03]),
        ),
        Guest::reported(
            "LOCK CMPXCHG on the TPM window",
            &["L2 at 0x100", "cannot be emulated"],
            |_| vector_access(&[0xF0, 0x0F, 0xB1, 0x4B, 0x08]),
        ),
    ]
}

/// Nothing but a power-off.
pub(super) fn power_off(_: &L1Image) -> Result<Blob> {
    let mut p = Program::new()?;
    p.power_off()?;
    p.assemble()
}

fn during_command(_: &L1Image) -> Result<Blob> {
    let mut p = Program::new()?;
    p.take_tpm()?;
    p.a.mov(dword_ptr(rbx + tpm::STS), tpm::COMMAND_READY)?;
    p.a.mov(byte_ptr(rbx + tpm::FIFO), 0x80)?;
    p.a.mov(byte_ptr(rbx + tpm::FIFO), 0x01)?;
    p.power_off()?;
    p.assemble()
}

fn with_response(_: &L1Image) -> Result<Blob> {
    let mut p = Program::new()?;
    p.take_tpm()?;
    p.a.mov(dword_ptr(rbx + tpm::STS), tpm::COMMAND_READY)?;
    for byte in [0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0] {
        p.a.mov(byte_ptr(rbx + tpm::FIFO), byte)?;
    }
    p.a.mov(dword_ptr(rbx + tpm::STS), tpm::GO)?;
    p.power_off()?;
    p.assemble()
}

fn write_port(port: u32, values: &[u32]) -> Result<Blob> {
    let mut p = Program::new()?;
    p.a.mov(dx, port)?;
    for value in values {
        p.a.mov(al, *value)?;
        p.a.out(dx, al)?;
    }
    p.say("@still running")?;
    p.halt()?;
    p.assemble()
}

/// With an IDT in the zeros of the first page.
fn triple_fault(limit: u16) -> Result<Blob> {
    let mut p = Program::new()?;
    let mut pointer = limit.to_le_bytes().to_vec();
    pointer.extend([0; 8]);
    let pointer = p.data(&pointer);
    p.a.lidt(ptr(pointer))?;
    p.ends_here()?;
    p.a.ud2()?;
    p.assemble()
}

fn halt(_: &L1Image) -> Result<Blob> {
    let mut p = Program::new()?;
    p.ends_here()?;
    p.a.hlt()?;
    p.say("@still running")?;
    p.halt()?;
    p.assemble()
}

fn busy_loop(_: &L1Image) -> Result<Blob> {
    let mut p = Program::new()?;
    let mut again = p.a.create_label();
    p.a.set_label(&mut again)?;
    p.a.jmp(again)?;
    p.assemble()
}

fn stack_in_window(_: &L1Image) -> Result<Blob> {
    let mut p = Program::new()?;
    p.a.lea(rsp, rbx + 0x800)?;
    p.ends_here()?;
    p.a.ud2()?;
    p.assemble()
}

/// An instruction that accesses the window at RBX and that L1 does not emulate. AVX is on.
fn vector_access(instruction: &[u8]) -> Result<Blob> {
    let mut p = Program::new()?;
    super::state::enable_avx(&mut p)?;
    p.ends_here()?;
    p.a.db(instruction)?;
    p.say("@still running")?;
    p.halt()?;
    p.assemble()
}
