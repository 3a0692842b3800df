//! L1's virtual APIC: virtual-interrupt delivery and posted interrupts (SDM volume 3, "APIC
//! Virtualization and Virtual Interrupts"), without APIC-write exits, which a TD has none of.

/// 256 bits, one for each vector, as the APIC's 32-bit registers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Vectors([u32; 8]);

impl Vectors {
    fn set(&mut self, vector: u8) {
        self.0[usize::from(vector / 32)] |= 1 << (vector % 32);
    }

    fn clear(&mut self, vector: u8) {
        self.0[usize::from(vector / 32)] &= !(1 << (vector % 32));
    }

    fn highest(&self) -> Option<u8> {
        let (index, word) = (0_u8..8).zip(self.0).rev().find(|&(_, word)| word != 0)?;
        Some(index * 32 + (31 - word.leading_zeros()) as u8)
    }

    fn is_empty(&self) -> bool {
        self.0.iter().fold(0, |all, word| all | word) == 0
    }

    fn merge(&mut self, other: &mut Vectors) {
        for (into, from) in self.0.iter_mut().zip(&mut other.0) {
            *into |= core::mem::take(from);
        }
    }

    pub(crate) fn word(&self, index: usize) -> u32 {
        self.0[index]
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct VirtualApic {
    pub(crate) irr: Vectors,
    pub(crate) isr: Vectors,
    pub(crate) tpr: u8,
    posted: Vectors,
    /// The posted-interrupt notification has been sent and not been seen.
    notification: bool,
}

const fn class(priority: u8) -> u8 {
    priority & 0xf0
}

impl VirtualApic {
    /// The host sets the vector in the posted-interrupt descriptor and notifies.
    pub(crate) fn post(&mut self, vector: u8) {
        self.posted.set(vector);
        self.notification = true;
    }

    /// Whether a notification is outstanding: it ends a run of L2 at once.
    pub(crate) fn notified(&self) -> bool {
        self.notification
    }

    /// Posted-interrupt processing: the descriptor's vectors become requested.
    pub(crate) fn accept_posted(&mut self) {
        if !self.notification {
            return;
        }
        self.notification = false;
        let mut posted = core::mem::take(&mut self.posted);
        self.irr.merge(&mut posted);
    }

    /// A self-IPI, or any other interrupt that is already accepted.
    pub(crate) fn request(&mut self, vector: u8) {
        self.irr.set(vector);
    }

    /// Processor-priority register.
    pub(crate) fn ppr(&self) -> u8 {
        let svi = self.isr.highest().unwrap_or(0);
        if class(self.tpr) >= class(svi) {
            self.tpr
        } else {
            class(svi)
        }
    }

    /// Whether a requested interrupt has a higher class than what is serviced and than the TPR.
    pub(crate) fn is_deliverable(&self) -> bool {
        // Asked several times for each exit, and nearly always so.
        if self.irr.is_empty() {
            return false;
        }
        self.irr
            .highest()
            .is_some_and(|rvi| class(rvi) > class(self.ppr()))
    }

    /// [`is_deliverable`](Self::is_deliverable), once what is posted is accepted.
    pub(crate) fn is_pending(&self) -> bool {
        let mut after = self.clone();
        after.accept_posted();
        after.is_deliverable()
    }

    /// Virtual-interrupt delivery: the highest requested vector goes into service.
    pub(crate) fn take(&mut self) -> Option<u8> {
        let vector = self.irr.highest()?;
        self.irr.clear(vector);
        self.isr.set(vector);
        Some(vector)
    }

    /// EOI virtualization.
    pub(crate) fn end_of_interrupt(&mut self) {
        if let Some(vector) = self.isr.highest() {
            self.isr.clear(vector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_posted_interrupt_is_delivered_once_accepted() {
        let mut apic = VirtualApic::default();
        apic.post(0xe0);
        assert!(apic.notified() && apic.is_pending() && !apic.is_deliverable());
        apic.accept_posted();
        assert!(!apic.notified() && apic.is_deliverable());
        assert_eq!(apic.take(), Some(0xe0));
        assert_eq!(apic.isr.word(7), 1);
        assert!(!apic.is_deliverable());
    }

    #[test]
    fn service_and_tpr_hold_back_the_same_class() {
        let mut apic = VirtualApic::default();
        apic.request(0x51);
        apic.take();
        apic.request(0x5f);
        assert!(!apic.is_deliverable());
        apic.end_of_interrupt();
        assert!(apic.is_deliverable());
        apic.tpr = 0x50;
        assert!(!apic.is_deliverable());
        assert_eq!(apic.ppr(), 0x50);
    }

    proptest! {
        #[test]
        fn interrupts_come_in_order_of_vector(vectors: [u8; 6]) {
            let mut apic = VirtualApic::default();
            for vector in vectors {
                apic.request(vector);
            }
            let mut last = None;
            while let Some(vector) = apic.take() {
                prop_assert!(vectors.contains(&vector));
                prop_assert!(last.is_none_or(|last| last > vector));
                last = Some(vector);
            }
        }
    }
}
