//! L2's virtual APIC (SDM volume 3, "APIC Virtualization and Virtual Interrupts"): a page of L1's
//! memory, RVI and SVI, and what the processor does to them.

use crate::platform::Platform;

/// Offsets of registers in the virtual-APIC page.
pub(super) mod offset {
    pub(in crate::l2) const TPR: u16 = 0x080;
    pub(in crate::l2) const PPR: u16 = 0x0a0;
    pub(in crate::l2) const ISR: u16 = 0x100;
    pub(in crate::l2) const IRR: u16 = 0x200;
    pub(in crate::l2) const SELF_IPI: u16 = 0x3f0;
}

/// A virtual-APIC page.
pub(super) trait ApicPage {
    fn load(&mut self, offset: u16) -> u32;
    fn store(&mut self, offset: u16, value: u32);
}

/// A virtual-APIC page in machine memory.
pub(super) struct MachinePage<'a, P> {
    pub(super) platform: &'a mut P,
    pub(super) hpa: u64,
}

impl<P: Platform> ApicPage for MachinePage<'_, P> {
    fn load(&mut self, offset: u16) -> u32 {
        let mut bytes = [0; 4];
        self.platform.read(self.hpa + u64::from(offset), &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn store(&mut self, offset: u16, value: u32) {
        self.platform
            .write(self.hpa + u64::from(offset), &value.to_le_bytes());
    }
}

/// The class of a priority or vector, bits 7:4.
const fn class(priority: u8) -> u8 {
    priority & 0xf0
}

/// The virtual APIC of a VM: its page and its guest interrupt status.
pub(super) struct VirtualApic<P: ApicPage> {
    pub(super) page: P,
    /// Requesting virtual interrupt.
    pub(super) rvi: u8,
    /// Servicing virtual interrupt.
    pub(super) svi: u8,
}

impl<P: ApicPage> VirtualApic<P> {
    pub(super) fn new(page: P, interrupt_status: u16) -> Self {
        VirtualApic {
            page,
            rvi: interrupt_status as u8,
            svi: (interrupt_status >> 8) as u8,
        }
    }

    pub(super) fn interrupt_status(&self) -> u16 {
        u16::from(self.svi) << 8 | u16::from(self.rvi)
    }

    pub(super) fn tpr(&mut self) -> u8 {
        self.page.load(offset::TPR) as u8
    }

    fn ppr(&mut self) -> u8 {
        self.page.load(offset::PPR) as u8
    }

    /// PPR virtualization.
    pub(super) fn virtualize_ppr(&mut self) {
        let tpr = self.tpr();
        let ppr = if class(tpr) >= class(self.svi) {
            tpr
        } else {
            class(self.svi)
        };
        self.page.store(offset::PPR, ppr.into());
    }

    /// Evaluation of pending virtual interrupts: whether one is recognized. The caller has seen
    /// that interrupt-window exiting is off.
    pub(super) fn is_recognized(&mut self) -> bool {
        let requested = class(self.rvi);
        // Nothing is above class 0, and nothing has to be read to know it.
        requested != 0 && requested > class(self.ppr())
    }

    /// Virtual-interrupt delivery: gives the vector to take through the IDT.
    pub(super) fn deliver(&mut self) -> u8 {
        let vector = self.rvi;
        self.set(offset::ISR, vector, true);
        self.svi = vector;
        self.page.store(offset::PPR, class(vector).into());
        self.set(offset::IRR, vector, false);
        self.rvi = self.highest(offset::IRR).unwrap_or(0);
        vector
    }

    /// The guest has written TPR; PPR follows. (A TPR threshold is the caller's.)
    pub(super) fn set_tpr(&mut self, value: u8) {
        self.page.store(offset::TPR, value.into());
    }

    /// EOI virtualization: gives the vector that was in service.
    pub(super) fn end_of_interrupt(&mut self) -> u8 {
        let vector = self.svi;
        self.set(offset::ISR, vector, false);
        self.svi = self.highest(offset::ISR).unwrap_or(0);
        self.virtualize_ppr();
        vector
    }

    /// Self-IPI virtualization.
    pub(super) fn self_ipi(&mut self, vector: u8) {
        self.set(offset::IRR, vector, true);
        self.rvi = self.rvi.max(vector);
    }

    fn set(&mut self, first: u16, vector: u8, value: bool) {
        let offset = first + u16::from(vector / 32) * 0x10;
        let bit = 1 << (vector % 32);
        let word = self.page.load(offset);
        let word = if value { word | bit } else { word & !bit };
        self.page.store(offset, word);
    }

    fn highest(&mut self, first: u16) -> Option<u8> {
        (0..8u8).rev().find_map(|index| {
            let word = self.page.load(first + u16::from(index) * 0x10);
            (word != 0).then(|| index * 32 + (31 - word.leading_zeros()) as u8)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Page([u32; 0x100]);

    impl ApicPage for Page {
        fn load(&mut self, offset: u16) -> u32 {
            self.0[usize::from(offset / 4)]
        }

        fn store(&mut self, offset: u16, value: u32) {
            self.0[usize::from(offset / 4)] = value;
        }
    }

    fn apic() -> VirtualApic<Page> {
        VirtualApic::new(Page([0; 0x100]), 0)
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Request(u8),
        Tpr(u8),
        Deliver,
        Eoi,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (16..=255u8).prop_map(Step::Request),
            (0..=255u8).prop_map(Step::Tpr),
            Just(Step::Deliver),
            Just(Step::Eoi),
        ]
    }

    proptest! {
        /// Against a plain model: sets of requested and serviced vectors. An interrupt is taken
        /// only above the class of TPR and of everything in service, always the highest one; an
        /// EOI ends the highest one in service.
        #[test]
        fn interrupts_nest_by_class(steps in prop::collection::vec(step(), 0..200)) {
            let mut apic = apic();
            let mut requested = alloc::collections::BTreeSet::new();
            let mut in_service = alloc::vec::Vec::new();
            let mut tpr = 0;
            for step in steps {
                match step {
                    Step::Request(vector) => {
                        apic.self_ipi(vector);
                        requested.insert(vector);
                    }
                    Step::Tpr(value) => {
                        apic.set_tpr(value);
                        apic.virtualize_ppr();
                        tpr = value;
                    }
                    Step::Deliver => {
                        let highest = requested.last().copied().unwrap_or(0);
                        let floor = class(tpr).max(class(in_service.last().copied().unwrap_or(0)));
                        prop_assert_eq!(apic.is_recognized(), class(highest) > floor);
                        if apic.is_recognized() {
                            prop_assert_eq!(apic.deliver(), highest);
                            requested.remove(&highest);
                            in_service.push(highest);
                        }
                    }
                    Step::Eoi => {
                        if let Some(vector) = in_service.pop() {
                            prop_assert_eq!(apic.end_of_interrupt(), vector);
                        }
                    }
                }
                prop_assert_eq!(apic.rvi, requested.last().copied().unwrap_or(0));
                prop_assert_eq!(apic.svi, in_service.last().copied().unwrap_or(0));
            }
        }
    }

    #[test]
    fn ppr_is_the_tpr_unless_something_of_a_higher_class_is_in_service() {
        let rows = [
            (0x00, 0x00, 0x00),
            (0x23, 0x00, 0x23),
            (0x23, 0x31, 0x30),
            (0x35, 0x31, 0x35),
            (0x20, 0xff, 0xf0),
        ];
        for (tpr, svi, ppr) in rows {
            let mut apic = apic();
            apic.svi = svi;
            apic.set_tpr(tpr);
            apic.virtualize_ppr();
            assert_eq!(apic.ppr(), ppr);
        }
    }

    #[test]
    fn a_vector_is_a_bit_of_a_register_every_16_bytes() {
        let mut apic = apic();
        apic.self_ipi(0xe1);
        assert_eq!(apic.page.load(offset::IRR + 0x70), 1 << 1);
        assert_eq!(apic.deliver(), 0xe1);
        assert_eq!(apic.page.load(offset::IRR + 0x70), 0);
        assert_eq!(apic.page.load(offset::ISR + 0x70), 1 << 1);
        assert_eq!(apic.interrupt_status(), 0xe100);
    }
}
