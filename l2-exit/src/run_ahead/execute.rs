//! One instruction: everything that can stop it comes before the first change.

use core::sync::atomic::{Ordering, fence};

use super::operation::{Condition, Instruction, Kind, Operand};
use super::translate::{Place, Translations, is_canonical};
use super::{Stop, Window};
use crate::memory::GuestPages;
use crate::mmio::Address;
use crate::register::{mask, sign_extend};
use crate::vcpu::{Gpr, Vcpu};
use x86_defs::paging::PAGE_4K;
use x86_defs::rflags;

/// Where a branch leads. Elsewhere it faults, and an entry with such a RIP fails (SDM Vol. 3C, "Checks on Guest RIP and
/// RFLAGS").
fn canonical(target: u64) -> Result<u64, Stop> {
    match is_canonical(target) {
        true => Ok(target),
        false => Err(Stop::Instruction),
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
    pub(super) vcpu: &'a mut V,
    pub(super) memory: &'a M,
    pub(super) window: &'a mut W,
    pub(super) translations: Translations<M::Page>,
    /// Accesses to the window so far.
    pub(super) accesses: u64,
}

impl<V: Vcpu, M: GuestPages, W: Window> Burst<'_, V, M, W> {
    /// Executes `instruction`, RIP included, or changes nothing.
    pub(super) fn execute(&mut self, instruction: &Instruction) -> Result<(), Stop> {
        let Instruction {
            kind,
            size,
            to,
            from,
            ..
        } = *instruction;
        let next = self.vcpu.rip().wrapping_add(u64::from(instruction.length));
        let mut rip = next;
        match kind {
            Kind::Unknown => return Err(Stop::Instruction),
            Kind::Nothing => {}
            Kind::Fence => fence(Ordering::SeqCst),
            Kind::Move { signed } => {
                if to == Operand::Memory {
                    let value = self.value(from);
                    let bytes = self.bytes(&instruction.address, size, true)?;
                    self.write(bytes, size, value)?;
                } else {
                    let value = self.read(instruction, from, size)?;
                    let value = match signed {
                        true => sign_extend(value, size),
                        false => value,
                    };
                    self.set(to, value);
                }
            }
            Kind::Lea => {
                let offset = instruction.address.offset(self.vcpu);
                self.set(to, offset);
            }
            Kind::Binary(operation) => {
                let flags = self.vcpu.rflags();
                if to == Operand::Memory && operation.writes() {
                    let right = self.value(from);
                    let (page, offset) = self.memory_to_change(&instruction.address, size)?;
                    let left = self.load(page, offset, size)?;
                    let (result, flags) = operation.execute(size, left, right, flags);
                    self.store(page, offset, size, result)?;
                    self.vcpu.set_rflags(flags);
                } else {
                    // At most one of them is in memory.
                    let left = self.read(instruction, to, size)?;
                    let right = self.read(instruction, from, size)?;
                    let (result, flags) = operation.execute(size, left, right, flags);
                    if operation.writes() {
                        self.set(to, result);
                    }
                    self.vcpu.set_rflags(flags);
                }
            }
            Kind::Unary(operation) => self.change(instruction, |value, flags| {
                operation.execute(size, value, flags)
            })?,
            Kind::Shift(shift) => {
                let count = self.value(from);
                self.change(instruction, |value, flags| {
                    shift.execute(size, value, count, flags)
                })?;
            }
            Kind::SwapBytes => {
                let value = self.value(to).swap_bytes();
                self.set(to, value >> (64 - u32::from(size) * 8));
            }
            Kind::Exchange => {
                let (left, right) = (self.value(to), self.value(from));
                self.set(to, right);
                self.set(from, left);
            }
            Kind::TestBit => {
                let bit = self.value(from) & (u64::from(size) * 8 - 1);
                let carry = self.value(to) >> bit & 1;
                let flags = self.vcpu.rflags() & !rflags::CF;
                self.vcpu.set_rflags(flags | (carry * rflags::CF));
            }
            Kind::SignInto => {
                let negative = (sign_extend(self.value(from), size) as i64) < 0;
                self.set(to, if negative { u64::MAX } else { 0 });
            }
            Kind::MoveIf(condition) => {
                let value = self.read(instruction, from, size)?;
                // 32 bits clear the upper half even if the condition does not hold.
                let value = match self.holds(condition) {
                    true => value,
                    false => self.value(to),
                };
                self.set(to, value);
            }
            Kind::Set(condition) => {
                let value = u64::from(self.holds(condition));
                if to == Operand::Memory {
                    let bytes = self.bytes(&instruction.address, 1, true)?;
                    self.write(bytes, 1, value)?;
                } else {
                    self.set(to, value);
                }
            }
            Kind::JumpIf(condition) => {
                if self.holds(condition) {
                    rip = canonical(self.value(from))?;
                }
            }
            Kind::Jump => rip = canonical(self.read_memory_only(instruction, from)?)?,
            Kind::Call => {
                let target = canonical(self.read_memory_only(instruction, from)?)?;
                self.push(next)?;
                rip = target;
            }
            Kind::Return => {
                let besides = self.value(from);
                let stack = self.vcpu.gpr(Gpr::Rsp);
                rip = canonical(self.load_stack(stack)?)?;
                let stack = stack.wrapping_add(8).wrapping_add(besides);
                self.vcpu.set_gpr(Gpr::Rsp, stack);
            }
            Kind::Push => {
                let value = self.read_memory_only(instruction, from)?;
                self.push(value)?;
            }
            Kind::Pop => {
                let stack = self.vcpu.gpr(Gpr::Rsp);
                let value = self.load_stack(stack)?;
                self.vcpu.set_gpr(Gpr::Rsp, stack.wrapping_add(8));
                self.set(to, value);
            }
            Kind::Leave => {
                let stack = self.vcpu.gpr(Gpr::Rbp);
                let value = self.load_stack(stack)?;
                self.vcpu.set_gpr(Gpr::Rsp, stack.wrapping_add(8));
                self.vcpu.set_gpr(Gpr::Rbp, value);
            }
        }
        self.vcpu.set_rip(rip);
        Ok(())
    }

    fn holds(&self, condition: Condition) -> bool {
        condition.holds(self.vcpu.rflags())
    }

    /// The value of a register or an immediate; 0 of what is in memory.
    fn value(&self, operand: Operand) -> u64 {
        match operand {
            Operand::Register(register) => register.get(self.vcpu),
            Operand::Immediate(value) => value,
            Operand::None | Operand::Memory => 0,
        }
    }

    /// Replaces a register.
    fn set(&mut self, operand: Operand, value: u64) {
        if let Operand::Register(register) = operand {
            register.set(self.vcpu, value);
        }
    }

    /// Replaces a register or memory by what `operation` makes of it and of RFLAGS.
    #[inline(always)]
    fn change(
        &mut self,
        instruction: &Instruction,
        operation: impl FnOnce(u64, u64) -> (u64, u64),
    ) -> Result<(), Stop> {
        let Instruction { size, to, .. } = *instruction;
        let flags = self.vcpu.rflags();
        let flags = if to == Operand::Memory {
            let (page, offset) = self.memory_to_change(&instruction.address, size)?;
            let value = self.load(page, offset, size)?;
            let (result, flags) = operation(value, flags);
            self.store(page, offset, size, result)?;
            flags
        } else {
            let (result, flags) = operation(self.value(to), flags);
            self.set(to, result);
            flags
        };
        self.vcpu.set_rflags(flags);
        Ok(())
    }

    /// An operand, zero-extended.
    fn read(&mut self, instruction: &Instruction, operand: Operand, size: u8) -> Result<u64, Stop> {
        if operand != Operand::Memory {
            return Ok(self.value(operand) & mask(size));
        }
        match self.bytes(&instruction.address, size, false)? {
            Bytes::Memory { page, offset } => self.load(page, offset, size),
            Bytes::Window(gpa) => {
                let mut bytes = [0; 8];
                let into = bytes.get_mut(..usize::from(size)).ok_or(Stop::Memory)?;
                if !self.window.read(gpa, into) {
                    return Err(Stop::Window);
                }
                self.accesses += 1;
                Ok(u64::from_le_bytes(bytes))
            }
        }
    }

    /// As [`Burst::read`] of 8 bytes that are no device's.
    fn read_memory_only(
        &mut self,
        instruction: &Instruction,
        operand: Operand,
    ) -> Result<u64, Stop> {
        if operand != Operand::Memory {
            return Ok(self.value(operand));
        }
        match self.bytes(&instruction.address, 8, false)? {
            Bytes::Memory { page, offset } => self.load(page, offset, 8),
            Bytes::Window(_) => Err(Stop::Memory),
        }
    }

    /// Memory that is read and written, which a device's is not here.
    fn memory_to_change(&mut self, address: &Address, size: u8) -> Result<(M::Page, u16), Stop> {
        match self.bytes(address, size, true)? {
            Bytes::Memory { page, offset } => Ok((page, offset)),
            Bytes::Window(_) => Err(Stop::Memory),
        }
    }

    fn push(&mut self, value: u64) -> Result<(), Stop> {
        let stack = self.vcpu.gpr(Gpr::Rsp).wrapping_sub(8);
        match self.bytes_at(stack, 8, true)? {
            Bytes::Memory { page, offset } => self.store(page, offset, 8, value)?,
            Bytes::Window(_) => return Err(Stop::Memory),
        }
        self.vcpu.set_gpr(Gpr::Rsp, stack);
        Ok(())
    }

    fn load_stack(&mut self, stack: u64) -> Result<u64, Stop> {
        match self.bytes_at(stack, 8, false)? {
            Bytes::Memory { page, offset } => self.load(page, offset, 8),
            Bytes::Window(_) => Err(Stop::Memory),
        }
    }

    fn bytes(&mut self, address: &Address, size: u8, write: bool) -> Result<Bytes<M::Page>, Stop> {
        let offset = address.offset(self.vcpu);
        let base = match address.is_flat() {
            true => 0,
            false => self.vcpu.segment(address.segment).base,
        };
        self.bytes_at(base.wrapping_add(offset), size, write)
    }

    /// The bytes at `linear`, all in one page that may be read or written.
    fn bytes_at(&mut self, linear: u64, size: u8, write: bool) -> Result<Bytes<M::Page>, Stop> {
        let offset = linear & (PAGE_4K - 1);
        if offset + u64::from(size) > PAGE_4K {
            return Err(Stop::Memory);
        }
        let page = self
            .translations
            .page(self.memory, self.window, linear)
            .filter(|page| page.writable || !write)
            .ok_or(Stop::Memory)?;
        Ok(match page.place {
            Place::Memory(page) => Bytes::Memory {
                page,
                offset: offset as u16,
            },
            Place::Window(gpa) => Bytes::Window(gpa | offset),
        })
    }

    fn write(&mut self, bytes: Bytes<M::Page>, size: u8, value: u64) -> Result<(), Stop> {
        match bytes {
            Bytes::Memory { page, offset } => self.store(page, offset, size, value),
            Bytes::Window(gpa) => {
                let bytes = value.to_le_bytes();
                let from = bytes.get(..usize::from(size)).ok_or(Stop::Memory)?;
                if !self.window.write(gpa, from) {
                    return Err(Stop::Window);
                }
                self.accesses += 1;
                Ok(())
            }
        }
    }

    fn load(&self, page: M::Page, offset: u16, size: u8) -> Result<u64, Stop> {
        self.memory.load(page, offset, size).ok_or(Stop::Memory)
    }

    fn store(&self, page: M::Page, offset: u16, size: u8, value: u64) -> Result<(), Stop> {
        self.memory
            .store(page, offset, size, value)
            .ok_or(Stop::Memory)
    }
}

impl<V: Vcpu, M: GuestPages, W: Window> Burst<'_, V, M, W> {
    /// The 16 bytes at `linear`, or as many as are in pages that instructions may be fetched from, and how many.
    pub(super) fn fetch_across(&mut self, linear: u64) -> ([u8; 16], usize) {
        let mut bytes = [0; 16];
        let mut length = 0;
        for (byte, at) in bytes.iter_mut().zip(0..) {
            let at = linear.wrapping_add(at);
            let Some(page) = self.code_page(at) else {
                break;
            };
            let offset = (at & (PAGE_4K - 1)) as u16;
            let Some(value) = self.memory.load(page, offset, 1) else {
                break;
            };
            *byte = value as u8;
            length += 1;
        }
        (bytes, length)
    }

    /// The page of L2's memory that instructions at `linear` are fetched from.
    #[inline]
    pub(super) fn code_page(&mut self, linear: u64) -> Option<M::Page> {
        let page = self.translations.page(self.memory, self.window, linear)?;
        match page.place {
            Place::Memory(memory) if page.executable => Some(memory),
            _ => None,
        }
    }
}
