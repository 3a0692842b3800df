//! A machine whose last word is another processor's.

use super::super::guest::{Ends, Guest};
use super::super::program::{Assembled, Blob};
use super::apic::Mode;
use super::memory::SHARED;
use super::smp::{Smp, pass, spin_until_word};
use anyhow::Result;
use iced_x86::code_asm::{CodeAssembler, al, dx, ptr, qword_ptr, rsp};

/// With the options of a machine of two.
pub(super) fn guests(options: &'static [&'static str]) -> Vec<Guest> {
    let with = |guest: Guest| Guest { options, ..guest };
    vec![
        with(Guest::new("power-off by the second processor", |_| {
            by_second(power_off, spin)
        })),
        with(Guest::new(
            "power-off by the second, the first parked",
            |_| by_second(power_off, park),
        )),
        with(Guest {
            ends: Ends::Reset,
            ..Guest::new("reset by the second processor", |_| by_second(reset, spin))
        }),
        with(Guest {
            ends: Ends::Halted,
            ..Guest::new("every processor parked", |_| by_second(park, park))
        }),
        with(Guest {
            ends: Ends::Reset,
            ..Guest::new(
                "triple fault of the second processor without an IDT",
                |_| by_second(triple_fault, spin),
            )
        }),
    ]
}

type Code = fn(&mut CodeAssembler) -> Assembled;

fn by_second(second: Code, first: Code) -> Result<Blob> {
    let mut smp = Smp::started(Mode::X2Apic, 2)?;
    let job = smp.job(|a, _| {
        spin_until_word(a, SHARED, 1)?;
        second(a)
    })?;
    smp.give(1, job)?;
    smp.p.a.mov(qword_ptr(SHARED), 1)?;
    first(&mut smp.p.a)?;
    smp.p.assemble()
}

fn spin(a: &mut CodeAssembler) -> Assembled {
    let mut again = a.create_label();
    a.set_label(&mut again)?;
    a.jmp(again)?;
    Ok(())
}

fn park(a: &mut CodeAssembler) -> Assembled {
    a.cli()?;
    a.hlt()?;
    Ok(())
}

fn power_off(a: &mut CodeAssembler) -> Assembled {
    // Some time for the first to be where it stays.
    pass(a, 300_000)?;
    a.mov(dx, 0x605)?;
    a.mov(al, 0x20)?;
    a.out(dx, al)?;
    spin(a)
}

fn reset(a: &mut CodeAssembler) -> Assembled {
    a.mov(dx, 0xCF9)?;
    for value in [0x02, 0x06] {
        a.mov(al, value)?;
        a.out(dx, al)?;
    }
    spin(a)
}

/// Without an IDT.
fn triple_fault(a: &mut CodeAssembler) -> Assembled {
    a.sub(rsp, 16)?;
    a.mov(qword_ptr(rsp), 0)?;
    a.mov(qword_ptr(rsp + 8), 0)?;
    a.lidt(ptr(rsp))?;
    a.ud2()?;
    Ok(())
}
