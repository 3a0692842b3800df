//! The instruction behind an EPT violation, executed against a device.
//!
//! Implemented: MOV in all its forms between memory and general registers or immediates,
//! MOVZX, MOVSX, MOVSXD, XCHG, ADD, ADC, SUB, SBB, AND, OR, XOR, CMP, TEST, INC, DEC, NEG, NOT,
//! with or without LOCK, and MOVS, STOS, LODS, CMPS, SCAS with or without REP, REPE, REPNE; in
//! 16-, 32- and 64-bit code, at any operand and address size, in any segment, between devices
//! and memory in any combination.
//!
//! Everything else is [`EmulationError::Unsupported`], with the bytes: SSE and AVX moves, bit
//! tests, CMPXCHG, XADD, segment registers, PUSH and POP.
//!
//! All checks of all operands come before the first access, so an instruction that faults has
//! not touched a device. A read-modify-write is a read and a write, which is atomic as long as
//! L2 has one vCPU. Where an iteration of a repeated instruction writes over its own code, the
//! old code goes on, as the manual allows. Breakpoints on data or I/O (DR7) do not trigger on
//! what is executed here.

mod cache;
mod instruction;
mod operand;
mod strings;

use crate::exit::{EptViolation, Exit};
use crate::guest::{Code, Guest, Span, Stop};
use crate::memory::{GuestMemory, MmioBus};
use crate::outcome::{EmulationError, InstructionBytes, Outcome};
use crate::paging::AccessKind;
use crate::register::sign_extend;
use crate::rip;
use crate::vcpu::Vcpu;
pub(crate) use instruction::{Address, address, binary, unary};
use instruction::{DecodeError, Instruction, Operation};
use operand::{Bytes, Operand, Register};
use x86_defs::rflags;

pub use cache::{CacheStatistics, DecodeCache};

/// Builds the instruction decoder's tables on the heap, once: the only allocation of this
/// crate. Without it the first [`emulate`] that decodes does the same.
pub fn prepare() {
    instruction::prepare();
}

/// Executes the instruction that made the access `violation`, the qualification of `exit`.
///
/// What is claimed by `bus` is the device's; what is not must be in `memory`. Both exits that
/// come directly and those that the host routes ([`crate::Origin::HostRouted`]) are served
/// alike: whatever the exit says, nothing is executed but an instruction that L2 has at RIP
/// and that accesses the page the exit names.
///
/// Costs no TDCALL for an instruction that `cache` knows. Does not inject the event whose
/// delivery the exit interrupted, if one was: then the access is no instruction's, and the
/// answer is [`EmulationError::Delivery`].
pub fn emulate<V: Vcpu, M: GuestMemory, B: MmioBus>(
    exit: &Exit,
    violation: &EptViolation,
    vcpu: &mut V,
    memory: &M,
    bus: &mut B,
    cache: &mut DecodeCache,
) -> Result<Outcome, EmulationError> {
    if let Some(event) = exit.idt_vectoring {
        return Err(EmulationError::Delivery {
            event,
            gpa: violation.gpa,
        });
    }
    if is_cacheable(exit, vcpu) && execute_cached(exit, violation, vcpu, memory, bus, cache) {
        cache.hit();
        return Ok(Outcome::Completed);
    }
    cache.miss();
    if violation.fetch {
        return Err(EmulationError::Fetch { gpa: violation.gpa });
    }
    if violation.linear.is_some() && !violation.final_access {
        return Err(EmulationError::PagingStructure { gpa: violation.gpa });
    }
    let mut guest = Guest::at_violation(exit, violation, vcpu, memory);
    let mut emulation = Emulation {
        violation,
        guest: &mut guest,
        bus,
    };
    match emulation.run(cache) {
        Ok(outcome) => Ok(outcome),
        Err(stop) => guest.stop(stop),
    }
}

/// Whether an instruction at RIP may be kept: see [`DecodeCache`].
fn is_cacheable<V: Vcpu>(exit: &Exit, vcpu: &V) -> bool {
    exit.cpl == 0
        && (vcpu.rip() as i64) < 0
        && exit.is_64_bit(vcpu)
        && vcpu.rflags() & rflags::TF == 0
}

/// The path that every access of a driver takes but the first: false if this one cannot.
fn execute_cached<V: Vcpu, M: GuestMemory, B: MmioBus>(
    exit: &Exit,
    violation: &EptViolation,
    vcpu: &mut V,
    memory: &M,
    bus: &mut B,
    cache: &mut DecodeCache,
) -> bool {
    let rip = vcpu.rip();
    let Some(instruction) = cache.look_up(rip, memory) else {
        return false;
    };
    let (address, reported) = match &instruction.operation {
        Operation::Load { from, .. } => (from, violation.read),
        Operation::Store { to, .. } => (to, violation.write),
        Operation::ToRegister { right, .. } => (right, violation.read),
        Operation::ToMemory {
            operation, left, ..
        } => (
            left,
            if operation.writes() {
                violation.write
            } else {
                violation.read
            },
        ),
        Operation::Exchange { with, .. } => (with, violation.write),
        Operation::Unary { operand, .. } => (operand, violation.write),
        // Never kept.
        Operation::String(_) => return false,
    };
    let linear = address.offset(|gpr| vcpu.gpr(gpr));
    if !reported || !violation.final_access || violation.linear != Some(linear) {
        cache.drop_stale(rip);
        return false;
    }
    let gpa = violation.gpa & !0xFFF | linear & 0xFFF;
    if (linear & 0xFFF) + u64::from(instruction.size) > 0x1000 || !bus.claims(gpa) {
        return false;
    }
    let mut operand = Register {
        bus,
        gpa,
        size: instruction.size,
    };
    let Ok(()) = execute(&instruction, vcpu, &mut operand);
    rip::complete(exit, vcpu, instruction.length);
    true
}

/// An emulation that has to find out everything.
struct Emulation<'e, 'g, V, M, B> {
    violation: &'e EptViolation,
    guest: &'e mut Guest<'g, V, M>,
    bus: &'e mut B,
}

impl<V: Vcpu, M: GuestMemory, B: MmioBus> Emulation<'_, '_, V, M, B> {
    fn run(&mut self, cache: &mut DecodeCache) -> Result<Outcome, Stop> {
        let (instruction, code) = self.decode()?;
        let (address, kind) = match &instruction.operation {
            Operation::Load { from, .. } => (from, AccessKind::Read),
            Operation::Store { to, .. } => (to, AccessKind::Write),
            Operation::Exchange { with, .. } => (with, AccessKind::Write),
            Operation::ToRegister { right, .. } => (right, AccessKind::Read),
            Operation::ToMemory {
                operation, left, ..
            } => (
                left,
                if operation.writes() {
                    AccessKind::Write
                } else {
                    AccessKind::Read
                },
            ),
            Operation::Unary { operand, .. } => (operand, AccessKind::Write),
            Operation::String(string) => {
                return self.string(string, &instruction, &code);
            }
        };
        let span = self.operand(address, instruction.size, kind)?;
        if !self.is_here(&span) {
            return Err(self.elsewhere(&code));
        }
        let mut operand = Bytes {
            memory: self.guest.memory,
            bus: self.bus,
            span,
        };
        execute(&instruction, self.guest.vcpu, &mut operand)?;
        if address.is_flat() && is_cacheable(self.guest.exit, self.guest.vcpu) {
            cache.insert(self.guest.vcpu.rip(), &code, instruction);
        }
        rip::complete(self.guest.exit, self.guest.vcpu, instruction.length);
        Ok(Outcome::Completed)
    }

    /// Fetches and decodes the instruction at RIP.
    fn decode(&mut self) -> Result<(Instruction, Code), Stop> {
        let rights = self.guest.exit.cs.access_rights;
        let bits = match (self.guest.long, rights.default_big()) {
            (true, _) => 64,
            (false, true) => 32,
            (false, false) => 16,
        };
        let mut code = Code::default();
        loop {
            self.guest.fetch(&mut code)?;
            match instruction::decode(bits, self.guest.vcpu.rip(), code.fetched()) {
                Ok(instruction) => return Ok((instruction, code)),
                Err(DecodeError::Incomplete) => {}
                Err(DecodeError::Unsupported) => {
                    return Err(Stop::Error(EmulationError::Unsupported {
                        linear: self.guest.instruction_address(),
                        instruction: InstructionBytes::new(code.fetched()),
                    }));
                }
            }
        }
    }

    fn operand(&mut self, address: &Address, size: u8, kind: AccessKind) -> Result<Span, Stop> {
        let offset = address.offset(|gpr| self.guest.vcpu.gpr(gpr));
        self.guest.operand(address.segment, offset, size, kind)
    }

    /// Whether the bytes are in the page that the exit names.
    fn is_here(&self, span: &Span) -> bool {
        span.iter()
            .any(|part| part.length != 0 && (part.gpa ^ self.violation.gpa) & !0xFFF == 0)
    }

    fn elsewhere(&self, code: &Code) -> Stop {
        Stop::Error(EmulationError::Elsewhere {
            linear: self.guest.instruction_address(),
            instruction: InstructionBytes::new(code.fetched()),
            gpa: self.violation.gpa,
        })
    }
}

/// Executes all but string instructions on their memory operand. RIP is left alone.
fn execute<V: Vcpu, O: Operand>(
    instruction: &Instruction,
    vcpu: &mut V,
    operand: &mut O,
) -> Result<(), O::Error> {
    let size = instruction.size;
    match instruction.operation {
        Operation::Load { to, signed, .. } => {
            let value = operand.read()?;
            to.set(
                vcpu,
                if signed {
                    sign_extend(value, size)
                } else {
                    value
                },
            );
        }
        Operation::Store { from, .. } => operand.write(from.get(vcpu))?,
        Operation::Exchange { register, .. } => {
            let value = operand.read()?;
            operand.write(register.get(vcpu))?;
            register.set(vcpu, value);
        }
        Operation::ToMemory {
            operation, right, ..
        } => {
            let left = operand.read()?;
            let (result, rflags) = operation.execute(size, left, right.get(vcpu), vcpu.rflags());
            if operation.writes() {
                operand.write(result)?;
            }
            vcpu.set_rflags(rflags);
        }
        Operation::ToRegister {
            operation, left, ..
        } => {
            let right = operand.read()?;
            let (result, rflags) = operation.execute(size, left.get(vcpu), right, vcpu.rflags());
            if operation.writes() {
                left.set(vcpu, result);
            }
            vcpu.set_rflags(rflags);
        }
        Operation::Unary { operation, .. } => {
            let (result, rflags) = operation.execute(size, operand.read()?, vcpu.rflags());
            operand.write(result)?;
            vcpu.set_rflags(rflags);
        }
        Operation::String(_) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
