//! MOV to and from debug registers, which exits only if L1 asks for it.

use super::cr_access::general;
use super::exit::Disposition;
use super::exit_information::ExitInformation;
use super::guest::Guest;
use crate::platform::{Event, Platform};
use x86_defs::exit_reason;

impl<P: Platform> Guest<'_, P> {
    pub(super) fn route_dr_access(&mut self) -> Disposition {
        const FROM_DR: u64 = 1 << 4;
        let Some(instruction) = self.fetch() else {
            return Disposition::fault(exit_reason::DR_ACCESS, Event::INVALID_OPCODE);
        };
        let (debug, other, direction) = if instruction.op0_register().is_dr() {
            (instruction.op0_register(), instruction.op1_register(), 0)
        } else {
            (
                instruction.op1_register(),
                instruction.op0_register(),
                FROM_DR,
            )
        };
        let qualification = debug.number() as u64 & 7 | direction | (general(other) as u64) << 8;
        Disposition::L1(
            ExitInformation::instruction(exit_reason::DR_ACCESS, instruction.len() as u32)
                .with_qualification(qualification),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;
    use crate::platform::HardwareExit;

    fn qualification(disposition: Disposition) -> Option<u64> {
        match disposition {
            Disposition::L1(exit) => Some(exit.qualification),
            _ => None,
        }
    }

    #[test]
    fn mov_dr_reports_register_and_direction() {
        let mut fake = Fake::at_cr0_access(&[0x0f, 0x21, 0xf9], 0, 0, 0);
        let exit = fake.guest().route(HardwareExit::DrAccess);
        assert_eq!(qualification(exit), Some(7 | 1 << 4 | 1 << 8));
        let mut fake = Fake::at_cr0_access(&[0x0f, 0x23, 0xc2], 0, 0, 0);
        let exit = fake.guest().route(HardwareExit::DrAccess);
        assert_eq!(qualification(exit), Some(2 << 8));
    }
}
