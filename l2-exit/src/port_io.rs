//! IN, OUT, INS and OUTS for L2.
//!
//! The processor has checked the I/O privilege and, of INS and OUTS, the segment before it
//! exits (SDM Vol. 3C, "Relative Priority of Faults and VM Exits"); paging it has not. All of
//! it is checked here: the exit's own address would not serve the iterations after the first.

use tdx_defs::ghci::Width;
use x86_defs::rflags;

use crate::exit::{Exit, IoAccess, IoString, OperandWidth};
use crate::guest::{Guest, Span, Stop};
use crate::memory::{GuestMemory, PortBus};
use crate::outcome::{EmulationError, Outcome};
use crate::paging::AccessKind;
use crate::register::Register;
use crate::rip;
use crate::string::{self, ITERATIONS};
use crate::vcpu::{Gpr, SegmentRegister, Vcpu};

/// Executes the I/O instruction behind `access`, the qualification of `exit`.
///
/// Costs no TDCALL for IN and OUT. A repeated INS or OUTS does a bounded number of iterations;
/// then L2 goes on with it and exits again.
pub fn emulate<V: Vcpu, M: GuestMemory, P: PortBus>(
    exit: &Exit,
    access: &IoAccess,
    vcpu: &mut V,
    memory: &M,
    ports: &mut P,
) -> Result<Outcome, EmulationError> {
    let Some(width) = access.width else {
        return Err(EmulationError::Qualification {
            qualification: access.qualification,
        });
    };
    let Some(string) = &access.string else {
        let accumulator = Register::low(Gpr::Rax, width as u8);
        if access.input {
            let value = ports.read(access.port, width);
            accumulator.set(vcpu, u64::from(value));
        } else {
            let value = accumulator.get(vcpu);
            ports.write(access.port, width, value as u32);
        }
        rip::advance(exit, vcpu);
        return Ok(Outcome::Completed);
    };
    let mut guest = Guest::new(exit, vcpu, memory);
    let mut transfer = Transfer {
        guest: &mut guest,
        ports,
        port: access.port,
        width,
        string,
    };
    let result = if access.input {
        transfer.repeat(Transfer::input)
    } else {
        transfer.repeat(Transfer::output)
    };
    match result {
        Ok(outcome) => Ok(outcome),
        Err(stop) => guest.stop(stop),
    }
}

/// INS or OUTS.
struct Transfer<'t, 'g, V, M, P> {
    guest: &'t mut Guest<'g, V, M>,
    ports: &'t mut P,
    port: u16,
    width: Width,
    string: &'t IoString,
}

impl<V: Vcpu, M: GuestMemory, P: PortBus> Transfer<'_, '_, V, M, P> {
    fn repeat(
        &mut self,
        mut iterate: impl FnMut(&mut Self) -> Result<(), Stop>,
    ) -> Result<Outcome, Stop> {
        // In 64-bit code a 16-bit address size does not exist, elsewhere a 64-bit one.
        let mask = self.mask();
        let count = |transfer: &Self| string::get(transfer.guest.vcpu, Gpr::Rcx, mask);
        for _ in 0..ITERATIONS {
            if self.string.repeat && count(self) == 0 {
                break;
            }
            iterate(self)?;
            if !self.string.repeat {
                break;
            }
            string::add(self.guest.vcpu, Gpr::Rcx, mask, u64::MAX);
            if count(self) == 0 {
                break;
            }
            if self.guest.vcpu.rflags() & rflags::TF != 0 {
                // A repeated instruction traps after each iteration.
                self.guest.vcpu.single_step();
                return Ok(Outcome::Interrupted);
            }
        }
        if self.string.repeat && count(self) != 0 {
            return Ok(Outcome::Interrupted);
        }
        rip::advance(self.guest.exit, self.guest.vcpu);
        Ok(Outcome::Completed)
    }

    fn mask(&self) -> u64 {
        match (self.guest.long, self.string.address) {
            (false, OperandWidth::Bits64) => OperandWidth::Bits32.mask(),
            (_, width) => width.mask(),
        }
    }

    /// INS: from the port to ES:RDI.
    fn input(&mut self) -> Result<(), Stop> {
        let span = self.operand(SegmentRegister::Es, Gpr::Rdi, AccessKind::Write)?;
        let bytes = self.ports.read(self.port, self.width).to_le_bytes();
        let mut from = bytes.as_slice();
        for part in span {
            if let Some((here, rest)) = from.split_at_checked(usize::from(part.length))
                && !here.is_empty()
            {
                self.guest.memory.write(part.gpa, here).map_err(|error| {
                    EmulationError::Unclaimed {
                        gpa: error.gpa,
                        write: true,
                    }
                })?;
                from = rest;
            }
        }
        self.step(Gpr::Rdi);
        Ok(())
    }

    /// OUTS: from the segment's RSI to the port.
    fn output(&mut self) -> Result<(), Stop> {
        let span = self.operand(self.string.segment, Gpr::Rsi, AccessKind::Read)?;
        let mut bytes = [0; 4];
        let mut into = bytes.as_mut_slice();
        for part in span {
            if let Some((here, rest)) = into.split_at_mut_checked(usize::from(part.length)) {
                if !here.is_empty() {
                    self.guest.memory.read(part.gpa, here).map_err(|error| {
                        EmulationError::Unclaimed {
                            gpa: error.gpa,
                            write: false,
                        }
                    })?;
                }
                into = rest;
            } else {
                break;
            }
        }
        self.ports
            .write(self.port, self.width, u32::from_le_bytes(bytes));
        self.step(Gpr::Rsi);
        Ok(())
    }

    fn operand(
        &mut self,
        segment: SegmentRegister,
        pointer: Gpr,
        kind: AccessKind,
    ) -> Result<Span, Stop> {
        let offset = string::get(self.guest.vcpu, pointer, self.mask());
        self.guest.operand(segment, offset, self.width as u8, kind)
    }

    fn step(&mut self, pointer: Gpr) {
        let step = string::step(self.guest.vcpu, self.width as u8);
        string::add(self.guest.vcpu, pointer, self.mask(), step);
    }
}

#[cfg(test)]
mod tests;
