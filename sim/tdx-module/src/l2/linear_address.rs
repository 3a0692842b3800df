//! Linear addresses of an instruction's memory operands, which the hardware does not report.

use super::guest::Guest;
use super::instruction::segment_name;
use crate::platform::{Platform, Register, SegmentName};
use alloc::vec::Vec;
use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpKind};

/// Bytes of an IDT gate in long mode.
const GATE_SIZE: u64 = 16;
/// The longest TSS that the processor itself reads: up to the I/O bitmap.
const TSS_SIZE: u64 = 0x68;

/// A range of linear addresses that an access may have been to.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    address: u64,
    size: u64,
}

/// An address in code of this width.
fn linear(width: u32, address: u64) -> u64 {
    if width == 64 {
        address
    } else {
        address & 0xffff_ffff
    }
}

impl<P: Platform> Guest<'_, P> {
    /// The value of a register as an operand's address in code of this width uses it: a segment stands for its base.
    fn address_part(&mut self, width: u32, register: iced_x86::Register) -> Option<u64> {
        if let Some(name) = segment_name(register) {
            let flat = width == 64 && !matches!(name, SegmentName::Fs | SegmentName::Gs);
            return Some(if flat { 0 } else { self.segment(name).base });
        }
        let full = register.full_register();
        let value = self.register(*Register::GENERAL.get(full.number())?);
        Some(match register.size() {
            1 => value & 0xff,
            2 => value & 0xffff,
            4 => value & 0xffff_ffff,
            _ => value,
        })
    }

    /// The linear address of memory operand `operand`.
    pub(super) fn operand_address(
        &mut self,
        instruction: &Instruction,
        operand: u32,
    ) -> Option<u64> {
        let width = self.code_width();
        let address = instruction.virtual_address(operand, 0, |register, _, _| {
            self.address_part(width, register)
        })?;
        Some(linear(width, address))
    }

    /// The explicit memory operands of an instruction: what nearly every exit is by.
    fn operands(&mut self, instruction: &Instruction) -> impl Iterator<Item = Candidate> + use<P> {
        let size = instruction.memory_size().size().max(1) as u64;
        let explicit = [0, 1].map(|operand| {
            let is_memory = instruction.op_kind(operand) == OpKind::Memory;
            (is_memory && operand < instruction.op_count())
                .then(|| self.operand_address(instruction, operand))
                .flatten()
        });
        explicit
            .into_iter()
            .flatten()
            .map(move |address| Candidate { address, size })
    }

    /// Everything that an instruction, or the delivery of an event, may access as data.
    fn candidates(&mut self, instruction: Option<&Instruction>) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        if let Some(instruction) = instruction {
            let width = self.code_width();
            let mut factory = InstructionInfoFactory::new();
            for memory in factory.info(instruction).used_memory() {
                let address =
                    memory.virtual_address(0, |register, _, _| self.address_part(width, register));
                if let Some(address) = address {
                    let size = memory.memory_size().size().max(1) as u64;
                    candidates.push(Candidate {
                        address: linear(width, address),
                        size,
                    });
                }
            }
        }
        if let Some(event) = self.l2.vectoring {
            let stack = self.register(Register::Rsp);
            candidates.push(Candidate {
                address: self.segment(SegmentName::Idtr).base + GATE_SIZE * u64::from(event.vector),
                size: GATE_SIZE,
            });
            const FRAME: u64 = 6 * 8;
            candidates.push(Candidate {
                address: stack.wrapping_sub(FRAME),
                size: FRAME,
            });
        }
        for (name, size) in [
            (SegmentName::Gdtr, None),
            (SegmentName::Ldtr, None),
            (SegmentName::Tr, Some(TSS_SIZE)),
        ] {
            let table = self.segment(name);
            candidates.push(Candidate {
                address: table.base,
                size: size.unwrap_or(u64::from(table.limit) + 1),
            });
        }
        candidates
    }

    /// The linear address of a move's memory operand, if the instruction accesses nothing else: no stack, no descriptor, and
    /// no event is being delivered. No page tables have to tell which access it was.
    fn only_address(&mut self, instruction: &Instruction) -> Option<u64> {
        let moves = matches!(instruction.mnemonic(), Mnemonic::Mov | Mnemonic::Movzx);
        let [to, from] = [0, 1].map(|operand| instruction.op_kind(operand));
        let memory = match (to, from) {
            (OpKind::Memory, _) => 0,
            (OpKind::Register, OpKind::Memory)
                if !instruction.op_register(0).is_segment_register() =>
            {
                1
            }
            _ => return None,
        };
        if !moves || self.l2.vectoring.is_some() {
            return None;
        }
        self.operand_address(instruction, memory)
    }

    /// The linear address of the data access that ended at `gpa`, or whose translation read a
    /// paging-structure entry there.
    pub(super) fn data_address(&mut self, gpa: u64, page_walk: bool) -> Option<u64> {
        let instruction = self.fetch();
        if let Some(instruction) = &instruction
            && !page_walk
            && let Some(address) = self.only_address(instruction)
            && address & 0xfff == gpa & 0xfff
        {
            return Some(address);
        }
        if let Some(instruction) = &instruction {
            let mut operands = self.operands(instruction);
            if let Some(address) =
                operands.find_map(|operand| self.address_in(operand, gpa, page_walk))
            {
                return Some(address);
            }
        }
        self.candidates(instruction.as_ref())
            .into_iter()
            .find_map(|candidate| self.address_in(candidate, gpa, page_walk))
    }

    /// The linear address in a candidate whose translation is, or whose walk reads, `gpa`.
    fn address_in(&mut self, candidate: Candidate, gpa: u64, page_walk: bool) -> Option<u64> {
        let last = candidate.address.wrapping_add(candidate.size - 1);
        let mut address = candidate.address;
        // Page by page; the first part starts at the operand, the others at their page.
        while address <= last {
            let walk = self.space().walk(address);
            if page_walk {
                if walk.entries().contains(&(gpa & !7)) || walk.entries().contains(&gpa) {
                    return Some(address);
                }
            } else if walk.gpa.is_some_and(|found| found >> 12 == gpa >> 12) {
                return Some(address & !0xfff | gpa & 0xfff);
            }
            address = (address & !0xfff).checked_add(0x1000)?;
        }
        None
    }

    /// The linear address of the instruction fetch that ended at `gpa`, or whose translation read
    /// a paging-structure entry there. An instruction may continue on the next page.
    pub(super) fn fetch_address(&mut self, gpa: u64, page_walk: bool) -> Option<u64> {
        let rip = self.register(Register::Rip);
        let first = self.space().code_address(rip);
        let next = (first & !0xfff).wrapping_add(0x1000);
        [first, next].into_iter().find(|&address| {
            let walk = self.space().walk(address);
            if page_walk {
                walk.entries().contains(&(gpa & !7)) || walk.entries().contains(&gpa)
            } else {
                walk.gpa.is_some_and(|found| found >> 12 == gpa >> 12)
            }
        })
    }
}
