//! Exceptions of L2. #UD is also how hardware without TDX reports the instructions that TDX and VMX
//! make exit.

use super::exit::Disposition;
use super::exit_information::ExitInformation;
use super::guest::Guest;
use crate::platform::{Event, EventKind, Platform, Register};
use iced_x86::{Instruction, Mnemonic};
use x86_defs::exception::{MACHINE_CHECK, PAGE_FAULT};
use x86_defs::exit_reason;

const DEBUG: u8 = 1;
const BREAKPOINT: u8 = 3;
const OVERFLOW: u8 = 4;
const INVALID_OPCODE: u8 = 6;

/// RAX of TDG.VP.VMCALL, leaf 0 of version 0.
const VP_VMCALL: u64 = 0;
const LEAF: u64 = 0xffff;

impl<P: Platform> Guest<'_, P> {
    pub(super) fn route_exception(
        &mut self,
        vector: u8,
        error_code: Option<u32>,
        cr2: u64,
    ) -> Disposition {
        if vector == MACHINE_CHECK {
            return Disposition::Fatal(exit_reason::EXCEPTION_OR_NMI);
        }
        if vector == INVALID_OPCODE
            && let Some(instruction) = self.fetch()
            && let Some(disposition) = self.route_missing_instruction(&instruction)
        {
            return disposition;
        }
        let mut event = Event::exception(vector, error_code);
        if matches!(vector, BREAKPOINT | OVERFLOW) {
            event.kind = EventKind::SoftwareException;
            event.instruction_length = self
                .fetch()
                .map_or(1, |instruction| instruction.len() as u8);
        }
        if self.exits_on_exception(vector, error_code.unwrap_or(0)) {
            let qualification = match vector {
                DEBUG => {
                    const CAUSES: u64 = 0x600f;
                    self.register(Register::Dr6) & CAUSES
                }
                PAGE_FAULT => cr2,
                _ => 0,
            };
            return Disposition::L1(ExitInformation::exception(&event, qualification));
        }
        if vector == PAGE_FAULT {
            self.set_register(Register::Cr2, cr2);
        }
        Disposition::fault(exit_reason::EXCEPTION_OR_NMI, event)
    }

    /// An instruction that the hardware does not have and a TDX machine exits on.
    fn route_missing_instruction(&mut self, instruction: &Instruction) -> Option<Disposition> {
        let length = instruction.len() as u32;
        let reason = match instruction.mnemonic() {
            Mnemonic::Tdcall => return Some(self.route_tdcall(length)),
            Mnemonic::Vmcall => exit_reason::VMCALL,
            Mnemonic::Vmclear => 19,
            Mnemonic::Vmlaunch => 20,
            Mnemonic::Vmptrld => 21,
            Mnemonic::Vmptrst => 22,
            Mnemonic::Vmread => 23,
            Mnemonic::Vmresume => 24,
            Mnemonic::Vmwrite => 25,
            Mnemonic::Vmxoff => 26,
            Mnemonic::Vmxon => 27,
            Mnemonic::Invept => 50,
            Mnemonic::Invvpid => 53,
            Mnemonic::Vmfunc => 59,
            Mnemonic::Pconfig => 65,
            Mnemonic::Seamcall => 76,
            _ => return None,
        };
        Some(Disposition::L1(match reason {
            19 | 21..=23 | 25 | 27 | 50 | 53 => self.operand_exit(reason, instruction),
            _ => ExitInformation::instruction(reason, length),
        }))
    }

    /// TDCALL is L1's, whatever the leaf, mode and privilege; but for TDG.VP.VMCALL if L1 said so.
    fn route_tdcall(&mut self, length: u32) -> Disposition {
        let exit = ExitInformation::instruction(exit_reason::TDCALL, length);
        let leaf = self.register(Register::Rax) & LEAF;
        if !self.l2.controls.enable_tdvmcall() || leaf != VP_VMCALL {
            return Disposition::L1(exit);
        }
        if !self.is_64_bit() {
            return Disposition::fault(exit_reason::TDCALL, Event::GENERAL_PROTECTION);
        }
        Disposition::Tdvmcall {
            exit,
            mask: self.register(Register::Rcx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;
    use crate::platform::{HardwareExit, Platform};
    use tdx_defs::field::L2Ctls;
    use tdx_defs::vmcs::VmcsField;

    fn invalid_opcode_at(bytes: &[u8]) -> Fake {
        let mut fake = Fake::new();
        fake.platform.write(0x1000, bytes);
        fake.guest().set_register(Register::Rip, 0x1000);
        fake
    }

    fn route(fake: &mut Fake) -> Disposition {
        fake.guest().route(HardwareExit::Exception {
            vector: INVALID_OPCODE,
            error_code: None,
            cr2: 0,
        })
    }

    #[test]
    fn instructions_that_exit_on_tdx_reach_l1() {
        // Those with an operand report it; [RAX] is in use.
        let rows: [(&[u8], u32, bool); 15] = [
            (&[0x66, 0x0f, 0x01, 0xcc], 77, false),
            (&[0x0f, 0x01, 0xc1], 18, false),
            (&[0x66, 0x0f, 0xc7, 0x30], 19, true),
            (&[0x0f, 0x01, 0xc2], 20, false),
            (&[0x0f, 0xc7, 0x30], 21, true),
            (&[0x0f, 0xc7, 0x38], 22, true),
            (&[0x0f, 0x78, 0xc8], 23, true),
            (&[0x0f, 0x01, 0xc3], 24, false),
            (&[0x0f, 0x79, 0xc8], 25, true),
            (&[0x0f, 0x01, 0xc4], 26, false),
            (&[0xf3, 0x0f, 0xc7, 0x30], 27, true),
            (&[0x66, 0x0f, 0x38, 0x80, 0x08], 50, true),
            (&[0x66, 0x0f, 0x38, 0x81, 0x08], 53, true),
            (&[0x0f, 0x01, 0xd4], 59, false),
            (&[0x0f, 0x01, 0xc5], 65, false),
        ];
        for (bytes, reason, operand) in rows {
            let Disposition::L1(exit) = route(&mut invalid_opcode_at(bytes)) else {
                panic!("{bytes:x?}");
            };
            let length = bytes.len() as u32;
            assert_eq!((exit.reason, exit.instruction_length), (reason, length));
            assert_eq!(exit.instruction_information != 0, operand, "{bytes:x?}");
        }
    }

    /// SDM volume 3, table "Exit Qualification for Debug Exceptions".
    #[test]
    fn a_debug_exception_reports_its_causes() {
        let mut fake = Fake::new();
        fake.l2.set_cell(VmcsField::EXCEPTION_BITMAP, 1 << 1);
        fake.guest().set_register(Register::Dr6, 0xffff_ffff);
        let exit = HardwareExit::Exception {
            vector: DEBUG,
            error_code: None,
            cr2: 0x1234,
        };
        let Disposition::L1(exit) = fake.guest().route(exit) else {
            panic!();
        };
        assert_eq!((exit.reason, exit.qualification), (0, 0x600f));
    }

    #[test]
    fn ud2_stays_in_l2_unless_l1_asked_for_it() {
        let mut fake = invalid_opcode_at(&[0x0f, 0x0b]);
        assert_eq!(
            route(&mut fake),
            Disposition::fault(0, Event::INVALID_OPCODE)
        );
        fake.l2.set_cell(VmcsField::EXCEPTION_BITMAP, 1 << 6);
        let Disposition::L1(exit) = route(&mut fake) else {
            panic!();
        };
        assert_eq!((exit.reason, exit.interruption), (0, 0x8000_0306));
    }

    #[test]
    fn a_tdvmcall_goes_past_l1_only_where_l1_allows_it() {
        let mut fake = invalid_opcode_at(&[0x66, 0x0f, 0x01, 0xcc]);
        assert!(matches!(route(&mut fake), Disposition::L1(_)));
        fake.l2.controls = L2Ctls::new().with_enable_tdvmcall(true);
        assert_eq!(
            route(&mut fake),
            Disposition::fault(77, Event::GENERAL_PROTECTION),
            "not in 64-bit mode"
        );
        fake.guest().set_register(Register::Rax, 4);
        assert!(matches!(route(&mut fake), Disposition::L1(_)));
    }

    #[test]
    fn a_page_fault_exits_by_bitmap_mask_and_match() {
        let exit = HardwareExit::Exception {
            vector: PAGE_FAULT,
            error_code: Some(2),
            cr2: 0x1234,
        };
        let rows = [
            (0, 0, 0, false),
            (1 << 14, 0, 0, true),
            (1 << 14, 2, 2, true),
            (1 << 14, 1, 1, false),
            (0, 1, 1, true),
        ];
        for (bitmap, mask, matching, exits) in rows {
            let mut fake = Fake::new();
            for (field, value) in [
                (VmcsField::EXCEPTION_BITMAP, bitmap),
                (VmcsField::PAGE_FAULT_ERROR_CODE_MASK, mask),
                (VmcsField::PAGE_FAULT_ERROR_CODE_MATCH, matching),
            ] {
                fake.l2.set_cell(field, value);
            }
            match fake.guest().route(exit) {
                Disposition::L1(information) => {
                    assert!(exits);
                    assert_eq!(information.qualification, 0x1234);
                    assert_eq!(information.interruption_error_code, 2);
                }
                other => {
                    assert!(!exits);
                    assert_eq!(
                        other,
                        Disposition::fault(0, Event::exception(PAGE_FAULT, Some(2)))
                    );
                    assert_eq!(fake.guest().register(Register::Cr2), 0x1234);
                }
            }
        }
    }
}
