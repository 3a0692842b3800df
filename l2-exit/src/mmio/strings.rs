//! MOVS, STOS, LODS, CMPS and SCAS (SDM Vol. 2).

use super::Emulation;
use super::instruction::{Instruction, Repeat, StringInstruction, StringKind};
use super::operand::{Bytes, Operand};
use crate::alu::Binary;
use crate::guest::{Code, Span, Stop};
use crate::memory::{GuestMemory, MmioBus};
use crate::outcome::Outcome;
use crate::paging::AccessKind;
use crate::register::Register;
use crate::rip;
use crate::string::{self, ITERATIONS};
use crate::vcpu::{Gpr, SegmentRegister, Vcpu};
use x86_defs::rflags;

impl<V: Vcpu, M: GuestMemory, B: MmioBus> Emulation<'_, '_, V, M, B> {
    /// Executes a string instruction, or as many iterations of it as one exit may and as reach
    /// a device: the rest is left to L2.
    ///
    /// RCX, RSI and RDI are written back after each iteration, so a fault in one of them finds
    /// the registers as the iterations before it left them, and RIP at the instruction.
    pub(super) fn string(
        &mut self,
        string: &StringInstruction,
        instruction: &Instruction,
        code: &Code,
    ) -> Result<Outcome, Stop> {
        let repeated = string.repeat != Repeat::No;
        for iteration in 0..ITERATIONS {
            if repeated && string::get(self.guest.vcpu, Gpr::Rcx, string.mask) == 0 {
                return Ok(self.complete(instruction));
            }
            let operands = self.operands(string, instruction.size)?;
            if iteration == 0 {
                if !operands.iter().flatten().any(|span| self.is_here(span)) {
                    return Err(self.elsewhere(code));
                }
            } else if !operands.iter().flatten().any(|span| self.is_device(span)) {
                return Ok(Outcome::Interrupted);
            }
            self.iterate(string, instruction.size, operands)?;
            if !repeated {
                return Ok(self.complete(instruction));
            }
            string::add(self.guest.vcpu, Gpr::Rcx, string.mask, u64::MAX);
            let equal = self.guest.vcpu.rflags() & rflags::ZF != 0;
            let ended = match string.repeat {
                Repeat::WhileEqual => !equal,
                Repeat::WhileNotEqual => equal,
                Repeat::No | Repeat::Count => false,
            };
            if ended || string::get(self.guest.vcpu, Gpr::Rcx, string.mask) == 0 {
                return Ok(self.complete(instruction));
            }
            if self.guest.vcpu.rflags() & rflags::TF != 0 {
                // A repeated instruction traps after each iteration.
                self.guest.vcpu.single_step();
                return Ok(Outcome::Interrupted);
            }
        }
        Ok(Outcome::Interrupted)
    }

    fn complete(&mut self, instruction: &Instruction) -> Outcome {
        rip::complete(self.guest.exit, self.guest.vcpu, instruction.length);
        Outcome::Completed
    }

    /// The operands at RSI and RDI, checked for what the instruction does with them.
    fn operands(
        &mut self,
        string: &StringInstruction,
        size: u8,
    ) -> Result<[Option<Span>; 2], Stop> {
        let (source, destination) = match string.kind {
            StringKind::Movs => (true, Some(AccessKind::Write)),
            StringKind::Stos => (false, Some(AccessKind::Write)),
            StringKind::Lods => (true, None),
            StringKind::Cmps => (true, Some(AccessKind::Read)),
            StringKind::Scas => (false, Some(AccessKind::Read)),
        };
        let source = if source {
            let offset = string::get(self.guest.vcpu, Gpr::Rsi, string.mask);
            Some(
                self.guest
                    .operand(string.segment, offset, size, AccessKind::Read)?,
            )
        } else {
            None
        };
        let destination = match destination {
            Some(kind) => {
                let offset = string::get(self.guest.vcpu, Gpr::Rdi, string.mask);
                Some(
                    self.guest
                        .operand(SegmentRegister::Es, offset, size, kind)?,
                )
            }
            None => None,
        };
        Ok([source, destination])
    }

    fn is_device(&self, span: &Span) -> bool {
        span.iter()
            .any(|part| part.length != 0 && self.bus.claims(part.gpa))
    }

    /// One iteration without the count.
    fn iterate(
        &mut self,
        string: &StringInstruction,
        size: u8,
        [source, destination]: [Option<Span>; 2],
    ) -> Result<(), Stop> {
        let accumulator = Register::low(Gpr::Rax, size);
        let left = match source {
            Some(span) => self.bytes(span).read()?,
            None => accumulator.get(self.guest.vcpu),
        };
        match (string.kind, destination) {
            (StringKind::Movs | StringKind::Stos, Some(span)) => self.bytes(span).write(left)?,
            (StringKind::Cmps | StringKind::Scas, Some(span)) => {
                let right = self.bytes(span).read()?;
                let rflags = self.guest.vcpu.rflags();
                let (_, rflags) = Binary::Cmp.execute(size, left, right, rflags);
                self.guest.vcpu.set_rflags(rflags);
            }
            _ => accumulator.set(self.guest.vcpu, left),
        }
        let step = string::step(self.guest.vcpu, size);
        if source.is_some() {
            string::add(self.guest.vcpu, Gpr::Rsi, string.mask, step);
        }
        if destination.is_some() {
            string::add(self.guest.vcpu, Gpr::Rdi, string.mask, step);
        }
        Ok(())
    }

    fn bytes(&mut self, span: Span) -> Bytes<'_, M, B> {
        Bytes {
            memory: self.guest.memory,
            bus: self.bus,
            span,
        }
    }
}
