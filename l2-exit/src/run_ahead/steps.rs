//! The instructions of a block: those in the form of [`Step`] as far as all about them is plain, the others one by one.

use core::sync::atomic::{Ordering, fence};

use super::blocks::{Block, Blocks, Way};
use super::execute::{Burst, Flow, canonical};
use super::registers::Slot;
use super::shift::Shift;
use super::step::{Code, Step};
use super::{Bounds, Stop, Window};
use crate::memory::GuestPages;
use crate::vcpu::{Gpr, Vcpu};
use x86_defs::paging::PAGE_4K;

/// What came of a step.
enum Went {
    /// It is done.
    On,
    /// It is done, and so is the one behind it.
    Over,
    /// It is done, and the next is where RIP says.
    Away,
    /// Nothing has happened: it is not plain.
    Not,
}

/// Executes instructions from RIP on, block by block, until one has to be the processor's, or L2 has to run.
#[inline]
pub(super) fn run<V: Vcpu, M: GuestPages, W: Window>(
    blocks: &mut Blocks,
    burst: &mut Burst<'_, V, M, W>,
    bounds: &mut Bounds,
) -> Stop {
    let mut way = Way::default();
    loop {
        if let Err(stop) = run_block(blocks, burst, bounds, &mut way) {
            return stop;
        }
    }
}

/// Executes the instructions at RIP, as many as are kept together.
#[inline(always)]
fn run_block<V: Vcpu, M: GuestPages, W: Window>(
    blocks: &mut Blocks,
    burst: &mut Burst<'_, V, M, W>,
    bounds: &mut Bounds,
    way: &mut Way,
) -> Result<(), Stop> {
    let (rip, now) = (burst.registers.rip, burst.now);
    let (number, block) = blocks.find(*way, rip, now, burst)?;
    way.block = number;
    let mut steps = block.steps().iter();
    while let Some(step) = steps.next() {
        match burst.step(rip, step) {
            Went::On => (),
            Went::Over => {
                steps.next();
            }
            Went::Away => {
                way.step = step.number;
                return bounds.count(u64::from(step.number) + 1, burst.window);
            }
            Went::Not if step.code == Code::End => {
                way.step = step.number;
                burst.registers.rip = rip.wrapping_add(u64::from(step.end));
                return bounds.count(u64::from(step.number), burst.window);
            }
            Went::Not => {
                let before = u64::from(step.number);
                let flow = one(burst, block, step).inspect_err(|_| bounds.done += before)?;
                if matches!(flow, Flow::Accessed | Flow::Late) {
                    bounds.access(before);
                }
                way.step = step.number;
                match flow {
                    Flow::Next | Flow::Accessed => (),
                    Flow::Elsewhere => return bounds.count(before + 1, burst.window),
                    Flow::Late => {
                        bounds.next = 0;
                        return bounds.count(before + 1, burst.window);
                    }
                }
            }
        }
    }
    // The last step is the end.
    Err(Stop::Code)
}

/// An instruction of a block that is not plain.
#[inline(never)]
fn one<V: Vcpu, M: GuestPages, W: Window>(
    burst: &mut Burst<'_, V, M, W>,
    block: &Block,
    step: &Step,
) -> Result<Flow, Stop> {
    let (rip, instruction) = block.instruction(step.number).ok_or(Stop::Code)?;
    burst.registers.rip = rip;
    match burst.device(step)? {
        Some(flow) => {
            burst.registers.rip = instruction.next(rip);
            Ok(flow)
        }
        None => burst.execute(instruction),
    }
}

impl<V: Vcpu, M: GuestPages, W: Window> Burst<'_, V, M, W> {
    /// Executes a step of the block at `start`, RIP left alone but for a branch, or changes nothing.
    #[inline(always)]
    fn step(&mut self, start: u64, step: &Step) -> Went {
        self.plain(start, step).unwrap_or(Went::Not)
    }

    #[inline(always)]
    fn plain(&mut self, start: u64, step: &Step) -> Option<Went> {
        match step.code {
            Code::Other | Code::End => return None,
            Code::Nothing => (),
            Code::Fence => fence(Ordering::SeqCst),
            Code::Move8 => self.registers.set_slot(step.to, self.right(step)),
            Code::Move => {
                let value = self.right(step) & u64::MAX >> step.shift;
                self.registers.set_slot(step.to, value);
            }
            Code::MoveSigned => {
                let value = (self.right(step) << step.shift) as i64 >> step.shift;
                self.registers.set_slot(step.to, value as u64);
            }
            Code::MoveIf => {
                let value = match self.registers.flags.hold(step.condition) {
                    true => self.right(step),
                    false => self.registers.slot(step.to),
                };
                self.registers
                    .set_slot(step.to, value & u64::MAX >> step.shift);
            }
            Code::Lea => {
                let value = self.linear(step) & u64::MAX >> step.shift;
                self.registers.set_slot(step.to, value);
            }
            Code::Load1 => self.load_into(step, 1)?,
            Code::Load2 => self.load_into(step, 2)?,
            Code::Load4 => self.load_into(step, 4)?,
            Code::Load8 => self.load_into(step, 8)?,
            Code::LoadLow => {
                let byte = self.load_plain(self.linear(step), 1)?;
                self.set_low(step.to, byte);
            }
            Code::Store1 => self.store_right(step, 1)?,
            Code::Store2 => self.store_right(step, 2)?,
            Code::Store4 => self.store_right(step, 4)?,
            Code::Store8 => self.store_right(step, 8)?,
            Code::Add => {
                let (left, right) = self.both(step);
                self.registers.flags.sum(step.shift, left, right);
                let result = left.wrapping_add(right) >> step.shift;
                self.registers.set_slot(step.to, result);
            }
            Code::Sub => {
                let (left, right) = self.both(step);
                self.registers.flags.difference(step.shift, left, right);
                let result = left.wrapping_sub(right) >> step.shift;
                self.registers.set_slot(step.to, result);
            }
            Code::And => self.logic(step, |left, right| left & right),
            Code::Or => self.logic(step, |left, right| left | right),
            Code::Xor => self.logic(step, |left, right| left ^ right),
            Code::AddLoad8 => {
                let left = self.registers.slot(step.to);
                let right = self.load_plain(self.linear(step), 8)?;
                self.registers.flags.sum(0, left, right);
                self.registers.set_slot(step.to, left.wrapping_add(right));
            }
            Code::SubLoad8 => {
                let left = self.registers.slot(step.to);
                let right = self.load_plain(self.linear(step), 8)?;
                self.registers.flags.difference(0, left, right);
                self.registers.set_slot(step.to, left.wrapping_sub(right));
            }
            Code::Increment => self.increment(step, true),
            Code::Decrement => self.increment(step, false),
            Code::Compare => {
                let (left, right) = self.both(step);
                self.registers.flags.difference(step.shift, left, right);
            }
            Code::Test => {
                let (left, right) = self.both(step);
                self.registers.flags.difference(step.shift, left & right, 0);
            }
            Code::CompareJump => {
                let (left, right) = self.both(step);
                self.registers.flags.difference(step.shift, left, right);
                return self.over_or_away(step);
            }
            Code::TestJump => {
                let (left, right) = self.both(step);
                let flags = &mut self.registers.flags;
                flags.difference(step.shift, left & right, 0);
                return self.over_or_away(step);
            }
            Code::Compare1 => self.compare(step, 1)?,
            Code::Compare4 => self.compare(step, 4)?,
            Code::Compare8 => self.compare(step, 8)?,
            Code::Test1 => self.test(step, 1)?,
            Code::Test4 => self.test(step, 4)?,
            Code::Test8 => self.test(step, 8)?,
            Code::ShiftLeft => self.shift(Shift::Left, step),
            Code::ShiftRight => self.shift(Shift::Right, step),
            Code::JumpIf => {
                if self.registers.flags.hold(step.condition) {
                    return self.away(step.immediate);
                }
            }
            Code::Jump => return self.away(step.immediate),
            Code::Call => {
                self.push_plain(start.wrapping_add(u64::from(step.end)))?;
                return self.away(step.immediate);
            }
            Code::JumpTo => return self.away(canonical(self.right(step)).ok()?),
            Code::CallTo => {
                let target = canonical(self.right(step)).ok()?;
                self.push_plain(start.wrapping_add(u64::from(step.end)))?;
                return self.away(target);
            }
            Code::Return => {
                let stack = self.registers.gpr(Gpr::Rsp);
                let target = canonical(self.load_plain(stack, 8)?).ok()?;
                self.registers.set_gpr(Gpr::Rsp, stack.wrapping_add(8));
                return self.away(target);
            }
            Code::Push => self.push_plain(self.right(step))?,
            Code::Pop => {
                let stack = self.registers.gpr(Gpr::Rsp);
                let value = self.load_plain(stack, 8)?;
                self.registers.set_gpr(Gpr::Rsp, stack.wrapping_add(8));
                self.registers.set_slot(step.to, value);
            }
        }
        Some(Went::On)
    }

    #[inline(always)]
    fn away(&mut self, target: u64) -> Option<Went> {
        self.registers.rip = target;
        Some(Went::Away)
    }

    /// What a jump behind a comparison does.
    #[inline(always)]
    fn over_or_away(&mut self, step: &Step) -> Option<Went> {
        let flags = &mut self.registers.flags;
        match flags.hold_after_difference(step.condition) {
            true => self.away(step.displacement),
            false => Some(Went::Over),
        }
    }

    /// The right operand: one of the two is 0.
    #[inline(always)]
    fn right(&self, step: &Step) -> u64 {
        self.registers.slot(step.from).wrapping_add(step.immediate)
    }

    /// Both operands, their highest bit in bit 63.
    #[inline(always)]
    fn both(&self, step: &Step) -> (u64, u64) {
        let left = self.registers.slot(step.to);
        (left << step.shift, self.right(step) << step.shift)
    }

    #[inline(always)]
    fn logic(&mut self, step: &Step, of: impl Fn(u64, u64) -> u64) {
        let (left, right) = self.both(step);
        let result = of(left, right);
        self.registers.flags.difference(step.shift, result, 0);
        self.registers.set_slot(step.to, result >> step.shift);
    }

    /// A shift by a count that is not 0: all status flags are new.
    #[inline(always)]
    fn shift(&mut self, shift: Shift, step: &Step) {
        let value = self.registers.slot(step.to);
        let flags = &mut self.registers.flags;
        let size = (64 - step.shift) / 8;
        let (result, new) = shift.execute(size, value, step.immediate, flags.without_status());
        flags.set(new);
        self.registers.set_slot(step.to, result);
    }

    /// Replaces the lowest byte of a register.
    #[inline(always)]
    fn set_low(&mut self, slot: Slot, byte: u64) {
        let value = self.registers.slot(slot) & !0xFF | byte & 0xFF;
        self.registers.set_slot(slot, value);
    }

    #[inline(always)]
    fn increment(&mut self, step: &Step, up: bool) {
        let left = self.registers.slot(step.to) << step.shift;
        let result = self.registers.flags.step(step.shift, left, up);
        self.registers.set_slot(step.to, result >> step.shift);
    }

    /// The linear address of the operand in memory.
    #[inline(always)]
    fn linear(&self, step: &Step) -> u64 {
        let base = self.registers.slot(step.base);
        let linear = step.displacement.wrapping_add(base);
        if !step.indexed {
            return linear;
        }
        let index = self.registers.slot(step.index) << (step.scale & 3);
        linear
            .wrapping_add(index)
            .wrapping_add(self.registers.slot(step.segment))
    }

    #[inline(always)]
    fn load_plain(&self, linear: u64, width: u8) -> Option<u64> {
        let page = self.translations.for_load(linear, width)?;
        self.memory.load(page, offset(linear, width), width)
    }

    #[inline(always)]
    fn store_plain(&self, linear: u64, width: u8, value: u64) -> Option<()> {
        let page = self.translations.for_store(linear, width)?;
        self.memory.store(page, offset(linear, width), width, value)
    }

    #[inline(always)]
    fn load_into(&mut self, step: &Step, width: u8) -> Option<()> {
        let value = self.load_plain(self.linear(step), width)?;
        self.registers.set_slot(step.to, value);
        Some(())
    }

    #[inline(always)]
    fn store_right(&self, step: &Step, width: u8) -> Option<()> {
        self.store_plain(self.linear(step), width, self.right(step))
    }

    #[inline(always)]
    fn compare(&mut self, step: &Step, width: u8) -> Option<()> {
        let left = self.load_plain(self.linear(step), width)?;
        let right = self.right(step) << step.shift;
        let flags = &mut self.registers.flags;
        flags.difference(step.shift, left << step.shift, right);
        Some(())
    }

    #[inline(always)]
    fn test(&mut self, step: &Step, width: u8) -> Option<()> {
        let left = self.load_plain(self.linear(step), width)?;
        let result = (left & self.right(step)) << step.shift;
        self.registers.flags.difference(step.shift, result, 0);
        Some(())
    }

    #[inline(always)]
    fn push_plain(&mut self, value: u64) -> Option<()> {
        let stack = self.registers.gpr(Gpr::Rsp).wrapping_sub(8);
        self.store_plain(stack, 8, value)?;
        self.registers.set_gpr(Gpr::Rsp, stack);
        Some(())
    }

    /// Executes a step whose operand in memory is a register of the device, RIP left alone. None if it is no such step.
    fn device(&mut self, step: &Step) -> Result<Option<Flow>, Stop> {
        let (width, store) = match step.code {
            Code::Load1 | Code::LoadLow => (1, false),
            Code::Load2 => (2, false),
            Code::Load4 => (4, false),
            Code::Load8 => (8, false),
            Code::Store1 => (1, true),
            Code::Store2 => (2, true),
            Code::Store4 => (4, true),
            Code::Store8 => (8, true),
            _ => return Ok(None),
        };
        let linear = self.linear(step);
        let Some(gpa) = self.translations.for_window(linear, width, store) else {
            return Ok(None);
        };
        if store {
            return self.write_window(gpa, width, self.right(step)).map(Some);
        }
        let (value, flow) = self.read_window(gpa, width)?;
        match step.code {
            Code::LoadLow => self.set_low(step.to, value),
            _ => self.registers.set_slot(step.to, value),
        }
        Ok(Some(flow))
    }
}

/// The offset in its page of what is aligned.
#[inline(always)]
const fn offset(linear: u64, width: u8) -> u16 {
    (linear & (PAGE_4K - width as u64)) as u16
}
