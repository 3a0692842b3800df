//! The registers as MSRs and as a page: one file of them, read and written in two ways.

use super::{Effect, InvalidAccess, LocalApic, Mode, VapicPage};
use x86_defs::apic::{ErrorStatus, InterruptCommand, Register, SpuriousVector};
use x86_defs::paging::PAGE_4K;

impl<P: VapicPage> LocalApic<P> {
    /// Whether the registers are at `gpa`: in xAPIC mode.
    pub fn has_page(&self, gpa: u64) -> bool {
        self.mode == Mode::XApic && gpa & !(PAGE_4K - 1) == super::BASE
    }

    /// RDMSR of 800H + `register`.
    pub fn read_msr(&self, register: Register, now: u64) -> Result<u64, InvalidAccess> {
        if self.mode != Mode::X2Apic {
            return Err(InvalidAccess);
        }
        match register {
            Register::ICR => {
                let high = u64::from(self.get(Register::ICR_HIGH));
                Ok(high << 32 | u64::from(self.get(Register::ICR)))
            }
            Register::EOI
            | Register::APR
            | Register::DFR
            | Register::ICR_HIGH
            | Register::SELF_IPI => Err(InvalidAccess),
            register => self.read(register, now).map(u64::from).ok_or(InvalidAccess),
        }
    }

    /// WRMSR of 800H + `register`.
    pub fn write_msr(
        &mut self,
        register: Register,
        value: u64,
        now: u64,
    ) -> Result<Effect, InvalidAccess> {
        if self.mode != Mode::X2Apic {
            return Err(InvalidAccess);
        }
        let reserved = match register {
            Register::TPR | Register::SELF_IPI => !0xFF,
            Register::EOI | Register::ESR => !0,
            Register::SVR => !0x3FF,
            Register::ICR => !0xFFFF_FFFF_000C_CFFF,
            Register::LVT_TIMER => !0x0007_10FF,
            Register::LVT_THERMAL | Register::LVT_PERFORMANCE => !0x0001_17FF,
            Register::LVT_LINT0 | Register::LVT_LINT1 => !0x0001_F7FF,
            Register::LVT_ERROR => !0x0001_10FF,
            Register::INITIAL_COUNT => !0xFFFF_FFFF,
            Register::DIVIDE => !0xB,
            _ => return Err(InvalidAccess),
        };
        if value & reserved != 0 {
            return Err(InvalidAccess);
        }
        match register {
            Register::ICR => {
                self.put(Register::ICR_HIGH, (value >> 32) as u32);
                self.put(Register::ICR, value as u32);
                Ok(self.send(InterruptCommand::from(value), true))
            }
            Register::SELF_IPI => {
                self.self_ipi(value as u8);
                Ok(Effect::None)
            }
            register => Ok(self.write(register, value as u32, now)),
        }
    }

    /// Reads `into.len()` bytes at `offset` of the xAPIC page.
    pub fn read_page(&self, offset: u64, now: u64, into: &mut [u8]) {
        let value = match (offset & 0xF, register_at(offset)) {
            (0..4, Some(register)) => self.read(register, now).unwrap_or(0) >> ((offset & 3) * 8),
            _ => 0,
        };
        for (index, byte) in into.iter_mut().enumerate() {
            *byte = value.to_le_bytes().get(index).copied().unwrap_or(0);
        }
    }

    /// Writes `from` at `offset` of the xAPIC page. Only aligned dwords are registers.
    pub fn write_page(&mut self, offset: u64, from: &[u8], now: u64) -> Effect {
        let (Ok(bytes), 0) = (<[u8; 4]>::try_from(from), offset & 0xF) else {
            return Effect::None;
        };
        let value = u32::from_le_bytes(bytes);
        match register_at(offset) {
            Some(Register::ICR_HIGH) => {
                self.put(Register::ICR_HIGH, value & 0xFF00_0000);
                Effect::None
            }
            Some(Register::ICR) => {
                let value = value & 0x000C_CFFF;
                self.put(Register::ICR, value);
                let destination = u64::from(self.get(Register::ICR_HIGH) >> 24);
                let command = InterruptCommand::from(destination << 32 | u64::from(value));
                self.send(command, false)
            }
            Some(Register::ID) => Effect::None,
            Some(Register::LDR) => {
                self.put(Register::LDR, value & 0xFF00_0000);
                self.address_changed = true;
                Effect::None
            }
            Some(Register::DFR) => {
                self.put(Register::DFR, value | 0x0FFF_FFFF);
                self.address_changed = true;
                Effect::None
            }
            Some(register) => self.write(register, value, now),
            None => Effect::None,
        }
    }

    fn read(&self, register: Register, now: u64) -> Option<u32> {
        Some(match register {
            Register::PPR => u32::from(self.processor_priority()),
            Register::INITIAL_COUNT => self.timer.initial_count(),
            Register::CURRENT_COUNT => self.timer.current_count(now),
            Register::DIVIDE => self.timer.divide(),
            Register::EOI | Register::SELF_IPI => 0,
            Register(0x02 | 0x03 | 0x08 | 0x09 | 0x0D..=0x28 | 0x30..=0x37) => self.get(register),
            _ => return None,
        })
    }

    /// A write that means the same through an MSR and through the page.
    fn write(&mut self, register: Register, value: u32, now: u64) -> Effect {
        match register {
            Register::TPR => self.set_task_priority(value as u8),
            Register::EOI => return self.end_of_interrupt(),
            Register::SVR => self.set_spurious_vector(SpuriousVector::from(value & 0x3FF)),
            Register::ESR => {
                self.put(Register::ESR, self.errors.into());
                self.errors = ErrorStatus::new();
            }
            Register::LVT_TIMER => {
                let entry = self.store_lvt(register, value & 0x0007_00FF);
                self.timer.set_mode(entry.timer_mode());
            }
            Register::LVT_THERMAL | Register::LVT_PERFORMANCE => {
                self.store_lvt(register, value & 0x0001_07FF);
            }
            Register::LVT_LINT0 | Register::LVT_LINT1 => {
                self.store_lvt(register, value & 0x0001_A7FF);
            }
            Register::LVT_ERROR => {
                self.store_lvt(register, value & 0x0001_00FF);
            }
            Register::INITIAL_COUNT => self.timer.set_initial_count(value, now),
            Register::DIVIDE => self.timer.set_divide(value, now),
            _ => self.error(ErrorStatus::new().with_illegal_register_address(true)),
        }
        Effect::None
    }
}

fn register_at(offset: u64) -> Option<Register> {
    u8::try_from(offset >> 4)
        .ok()
        .filter(|number| *number < 0x40)
        .map(Register)
}
