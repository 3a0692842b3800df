//! CLTS, LMSW and SMSW: the instructions on CR0's low bits.

use super::control_registers::ControlRegister::Cr0;
use super::cr_access::{Access, general};
use super::exit::Disposition;
use super::guest::Guest;
use crate::platform::{Event, Platform, Register};
use iced_x86::{Instruction, OpKind};
use tdx_defs::vmcs::{CrAccess, VmcsField};
use x86_defs::cr0;
use x86_defs::exit_reason;

/// CR0 bits that LMSW writes.
const MACHINE_STATUS: u64 = cr0::PE | cr0::MP | cr0::EM | cr0::TS;

impl<P: Platform> Guest<'_, P> {
    pub(super) fn route_clts(&mut self, access: &mut Access) -> Disposition {
        access.qualification = access.qualification.with_access(CrAccess::Clts);
        let hardware = self.hardware(Cr0);
        if hardware.mask & hardware.shadow & cr0::TS != 0 {
            return access.exit();
        }
        let real = self.real(Cr0);
        self.set_real(Cr0, real & !(cr0::TS & !hardware.mask));
        self.emulated(exit_reason::CR_ACCESS, access.length())
    }

    pub(super) fn route_lmsw(&mut self, access: &mut Access) -> Disposition {
        let memory = access.instruction.op0_kind() == OpKind::Memory;
        let source = if memory {
            let instruction = access.instruction;
            let mut word = [0; 2];
            if let Some(address) = self.operand_address(&instruction, 0) {
                self.space().read_linear(address, &mut word);
            }
            u16::from_le_bytes(word)
        } else {
            self.register(Register::GENERAL[general(access.instruction.op0_register())]) as u16
        };
        access.qualification = access
            .qualification
            .with_access(CrAccess::Lmsw)
            .with_lmsw_memory(memory)
            .with_lmsw_source(source);
        let source = u64::from(source) & MACHINE_STATUS;
        let hardware = self.hardware(Cr0);
        let real = self.real(Cr0);
        let differs = (source ^ hardware.shadow) & hardware.mask & MACHINE_STATUS;
        // PE can be set but not cleared, so clearing it is no difference.
        let exits = differs & !cr0::PE != 0 || differs & source & cr0::PE != 0;
        if exits && self.is_lmsw_masked_by_l1(source) {
            return access.exit();
        }
        let writable = if exits {
            MACHINE_STATUS
        } else {
            MACHINE_STATUS & !hardware.mask
        };
        let protected = real & cr0::PE;
        self.set_real(Cr0, real & !writable | source & writable | protected);
        self.emulated(exit_reason::CR_ACCESS, access.length())
    }

    fn is_lmsw_masked_by_l1(&self, source: u64) -> bool {
        let mask = self.l2.cell(VmcsField::CR0_GUEST_HOST_MASK);
        let shadow = self.l2.cell(VmcsField::CR0_READ_SHADOW);
        (source ^ shadow) & mask & MACHINE_STATUS != 0
    }

    /// SMSW never exits on VMX: it reads the shadow.
    pub(super) fn store_machine_status(&mut self, access: &Access) -> Disposition {
        let value = self.as_l2_sees(Cr0);
        let instruction = access.instruction;
        if instruction.op0_kind() == OpKind::Memory {
            if let Err(fault) = self.store_word(&instruction, value as u16) {
                return Disposition::fault(exit_reason::CR_ACCESS, fault);
            }
        } else {
            let operand = instruction.op0_register();
            let register = Register::GENERAL[general(operand)];
            let value = match operand.size() {
                2 => self.register(register) & !0xffff | value & 0xffff,
                4 => value & 0xffff_ffff,
                _ => value,
            };
            self.set_register(register, value);
        }
        self.emulated(exit_reason::CR_ACCESS, access.length())
    }

    /// Stores a word at an instruction's first operand; the page fault if it is not mapped.
    fn store_word(&mut self, instruction: &Instruction, value: u16) -> Result<(), Event> {
        const WRITE: u32 = 1 << 1;
        let address = self.operand_address(instruction, 0).unwrap_or(0);
        for (offset, byte) in (0..).zip(value.to_le_bytes()) {
            let linear = address.wrapping_add(offset);
            let gpa = self.space().translate(linear);
            let Some(hpa) = gpa.and_then(|gpa| self.sept.mapped(gpa)) else {
                self.set_register(Register::Cr2, linear);
                return Err(Event::exception(14, Some(WRITE)));
            };
            self.platform.write(hpa, &[byte]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;
    use crate::platform::HardwareExit;

    const PROTECTED: u64 = 0x21;
    const CLTS: [u8; 2] = [0x0f, 0x06];
    const LMSW_AX: [u8; 3] = [0x0f, 0x01, 0xf0];
    const SMSW_EAX: [u8; 3] = [0x0f, 0x01, 0xe0];

    fn qualification(disposition: Disposition) -> Option<u64> {
        match disposition {
            Disposition::L1(exit) => Some(exit.qualification),
            _ => None,
        }
    }

    #[test]
    fn clts_and_lmsw_have_qualifications_of_their_own() {
        let mut fake = Fake::at_cr0_access(&CLTS, 0, cr0::TS, cr0::TS);
        let exit = fake.guest().route(HardwareExit::CrAccess);
        assert_eq!(qualification(exit), Some(2 << 4));
        let mut fake = Fake::at_cr0_access(&CLTS, 0, 0, 0);
        fake.guest().set_real(Cr0, PROTECTED | cr0::TS);
        fake.guest().route(HardwareExit::CrAccess);
        assert_eq!(fake.guest().real(Cr0), PROTECTED);

        let mut fake = Fake::at_cr0_access(&LMSW_AX, 0x0008, cr0::TS, 0);
        let exit = fake.guest().route(HardwareExit::CrAccess);
        assert_eq!(qualification(exit), Some(3 << 4 | 8 << 16));
        let mut fake = Fake::at_cr0_access(&LMSW_AX, 0x000a, 0, 0);
        fake.guest().route(HardwareExit::CrAccess);
        assert_eq!(
            fake.guest().real(Cr0),
            PROTECTED | cr0::MP | cr0::TS,
            "PE can not be cleared"
        );
    }

    #[test]
    fn smsw_reads_the_shadow() {
        let mut fake = Fake::at_cr0_access(&SMSW_EAX, 0, cr0::NE, 0);
        fake.guest().route(HardwareExit::CrAccess);
        assert_eq!(fake.guest().register(Register::Rax), cr0::PE);
    }
}
