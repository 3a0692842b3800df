//! MOV to and from control registers, and which control-register instruction it is.
//!
//! The hardware has no guest/host masks, so that some accesses exit which would not on VMX: those
//! are carried out here as the processor would.

use super::control_registers::ControlRegister::{self, Cr0, Cr4};
use super::exit::Disposition;
use super::exit_information::ExitInformation;
use super::guest::Guest;
use crate::platform::{Event, Platform, Register};
use iced_x86::{Instruction, Mnemonic};
use tdx_defs::vmcs::{CrAccess, CrQualification, VmcsField};
use x86_defs::cr0;
use x86_defs::cr4;
use x86_defs::efer;
use x86_defs::exit_reason;

/// CR0 bits that the module leaves as they are when it writes CR0 for L2.
const CR0_KEPT: u64 = 0x1ff8_0000 | 1 << 17 | 0xffc0;

/// A control-register instruction, decoded.
pub(super) struct Access {
    pub(super) instruction: Instruction,
    pub(super) qualification: CrQualification,
}

impl Access {
    pub(super) fn length(&self) -> u32 {
        self.instruction.len() as u32
    }

    /// The exit to L1 that the access is.
    pub(super) fn exit(&self) -> Disposition {
        Disposition::L1(
            ExitInformation::instruction(exit_reason::CR_ACCESS, self.length())
                .with_qualification(self.qualification.into_bits()),
        )
    }
}

const GENERAL_PROTECTION: Disposition = Disposition::Resume {
    reason: exit_reason::CR_ACCESS,
    event: Some(Event::GENERAL_PROTECTION),
};

/// The number of a general register, in instruction encoding.
pub(super) fn general(register: iced_x86::Register) -> usize {
    register.full_register().number() & 0xf
}

impl<P: Platform> Guest<'_, P> {
    pub(super) fn route_cr_access(&mut self) -> Disposition {
        let Some(instruction) = self.fetch() else {
            return GENERAL_PROTECTION;
        };
        let mut access = Access {
            instruction,
            qualification: CrQualification::new(),
        };
        match instruction.mnemonic() {
            Mnemonic::Clts => self.route_clts(&mut access),
            Mnemonic::Lmsw => self.route_lmsw(&mut access),
            Mnemonic::Smsw => self.store_machine_status(&access),
            _ if instruction.op0_register().is_cr() => {
                let number = instruction.op0_register().number();
                let gpr = general(instruction.op1_register());
                access.qualification = access
                    .qualification
                    .with_control_register(number as u8)
                    .with_access(CrAccess::MovToCr)
                    .with_gpr(gpr as u8);
                let value = self.source(gpr);
                self.route_mov_to_cr(&access, number, value)
            }
            _ if instruction.op1_register().is_cr() => {
                let number = instruction.op1_register().number();
                let gpr = general(instruction.op0_register());
                access.qualification = access
                    .qualification
                    .with_control_register(number as u8)
                    .with_access(CrAccess::MovFromCr)
                    .with_gpr(gpr as u8);
                self.route_mov_from_cr(&access, number, gpr)
            }
            _ => GENERAL_PROTECTION,
        }
    }

    /// A general register as MOV to a control register reads it.
    fn source(&mut self, gpr: usize) -> u64 {
        let value = self.register(Register::GENERAL[gpr]);
        if self.code_width() == 64 {
            value
        } else {
            value & 0xffff_ffff
        }
    }

    fn route_mov_to_cr(&mut self, access: &Access, number: usize, value: u64) -> Disposition {
        match number {
            0 => self.route_cr0_write(access, value),
            3 => {
                let targets = [
                    VmcsField::CR3_TARGET_0,
                    VmcsField::CR3_TARGET_1,
                    VmcsField::CR3_TARGET_2,
                    VmcsField::CR3_TARGET_3,
                ];
                let count = self.l2.cell(VmcsField::CR3_TARGET_COUNT) as usize;
                let is_target = targets
                    .iter()
                    .take(count)
                    .any(|&target| self.l2.cell(target) == value);
                if self.primary().cr3_load() && !is_target {
                    return access.exit();
                }
                const KEEP_TRANSLATIONS: u64 = 1 << 63;
                self.set_register(Register::Cr3, value & !KEEP_TRANSLATIONS);
                self.emulated(exit_reason::CR_ACCESS, access.length())
            }
            4 => self.route_cr4_write(access, value),
            8 if self.primary().cr8_load() => access.exit(),
            8 if value >> 4 != 0 => GENERAL_PROTECTION,
            8 => {
                let tpr = (value << 4) as u8;
                self.write_tpr(exit_reason::CR_ACCESS, access.length(), tpr)
            }
            _ => Disposition::fault(exit_reason::CR_ACCESS, Event::INVALID_OPCODE),
        }
    }

    fn route_mov_from_cr(&mut self, access: &Access, number: usize, gpr: usize) -> Disposition {
        let value = match number {
            0 => self.as_l2_sees(Cr0),
            2 => self.register(Register::Cr2),
            3 if self.primary().cr3_store() => return access.exit(),
            3 => self.register(Register::Cr3),
            4 => self.as_l2_sees(Cr4),
            8 if self.primary().cr8_store() => return access.exit(),
            8 => u64::from(self.virtual_apic().tpr() >> 4),
            _ => return Disposition::fault(exit_reason::CR_ACCESS, Event::INVALID_OPCODE),
        };
        self.set_register(Register::GENERAL[gpr], value);
        self.emulated(exit_reason::CR_ACCESS, access.length())
    }

    fn route_cr0_write(&mut self, access: &Access, value: u64) -> Disposition {
        let hardware = self.hardware(Cr0);
        let real = self.real(Cr0);
        if (value ^ hardware.shadow) & hardware.mask == 0 {
            // VMX would not exit.
            let new = real & hardware.mask | value & !hardware.mask;
            return self.write_cr0(access, new);
        }
        if self.is_masked_by_l1(Cr0, value) {
            return access.exit();
        }
        let pages_unprotected = value & cr0::PG != 0 && value & cr0::PE == 0;
        let shadow_stack_unprotected =
            value & cr0::WP == 0 && self.register(Register::Cr4) & cr4::CET != 0;
        if value & cr0::NE == 0 || value >> 32 != 0 || pages_unprotected || shadow_stack_unprotected
        {
            return GENERAL_PROTECTION;
        }
        if value & (cr0::NW | cr0::CD) != 0 {
            return access.exit();
        }
        self.write_cr0(access, real & CR0_KEPT | value & !CR0_KEPT)
    }

    /// Writes CR0 as MOV would, with EFER.LMA following PG.
    fn write_cr0(&mut self, access: &Access, value: u64) -> Disposition {
        let cr4 = self.register(Register::Cr4);
        let mut efer = self.register(Register::Efer);
        let paging = value & cr0::PG != 0;
        let was_paging = self.register(Register::Cr0) & cr0::PG != 0;
        let long = paging && efer & efer::LME != 0;
        let illegal = paging && value & cr0::PE == 0
            || value & cr0::NW != 0 && value & cr0::CD == 0
            || long && cr4 & cr4::PAE == 0
            || was_paging && !paging && (self.is_64_bit() || cr4 & cr4::PCIDE != 0)
            || long && !was_paging && self.is_64_bit();
        if illegal {
            return GENERAL_PROTECTION;
        }
        efer = efer & !efer::LMA | if long { efer::LMA } else { 0 };
        self.set_register(Register::Efer, efer);
        self.set_real(Cr0, value | cr0::ET);
        self.emulated(exit_reason::CR_ACCESS, access.length())
    }

    fn route_cr4_write(&mut self, access: &Access, value: u64) -> Disposition {
        let hardware = self.hardware(Cr4);
        let real = self.real(Cr4);
        if (value ^ hardware.shadow) & hardware.mask == 0 {
            let new = real & hardware.mask | value & !hardware.mask;
            return self.write_cr4(access, new);
        }
        if self.is_masked_by_l1(Cr4, value) {
            return access.exit();
        }
        let base = self.base(ControlRegister::Cr4);
        let unprotected = value & cr4::CET != 0 && self.register(Register::Cr0) & cr0::WP == 0;
        if value & base.mask & !base.shadow != 0 || unprotected {
            return GENERAL_PROTECTION;
        }
        access.exit()
    }

    fn write_cr4(&mut self, access: &Access, value: u64) -> Disposition {
        let changed = value ^ self.real(Cr4);
        let long = self.register(Register::Efer) & efer::LMA != 0;
        let sets_pcide = changed & value & cr4::PCIDE != 0;
        let low_cr3 = self.register(Register::Cr3) & 0xfff != 0;
        let illegal = long && (value & cr4::PAE == 0 || changed & cr4::LA57 != 0)
            || sets_pcide && (!long || low_cr3);
        if illegal {
            return GENERAL_PROTECTION;
        }
        self.set_real(Cr4, value);
        self.emulated(exit_reason::CR_ACCESS, access.length())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;
    use crate::platform::HardwareExit;

    const PROTECTED: u64 = 0x21;

    fn qualification(disposition: Disposition) -> Option<u64> {
        match disposition {
            Disposition::L1(exit) => Some(exit.qualification),
            _ => None,
        }
    }

    const MOV_CR0_EAX: [u8; 3] = [0x0f, 0x22, 0xc0];
    const MOV_EAX_CR0: [u8; 3] = [0x0f, 0x20, 0xc0];

    enum Expected {
        Written(u64),
        Fault,
        Exit,
    }
    use Expected::{Exit, Fault, Written};

    #[test]
    fn a_cr0_write_is_l1s_a_fault_or_done() {
        let ts = PROTECTED | cr0::TS;
        let rows = [
            // Nothing masked: done, NE fixed.
            (0, 0, ts, Written(ts)),
            (0, 0, ts | cr0::ET, Written(ts)),
            (0, 0, ts & !cr0::NE, Fault),
            (0, 0, ts | 1 << 32, Written(ts)),
            (0, 0, cr0::PG | cr0::NE, Fault),
            (0, 0, ts | cr0::CD, Exit),
            (0, 0, ts | cr0::NW, Exit),
            // TS masked.
            (cr0::TS, 0, ts, Exit),
            (cr0::TS, cr0::TS, ts, Written(PROTECTED)),
            // NE masked and shadowed as 0: L2 writes what it reads.
            (cr0::NE, 0, cr0::PE | cr0::TS, Written(ts)),
            (cr0::NE, 0, ts, Exit),
        ];
        for (mask, shadow, value, expected) in rows {
            let mut fake = Fake::at_cr0_access(&MOV_CR0_EAX, value, mask, shadow);
            let disposition = fake.guest().route(HardwareExit::CrAccess);
            let name = alloc::format!("{mask:#x} {shadow:#x} <- {value:#x}");
            match expected {
                Written(value) => {
                    assert!(
                        matches!(disposition, Disposition::Resume { event: None, .. }),
                        "{name}"
                    );
                    assert_eq!(fake.guest().real(Cr0), value | cr0::ET, "{name}");
                    assert_eq!(fake.guest().register(Register::Rip), 0x1003);
                }
                Fault => assert_eq!(disposition, GENERAL_PROTECTION, "{name}"),
                Exit => assert_eq!(qualification(disposition), Some(0), "{name}"),
            }
        }
    }

    #[test]
    fn turning_paging_on_makes_a_long_mode_guest_active() {
        let mut fake = Fake::at_cr0_access(&MOV_CR0_EAX, 0x8000_0021, 0, 0);
        fake.guest().set_real(Cr4, cr4::PAE);
        fake.guest().route(HardwareExit::CrAccess);
        assert_eq!(fake.guest().register(Register::Efer), 0xd01);
        let mut fake = Fake::at_cr0_access(&MOV_CR0_EAX, 0x8000_0021, 0, 0);
        let disposition = fake.guest().route(HardwareExit::CrAccess);
        assert_eq!(disposition, GENERAL_PROTECTION, "without PAE");
    }

    #[test]
    fn cr0_is_read_with_the_shadow() {
        let mut fake = Fake::at_cr0_access(&MOV_EAX_CR0, 0, cr0::NE, 0);
        fake.guest().route(HardwareExit::CrAccess);
        assert_eq!(fake.guest().register(Register::Rax), cr0::PE);
    }

    #[test]
    fn cr4_is_never_written_by_the_module() {
        const MOV_CR4_EAX: [u8; 3] = [0x0f, 0x22, 0xe0];
        let rows = [
            // A bit that L1 does not mask, VMXE and MCE as L2 reads them.
            (0x2060, 0, Some(0x2060)),
            (0x0060, 0, None),
            (1 << 19 | 0x2060, 0, None),
        ];
        for (value, mask, written) in rows {
            let mut fake = Fake::at_cr0_access(&MOV_CR4_EAX, value, 0, 0);
            let mut guest = fake.guest();
            guest.l2.set_cell(VmcsField::CR4_GUEST_HOST_MASK, mask);
            guest.merge_mask_and_shadow(Cr4);
            let disposition = guest.route(HardwareExit::CrAccess);
            match written {
                Some(value) => assert_eq!(guest.real(Cr4), value),
                None if value & 1 << 19 != 0 => assert_eq!(disposition, GENERAL_PROTECTION),
                None => assert_eq!(qualification(disposition), Some(4)),
            }
        }
    }

    #[test]
    fn cr3_exits_by_control_and_target() {
        const MOV_CR3_EAX: [u8; 3] = [0x0f, 0x22, 0xd8];
        for (exits, target, expected) in
            [(false, 0, None), (true, 0, Some(3)), (true, 0x7000, None)]
        {
            let mut fake = Fake::at_cr0_access(&MOV_CR3_EAX, 0x7000, 0, 0);
            let mut guest = fake.guest();
            let primary = guest.primary().with_cr3_load(exits).into_bits();
            guest
                .l2
                .set_cell(VmcsField::PRIMARY_CONTROLS, primary.into());
            guest.l2.set_cell(VmcsField::CR3_TARGET_0, target);
            guest
                .l2
                .set_cell(VmcsField::CR3_TARGET_COUNT, u64::from(target != 0));
            let disposition = guest.route(HardwareExit::CrAccess);
            assert_eq!(qualification(disposition), expected);
            if expected.is_none() {
                assert_eq!(guest.register(Register::Cr3), 0x7000);
            }
        }
    }
}
