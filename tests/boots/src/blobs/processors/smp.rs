//! Writing a program for several processors: the first one has the plan, the others do its jobs.

use super::super::program::{Assembled, Blob, Program};
use super::apic::{self, Mode, To};
use super::memory::{self, BLOCK};
use super::start;
use anyhow::Result;
use iced_x86::code_asm::{
    AsmRegister64, CodeAssembler, CodeLabel, eax, ecx, ptr, qword_ptr, r11, r12, r15, rax, rdi,
    rdx, rsi, rsp,
};
use x86_defs::apic::DELIVERY_FIXED;

/// Ticks of the TSC after which something will not come any more: a second.
const PATIENCE: i32 = 1_000_000_000;
/// Ticks of the TSC in which everything comes that is on its way: several turns of each processor.
pub(super) const SETTLED: i32 = 1_500_000;
/// ICR delivery modes (SDM volume 3, "Interrupt Command Register").
pub(super) const INIT: u8 = 5;
pub(super) const STARTUP: u8 = 6;

/// A program that is being written, as [`Program`]. The first processor's RSP is in its block; R11 is used by what waits,
/// R12 counts rounds.
pub(super) struct Smp {
    pub(super) p: Program,
    pub(super) mode: Mode,
    pub(super) cpus: u64,
}

impl Smp {
    /// A program for this many processors, of which the first runs.
    pub(super) fn new(mode: Mode, cpus: u64) -> Result<Self> {
        let mut p = match mode {
            Mode::XApic => Program::in_apic_mode_of_reset()?,
            Mode::X2Apic => Program::new()?,
        };
        for (address, bytes) in start::parts(mode)? {
            p.place(address, bytes);
        }
        p.a.mov(rdi, memory::of(0, 0))?;
        p.a.mov(ecx, (memory::MOST * BLOCK) as u32)?;
        p.a.xor(eax, eax)?;
        p.a.rep().stosb()?;
        p.a.mov(rsp, memory::of(1, 0))?;
        for at in memory::TRAMPOLINES {
            let code = start::code_16(at)?;
            let length = code.len() as u32;
            let code = p.data(&code);
            p.a.lea(rsi, qword_ptr(code))?;
            p.a.mov(rdi, at)?;
            p.a.mov(ecx, length)?;
            p.a.rep().movsb()?;
        }
        start::fill(&mut p.a)?;
        p.a.lidt(ptr(memory::IDT_POINTER))?;
        apic::enable(&mut p.a, mode)?;
        Ok(Self { p, mode, cpus })
    }

    /// The same, with all processors started.
    pub(super) fn started(mode: Mode, cpus: u64) -> Result<Self> {
        let mut smp = Self::new(mode, cpus)?;
        for cpu in smp.others() {
            smp.start(cpu)?;
            smp.expect(
                &format!("processor {cpu} starts"),
                memory::of(cpu, memory::STARTS),
                1,
            )?;
        }
        Ok(smp)
    }

    /// All but the first.
    pub(super) fn others(&self) -> std::ops::Range<u64> {
        1..self.cpus
    }

    /// Sends an IPI.
    pub(super) fn send(&mut self, delivery: u8, vector: u8, to: To) -> Assembled {
        let command = apic::command(self.mode, delivery, vector, to);
        apic::send(&mut self.p.a, self.mode, command)
    }

    /// Sends a fixed one.
    pub(super) fn interrupt(&mut self, vector: u8, to: To) -> Assembled {
        self.send(DELIVERY_FIXED, vector, to)
    }

    /// INIT and two STARTUPs, one right after the other.
    pub(super) fn start(&mut self, cpu: u64) -> Assembled {
        let page = (memory::TRAMPOLINES[0] >> 12) as u8;
        self.send(INIT, 0, To::One(cpu))?;
        self.send(STARTUP, page, To::One(cpu))?;
        self.send(STARTUP, page, To::One(cpu))
    }

    /// Code of another processor's, which ends with RET; R15 is that processor's block. Nothing runs it by itself.
    pub(super) fn job(
        &mut self,
        write: impl FnOnce(&mut CodeAssembler, Mode) -> Assembled,
    ) -> Result<CodeLabel> {
        let (mut job, mut behind) = (self.p.a.create_label(), self.p.a.create_label());
        self.p.a.jmp(behind)?;
        self.p.a.set_label(&mut job)?;
        // Between two labels there must be an instruction.
        self.p.a.nop()?;
        write(&mut self.p.a, self.mode)?;
        self.p.a.ret()?;
        self.p.a.set_label(&mut behind)?;
        self.p.a.nop()?;
        Ok(job)
    }

    /// Gives a processor a job.
    pub(super) fn give(&mut self, cpu: u64, job: CodeLabel) -> Assembled {
        self.p.a.lea(rax, qword_ptr(job))?;
        self.p.a.mov(qword_ptr(memory::of(cpu, memory::JOB)), rax)?;
        Ok(())
    }

    /// Until a processor has done its job, or patience ends.
    pub(super) fn wait_for_job(&mut self, cpu: u64) -> Assembled {
        self.wait(|a, done| {
            a.cmp(qword_ptr(memory::of(cpu, memory::JOB)), 0)?;
            a.je(done)?;
            Ok(())
        })
    }

    /// Until a word has at least this value, or patience ends: RAX is the word.
    pub(super) fn wait_for(&mut self, address: u64, value: i32) -> Assembled {
        self.wait(|a, done| {
            a.cmp(qword_ptr(address), value)?;
            a.jae(done)?;
            Ok(())
        })?;
        self.p.a.mov(rax, qword_ptr(address))?;
        Ok(())
    }

    /// Until a word has at least the value of R12.
    pub(super) fn wait_for_round(&mut self, address: u64) -> Assembled {
        self.wait_for_register(address, r12)
    }

    /// Until a word has at least a register's value.
    pub(super) fn wait_for_register(&mut self, address: u64, register: AsmRegister64) -> Assembled {
        self.wait(|a, done| {
            a.cmp(qword_ptr(address), register)?;
            a.jae(done)?;
            Ok(())
        })
    }

    fn wait(&mut self, look: impl FnOnce(&mut CodeAssembler, CodeLabel) -> Assembled) -> Assembled {
        let a = &mut self.p.a;
        let (mut again, mut done) = (a.create_label(), a.create_label());
        read_tsc(a)?;
        a.lea(r11, qword_ptr(rax + PATIENCE))?;
        a.set_label(&mut again)?;
        look(a, done)?;
        a.pause()?;
        read_tsc(a)?;
        a.cmp(rax, r11)?;
        a.jb(again)?;
        a.set_label(&mut done)?;
        a.nop()?;
        Ok(())
    }

    /// The check `name` is that a word comes to this value.
    pub(super) fn expect(&mut self, name: &str, address: u64, value: u64) -> Assembled {
        self.wait_for(address, value as i32)?;
        self.p.check(name, value)
    }

    /// The check `name` is that a word has this value now.
    pub(super) fn check(&mut self, name: &str, address: u64, value: u64) -> Assembled {
        self.p.a.mov(rax, qword_ptr(address))?;
        self.p.check(name, value)
    }

    /// Lets this many ticks of the TSC pass.
    pub(super) fn pass(&mut self, ticks: i32) -> Assembled {
        pass(&mut self.p.a, ticks)
    }

    /// Lets everything come that is on its way.
    pub(super) fn settle(&mut self) -> Assembled {
        self.pass(SETTLED)
    }

    /// Rounds that R12 counts from 1 on.
    pub(super) fn rounds(
        &mut self,
        count: i32,
        write: impl FnOnce(&mut Self) -> Assembled,
    ) -> Assembled {
        let mut round = self.p.a.create_label();
        self.p.a.xor(r12, r12)?;
        self.p.a.set_label(&mut round)?;
        self.p.a.inc(r12)?;
        write(self)?;
        self.p.a.cmp(r12, count)?;
        self.p.a.jb(round)?;
        Ok(())
    }

    /// Powers off; the finished program.
    pub(super) fn finish(mut self) -> Result<Blob> {
        self.p.power_off()?;
        self.p.assemble()
    }
}

/// RAX: the TSC; RDX is changed.
pub(super) fn read_tsc(a: &mut CodeAssembler) -> Assembled {
    a.rdtsc()?;
    a.shl(rdx, 32)?;
    a.or(rax, rdx)?;
    Ok(())
}

/// Until a word has at least this value.
pub(super) fn spin_until_word(a: &mut CodeAssembler, address: u64, value: i32) -> Assembled {
    let mut again = a.create_label();
    a.set_label(&mut again)?;
    a.pause()?;
    a.cmp(qword_ptr(address), value)?;
    a.jb(again)?;
    Ok(())
}

/// Until this many ticks of the TSC have passed; R11 is changed.
pub(super) fn pass(a: &mut CodeAssembler, ticks: i32) -> Assembled {
    let mut again = a.create_label();
    read_tsc(a)?;
    a.lea(r11, qword_ptr(rax + ticks))?;
    a.set_label(&mut again)?;
    a.pause()?;
    read_tsc(a)?;
    a.cmp(rax, r11)?;
    a.jb(again)?;
    Ok(())
}

/// In a job: until a word of this processor's block has at least this value.
pub(super) fn spin_until(a: &mut CodeAssembler, word: u64, value: i32) -> Assembled {
    let mut again = a.create_label();
    a.set_label(&mut again)?;
    a.pause()?;
    a.cmp(qword_ptr(r15 + word as i32), value)?;
    a.jb(again)?;
    Ok(())
}
