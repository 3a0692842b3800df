//! The x2APIC registers that L1 lets L2 use: MSR accesses on the virtual-APIC page (SDM volume 3,
//! "Virtualizing MSR-Based APIC Accesses").

use super::exit::Disposition;
use super::exit_information::ExitInformation;
use super::guest::Guest;
use super::msr::Outcome;
use super::vapic::{ApicPage, offset};
use crate::platform::Platform;
use tdx_defs::vmcs::VmcsField;
use x86_defs::exit_reason;

const TPR: u32 = 0x808;
const EOI: u32 = 0x80b;
const SELF_IPI: u32 = 0x83f;

impl<P: Platform> Guest<'_, P> {
    /// APIC-register virtualization of RDMSR: eight bytes of the page, whatever they are.
    pub(super) fn read_x2apic(&mut self, msr: u32) -> Outcome {
        let offset = (msr as u16 & 0xff) << 4;
        let mut apic = self.virtual_apic();
        let low = apic.page.load(offset);
        let high = apic.page.load(offset + 4);
        Outcome::Value(u64::from(high) << 32 | u64::from(low))
    }

    /// WRMSR of an x2APIC register.
    pub(super) fn write_x2apic(&mut self, msr: u32, value: u64) -> Outcome {
        let delivers = self.secondary().virtual_interrupt_delivery();
        match msr {
            TPR if value >> 8 != 0 => Outcome::Fault,
            TPR => self.set_tpr(value as u8),
            EOI if !delivers => Outcome::L1,
            EOI if value != 0 => Outcome::Fault,
            EOI => {
                let vector = self.with_virtual_apic(|apic| apic.end_of_interrupt());
                if self.exits_on_eoi(vector) {
                    Outcome::Trap(
                        ExitInformation::of(exit_reason::VIRTUALIZED_EOI)
                            .with_qualification(vector.into()),
                    )
                } else {
                    Outcome::Written
                }
            }
            SELF_IPI if !delivers => Outcome::L1,
            SELF_IPI if value >> 8 != 0 => Outcome::Fault,
            SELF_IPI => {
                let vector = value as u8;
                self.virtual_apic()
                    .page
                    .store(offset::SELF_IPI, vector.into());
                if vector >> 4 == 0 {
                    return Outcome::Trap(
                        ExitInformation::of(exit_reason::APIC_WRITE)
                            .with_qualification(offset::SELF_IPI.into()),
                    );
                }
                self.with_virtual_apic(|apic| apic.self_ipi(vector));
                Outcome::Written
            }
            // The registers that are left can be read only.
            _ => Outcome::Fault,
        }
    }

    fn exits_on_eoi(&self, vector: u8) -> bool {
        let bitmaps = [
            VmcsField::EOI_EXIT_BITMAP_0,
            VmcsField::EOI_EXIT_BITMAP_1,
            VmcsField::EOI_EXIT_BITMAP_2,
            VmcsField::EOI_EXIT_BITMAP_3,
        ];
        let bitmap = self.l2.cell(bitmaps[usize::from(vector / 64)]);
        bitmap >> (vector % 64) & 1 != 0
    }

    /// TPR virtualization.
    fn set_tpr(&mut self, value: u8) -> Outcome {
        self.with_virtual_apic(|apic| apic.set_tpr(value));
        if self.secondary().virtual_interrupt_delivery() {
            self.with_virtual_apic(|apic| apic.virtualize_ppr());
            return Outcome::Written;
        }
        let threshold = self.l2.cell(VmcsField::TPR_THRESHOLD) & 0xf;
        if u64::from(value >> 4) < threshold {
            Outcome::Trap(ExitInformation::of(exit_reason::TPR_BELOW_THRESHOLD))
        } else {
            Outcome::Written
        }
    }

    /// MOV to CR8.
    pub(super) fn write_tpr(&mut self, reason: u32, length: u32, value: u8) -> Disposition {
        match self.set_tpr(value) {
            Outcome::Trap(exit) => self.trap(exit, length),
            _ => self.emulated(reason, length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;
    use crate::platform::{HardwareExit, Register};

    #[test]
    fn a_self_ipi_of_an_illegal_vector_is_an_apic_write_exit() {
        let mut fake = Fake::at_msr(0x83f, 0x0f);
        let Disposition::L1(exit) = fake.guest().route(HardwareExit::WriteMsr) else {
            panic!();
        };
        assert_eq!((exit.reason, exit.qualification), (56, 0x3f0));
        assert_eq!(fake.guest().register(Register::Rip), 0x1002);
        let mut fake = Fake::at_msr(0x83f, 0x51);
        fake.guest().route(HardwareExit::WriteMsr);
        assert_eq!(fake.l2.cell(VmcsField::GUEST_INTERRUPT_STATUS), 0x51, "RVI");
    }

    #[test]
    fn without_interrupt_delivery_a_low_tpr_exits() {
        for (value, exit) in [(0x20, Some(43)), (0x30, None)] {
            let mut fake = Fake::at_msr(0x808, value);
            let secondary = fake
                .guest()
                .secondary()
                .with_virtual_interrupt_delivery(false)
                .into_bits();
            fake.l2
                .set_cell(VmcsField::SECONDARY_CONTROLS, secondary.into());
            fake.l2.set_cell(VmcsField::TPR_THRESHOLD, 3);
            let reason = match fake.guest().route(HardwareExit::WriteMsr) {
                Disposition::L1(exit) => Some(exit.reason),
                _ => None,
            };
            assert_eq!(reason, exit, "{value:#x}");
        }
    }
}
