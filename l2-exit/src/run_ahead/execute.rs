//! One instruction, of any kind: everything that can stop it comes before the first change.

use core::sync::atomic::{Ordering, fence};

use super::operation::{Access, Instruction, Kind, Operand};
use super::registers::{FS, GS, Registers};
use super::translate::{Place, Translations, is_canonical};
use super::{Served, Stop, Window};
use crate::memory::GuestPages;
use crate::mmio::Address;
use crate::register::sign_extend;
use crate::vcpu::{Gpr, SegmentRegister, Vcpu};
use x86_defs::paging::PAGE_4K;
use x86_defs::rflags;

/// What comes after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// The next in memory.
    Next,
    /// The next in memory; this one went to the device.
    Accessed,
    /// The same, and it took its time.
    Late,
    /// What RIP says, to be looked for: this was a branch, or has written to a page of code.
    Elsewhere,
}

/// Where a branch leads. Elsewhere it faults, and an entry with such a RIP fails (SDM Vol. 3C, "Checks on Guest RIP and
/// RFLAGS").
pub(super) fn canonical(target: u64) -> Result<u64, Stop> {
    match is_canonical(target) {
        true => Ok(target),
        false => Err(Stop::Instruction),
    }
}

/// What comes after an access to the device.
const fn accessed(served: Served) -> Result<Flow, Stop> {
    match served {
        Served::No => Err(Stop::Window),
        Served::Soon => Ok(Flow::Accessed),
        Served::Late => Ok(Flow::Late),
    }
}

/// The bytes of an operand in memory, translated and checked.
#[derive(Clone, Copy)]
enum Bytes<P> {
    Memory { page: P, offset: u16 },
    Window(u64),
}

/// A burst under way.
pub(super) struct Burst<'a, V, M: GuestPages, W> {
    pub(super) registers: Registers,
    /// For what is read rarely; its registers are those before the burst.
    pub(super) vcpu: &'a V,
    pub(super) memory: &'a M,
    pub(super) window: &'a mut W,
    pub(super) translations: &'a mut Translations<M::Page>,
    /// Of FS and GS: whether the base is at hand.
    pub(super) bases: [bool; 2],
    /// Counts what may have changed code: the burst's begin, and each store to a page that was executed from.
    pub(super) now: u64,
}

impl<V: Vcpu, M: GuestPages, W: Window> Burst<'_, V, M, W> {
    /// Executes `instruction`, RIP included, or changes nothing.
    ///
    /// In this order: the operand in memory is translated and read, the result is made, and written. What can stop it
    /// after the first access to memory is the store of a result alone, before which nothing has changed.
    #[inline(never)]
    pub(super) fn execute(&mut self, instruction: &Instruction) -> Result<Flow, Stop> {
        let Instruction {
            kind,
            size,
            to,
            from,
            access,
            ..
        } = *instruction;
        let mut flow = Flow::Next;
        let mut place = None;
        let mut in_memory = 0;
        if access != Access::None {
            let found = self.bytes(&instruction.address, size, access)?;
            place = Some(found);
            if access != Access::Write {
                in_memory = match found {
                    Bytes::Memory { page, offset } => self.load(page, offset, size)?,
                    Bytes::Window(gpa) => {
                        let (value, after) = self.read_window(gpa, size)?;
                        flow = after;
                        value
                    }
                };
            }
        }
        let right = match from {
            Operand::Register(register) => self.registers.get(register),
            Operand::Immediate => instruction.immediate,
            Operand::Memory => in_memory,
            Operand::None => 0,
        };
        let left = match to {
            Operand::Register(register) => self.registers.get(register),
            _ => in_memory,
        };
        let mut new_flags = None;
        let mut arithmetic = |(result, flags)| {
            new_flags = Some(flags);
            result
        };
        let flags = &mut self.registers.flags;
        let result = match kind {
            Kind::Unknown => return Err(Stop::Instruction),
            Kind::Nothing => 0,
            Kind::Fence => {
                fence(Ordering::SeqCst);
                0
            }
            Kind::Move { signed: false } => right,
            Kind::Move { signed: true } => sign_extend(right, size),
            Kind::Lea => self.offset(&instruction.address),
            Kind::Binary(operation) => {
                arithmetic(operation.execute(size, left, right, flags.get()))
            }
            Kind::Unary(operation) => arithmetic(operation.execute(size, left, flags.get())),
            Kind::Shift(shift) => arithmetic(shift.execute(size, left, right, flags.get())),
            Kind::SwapBytes => left.swap_bytes() >> (64 - u32::from(size) * 8),
            Kind::Exchange => {
                self.set(from, left);
                right
            }
            Kind::TestBit => {
                let bit = right & (u64::from(size) * 8 - 1);
                let carry = left >> bit & 1;
                arithmetic((0, flags.get() & !rflags::CF | (carry * rflags::CF)))
            }
            Kind::SignInto => {
                let negative = (sign_extend(right, size) as i64) < 0;
                if negative { u64::MAX } else { 0 }
            }
            // 32 bits clear the upper half even if the condition does not hold.
            Kind::MoveIf(condition) => match flags.hold(condition) {
                true => right,
                false => left,
            },
            Kind::Set(condition) => u64::from(flags.hold(condition)),
            Kind::JumpIf(condition) => match flags.hold(condition) {
                true => return self.go(canonical(instruction.immediate)?),
                false => 0,
            },
            Kind::Jump | Kind::Call | Kind::Return | Kind::Push | Kind::Pop | Kind::Leave => {
                return self.stack_or_branch(instruction, right);
            }
        };
        if kind.writes() {
            match to {
                Operand::Register(register) => self.registers.set(register, result),
                _ => {
                    flow = match place.ok_or(Stop::Memory)? {
                        Bytes::Memory { page, offset } => self.store(page, offset, size, result)?,
                        Bytes::Window(gpa) => self.write_window(gpa, size, result)?,
                    }
                }
            }
        }
        if let Some(flags) = new_flags {
            self.registers.flags.set(flags);
        }
        self.registers.rip = instruction.next(self.registers.rip);
        Ok(flow)
    }

    /// A branch, or what goes to the stack; `value` is what it reads besides.
    #[inline]
    fn stack_or_branch(&mut self, instruction: &Instruction, value: u64) -> Result<Flow, Stop> {
        let next = instruction.next(self.registers.rip);
        let stack = self.registers.gpr(Gpr::Rsp);
        match instruction.kind {
            Kind::Jump => return self.go(canonical(value)?),
            Kind::Call => {
                let target = canonical(value)?;
                self.push(next)?;
                return self.go(target);
            }
            Kind::Return => {
                let target = canonical(self.load_stack(stack)?)?;
                let stack = stack.wrapping_add(8).wrapping_add(instruction.immediate);
                self.registers.set_gpr(Gpr::Rsp, stack);
                return self.go(target);
            }
            Kind::Push => {
                let flow = self.push(value)?;
                self.registers.rip = next;
                return Ok(flow);
            }
            Kind::Pop => {
                let value = self.load_stack(stack)?;
                self.registers.set_gpr(Gpr::Rsp, stack.wrapping_add(8));
                self.set(instruction.to, value);
            }
            _ => {
                let frame = self.registers.gpr(Gpr::Rbp);
                let value = self.load_stack(frame)?;
                self.registers.set_gpr(Gpr::Rsp, frame.wrapping_add(8));
                self.registers.set_gpr(Gpr::Rbp, value);
            }
        }
        self.registers.rip = next;
        Ok(Flow::Next)
    }

    /// A branch.
    #[inline]
    fn go(&mut self, target: u64) -> Result<Flow, Stop> {
        self.registers.rip = target;
        Ok(Flow::Elsewhere)
    }

    /// Replaces a register.
    #[inline]
    fn set(&mut self, operand: Operand, value: u64) {
        if let Operand::Register(register) = operand {
            self.registers.set(register, value);
        }
    }

    pub(super) fn read_window(&mut self, gpa: u64, size: u8) -> Result<(u64, Flow), Stop> {
        let mut bytes = [0; 8];
        let into = bytes.get_mut(..usize::from(size)).ok_or(Stop::Memory)?;
        let flow = accessed(self.window.read(gpa, into))?;
        Ok((u64::from_le_bytes(bytes), flow))
    }

    pub(super) fn write_window(&mut self, gpa: u64, size: u8, value: u64) -> Result<Flow, Stop> {
        let bytes = value.to_le_bytes();
        let from = bytes.get(..usize::from(size)).ok_or(Stop::Memory)?;
        accessed(self.window.write(gpa, from))
    }

    #[inline]
    fn push(&mut self, value: u64) -> Result<Flow, Stop> {
        let stack = self.registers.gpr(Gpr::Rsp).wrapping_sub(8);
        let flow = match self.bytes_at(stack, 8, Access::Change)? {
            Bytes::Memory { page, offset } => self.store(page, offset, 8, value)?,
            Bytes::Window(_) => return Err(Stop::Memory),
        };
        self.registers.set_gpr(Gpr::Rsp, stack);
        Ok(flow)
    }

    #[inline]
    fn load_stack(&mut self, stack: u64) -> Result<u64, Stop> {
        match self.bytes_at(stack, 8, Access::ReadMemory)? {
            Bytes::Memory { page, offset } => self.load(page, offset, 8),
            Bytes::Window(_) => Err(Stop::Memory),
        }
    }

    #[inline]
    fn offset(&self, address: &Address) -> u64 {
        address.offset(|gpr| self.registers.gpr(gpr))
    }

    #[inline]
    fn bytes(
        &mut self,
        address: &Address,
        size: u8,
        access: Access,
    ) -> Result<Bytes<M::Page>, Stop> {
        let offset = self.offset(address);
        let base = match address.is_flat() {
            true => 0,
            false => self.base(address.segment),
        };
        self.bytes_at(base.wrapping_add(offset), size, access)
    }

    /// The base of FS or GS.
    #[inline]
    fn base(&mut self, segment: SegmentRegister) -> u64 {
        let fs = segment == SegmentRegister::Fs;
        self.read_bases([fs, !fs]);
        self.registers.slot(if fs { FS } else { GS })
    }

    /// Has the bases of FS and GS that are `wanted` at hand.
    #[inline]
    pub(super) fn read_bases(&mut self, wanted: [bool; 2]) {
        let each = [(SegmentRegister::Fs, FS), (SegmentRegister::Gs, GS)];
        for ((wanted, known), (segment, slot)) in wanted.into_iter().zip(&mut self.bases).zip(each)
        {
            if wanted && !*known {
                *known = true;
                let base = self.vcpu.segment_base(segment);
                self.registers.set_slot(slot, base);
            }
        }
    }

    /// The bytes at `linear`, all in one page that `access` is possible to.
    #[inline]
    fn bytes_at(&mut self, linear: u64, size: u8, access: Access) -> Result<Bytes<M::Page>, Stop> {
        let offset = linear & (PAGE_4K - 1);
        if offset + u64::from(size) > PAGE_4K {
            return Err(Stop::Memory);
        }
        let page = self
            .translations
            .page(self.memory, self.window, linear)
            .filter(|page| page.writable || !access.writes())
            .ok_or(Stop::Memory)?;
        match page.place {
            Place::Memory(page) => Ok(Bytes::Memory {
                page,
                offset: offset as u16,
            }),
            Place::Window(gpa) if access.may_be_the_window() => Ok(Bytes::Window(gpa | offset)),
            Place::Window(_) => Err(Stop::Memory),
        }
    }

    #[inline]
    fn load(&self, page: M::Page, offset: u16, size: u8) -> Result<u64, Stop> {
        self.memory.load(page, offset, size).ok_or(Stop::Memory)
    }

    #[inline]
    fn store(&mut self, page: M::Page, offset: u16, size: u8, value: u64) -> Result<Flow, Stop> {
        self.memory
            .store(page, offset, size, value)
            .ok_or(Stop::Memory)?;
        if !self.translations.is_code(page) {
            return Ok(Flow::Next);
        }
        self.now += 1;
        Ok(Flow::Elsewhere)
    }
}
