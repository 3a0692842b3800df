//! MSI-X of a function (PCI Local Bus 3.0, section 6.8.2).

use alloc::vec::Vec;

use virtio_defs::pci::NO_VECTOR;
use x86_defs::pci;

/// What is sent as an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Address.
    pub address: u64,
    /// Data.
    pub data: u32,
}

impl Message {
    /// The processor's APIC ID and the vector, if it is a fixed or a lowest-priority interrupt for a processor by its APIC ID
    /// (SDM volume 3, "Message Signalled Interrupts").
    pub fn interrupt(&self) -> Option<(u8, u8)> {
        const ADDRESS: u64 = 0xFEE0_0000;
        const DESTINATION: u32 = 12;
        /// Of no meaning to one processor.
        const REDIRECTION_HINT: u64 = 0b1000;
        const DELIVERY_MODE: u32 = 0b110 << 8;
        let destination = (self.address >> DESTINATION) as u8;
        let rest = self.address & !(0xFF << DESTINATION | REDIRECTION_HINT);
        let vector = self.data as u8;
        let fixed = self.data & DELIVERY_MODE == 0;
        (rest == ADDRESS && fixed && vector >= 16).then_some((destination, vector))
    }
}

/// Bytes from one vector's pending bit array to the next doubleword.
const PENDING_WORD: u32 = 32;

/// The table and the pending bits.
#[derive(Debug)]
pub(crate) struct Msix {
    /// Doublewords of the entries.
    table: Vec<[u32; 4]>,
    pending: Vec<bool>,
}

impl Msix {
    pub(crate) fn new(vectors: u16) -> Self {
        let count = usize::from(vectors);
        Self {
            table: alloc::vec![[0, 0, 0, pci::MSIX_MASKED]; count],
            pending: alloc::vec![false; count],
        }
    }

    /// Number of vectors.
    pub(crate) fn vectors(&self) -> u16 {
        self.table.len() as u16
    }

    /// A doubleword of the table.
    pub(crate) fn read_table(&self, offset: u32) -> Option<u32> {
        let entry = self.table.get((offset / pci::MSIX_ENTRY) as usize)?;
        entry.get((offset % pci::MSIX_ENTRY / 4) as usize).copied()
    }

    /// Writes a doubleword of the table.
    pub(crate) fn write_table(&mut self, offset: u32, value: u32) -> Option<()> {
        let entry = self.table.get_mut((offset / pci::MSIX_ENTRY) as usize)?;
        *entry.get_mut((offset % pci::MSIX_ENTRY / 4) as usize)? = value;
        Some(())
    }

    /// A doubleword of the pending bits.
    pub(crate) fn read_pending(&self, offset: u32) -> u32 {
        let first = offset / 4 * PENDING_WORD;
        let bits = self.pending.iter().skip(first as usize);
        let word = bits.take(PENDING_WORD as usize).enumerate();
        word.fold(0, |word, (bit, &set)| word | u32::from(set) << bit)
    }

    /// An event of a vector: the message to send, unless it has to wait. `control` is the capability's message control.
    pub(crate) fn raise(&mut self, vector: u16, control: u16) -> Option<Message> {
        if vector == NO_VECTOR || control & pci::MSIX_ENABLE == 0 {
            return None;
        }
        *self.pending.get_mut(usize::from(vector))? = true;
        self.message(usize::from(vector), control)
    }

    /// The messages that waited and need not any longer.
    pub(crate) fn unmasked(&mut self, control: u16) -> Vec<Message> {
        (0..self.table.len())
            .filter_map(|vector| self.message(vector, control))
            .collect()
    }

    fn message(&mut self, vector: usize, control: u16) -> Option<Message> {
        let open = control & (pci::MSIX_ENABLE | pci::MSIX_FUNCTION_MASK) == pci::MSIX_ENABLE;
        let &[low, high, data, vector_control] = self.table.get(vector)?;
        let pending = self.pending.get_mut(vector)?;
        if !open || vector_control & pci::MSIX_MASKED != 0 || !core::mem::take(pending) {
            return None;
        }
        Some(Message {
            address: u64::from(low) | u64::from(high) << 32,
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: u16 = pci::MSIX_ENABLE;

    #[test]
    fn a_masked_vector_waits() {
        let mut msix = Msix::new(3);
        for (offset, value) in [(0x10, 0xFEE0_0000), (0x14, 0), (0x18, 0x51)] {
            msix.write_table(offset, value).unwrap();
        }
        assert_eq!(msix.raise(1, OPEN), None);
        assert_eq!(msix.read_pending(0), 0b10);
        assert_eq!(msix.write_table(0x1C, 0), Some(()));
        assert_eq!(msix.unmasked(OPEN | pci::MSIX_FUNCTION_MASK), []);
        let message = Message {
            address: 0xFEE0_0000,
            data: 0x51,
        };
        assert_eq!(msix.unmasked(OPEN), [message]);
        assert_eq!(msix.unmasked(OPEN), [], "once");
        assert_eq!(msix.read_pending(0), 0);
        assert_eq!(msix.raise(1, OPEN), Some(message));
        assert_eq!(message.interrupt(), Some((0, 0x51)));
        assert_eq!(msix.raise(3, OPEN), None, "no such vector");
        assert_eq!(msix.raise(NO_VECTOR, OPEN), None);
        assert_eq!(msix.raise(1, 0), None, "MSI-X is off");
        assert_eq!(msix.write_table(0x30, 0), None);
    }

    #[test]
    fn only_a_fixed_interrupt_for_a_processor_has_a_vector() {
        let interrupt = |address, data| Message { address, data }.interrupt();
        assert_eq!(interrupt(0xFEE0_0008, 0x4051), Some((0, 0x51)));
        assert_eq!(interrupt(0xFEEF_F000, 0x51), Some((0xFF, 0x51)));
        assert_eq!(interrupt(0xFEE0_1004, 0x51), None, "logical");
        assert_eq!(interrupt(0xFEE0_0000, 0x451), None, "NMI");
        assert_eq!(interrupt(0xFEE0_0000, 0x0F), None);
        assert_eq!(interrupt(0x1000, 0x51), None, "memory");
    }
}
