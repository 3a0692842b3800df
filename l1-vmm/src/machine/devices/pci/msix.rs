//! MSI-X of a function of L2's (PCI Local Bus 3.0, section 6.8.2): the table, the pending bits, and messages to L2's
//! local APICs.

use super::super::ioapic::{Message, MessageSink};
use alloc::vec;
use alloc::vec::Vec;
use x86_defs::{apic, pci};

/// Where the pending bits begin in the BAR of the table.
pub const PENDING: u32 = 0x800;
/// Bytes of that BAR.
pub const BAR_SIZE: u32 = 0x1000;
/// The most entries that the table can have there.
pub const ENTRIES_MAX: u16 = (PENDING / pci::MSIX_ENTRY) as u16;

/// An entry of the table.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Address in two parts, data, and vector control.
    words: [u32; 4],
    /// A message waits until the entry is unmasked.
    pending: bool,
}

impl Entry {
    const CONTROL: usize = (pci::MSIX_ENTRY_CONTROL / 4) as usize;

    fn masked(&self) -> bool {
        let [_, _, _, control] = self.words;
        control & pci::MSIX_MASKED != 0
    }

    /// The message, if its address is one of local APICs'. The trigger mode does not count: a message is an edge.
    fn message(&self) -> Option<Message> {
        let [low, high, data, _] = self.words;
        let for_apics = high == 0 && low >> 20 == apic::MESSAGE_ADDRESS;
        for_apics.then_some(Message {
            vector: data as u8,
            delivery_mode: (data >> apic::MESSAGE_DELIVERY_MODE) as u8 & 7,
            destination: (low >> apic::MESSAGE_DESTINATION) as u8,
            logical: low & apic::MESSAGE_LOGICAL != 0,
            level_triggered: false,
        })
    }
}

/// The table of a function.
#[derive(Clone, Debug)]
pub struct Msix {
    entries: Vec<Entry>,
}

impl Msix {
    /// `count` entries, all masked.
    pub fn new(count: u16) -> Self {
        let mut masked = Entry::default();
        if let Some(control) = masked.words.get_mut(Entry::CONTROL) {
            *control = pci::MSIX_MASKED;
        }
        Self {
            entries: vec![masked; count.min(ENTRIES_MAX).into()],
        }
    }

    /// Number of entries.
    pub fn count(&self) -> u16 {
        self.entries.len() as u16
    }

    /// Reads 1, 2, 4 or 8 bytes of the BAR.
    pub fn read(&self, offset: u32, into: &mut [u8]) {
        for (skipped, byte) in (0..).zip(into) {
            let at = offset.wrapping_add(skipped);
            let [a, b, c, d] = self.word(at & !3).to_le_bytes();
            *byte = match at & 3 {
                0 => a,
                1 => b,
                2 => c,
                _ => d,
            };
        }
    }

    fn word(&self, offset: u32) -> u32 {
        if let Some(word) = offset.checked_sub(PENDING) {
            let first = (word as usize / 4).saturating_mul(32);
            let entries = self.entries.iter().skip(first).take(32);
            return (0..)
                .zip(entries)
                .filter(|(_, entry)| entry.pending)
                .fold(0, |bits, (index, _)| bits | 1 << index);
        }
        let entry = self.entries.get((offset / pci::MSIX_ENTRY) as usize);
        let word = entry.and_then(|entry| entry.words.get((offset % pci::MSIX_ENTRY / 4) as usize));
        word.copied().unwrap_or(0)
    }

    /// Writes to the BAR: whole doublewords, as a driver has to; anything else does nothing, nor do the pending bits.
    pub fn write(&mut self, offset: u32, from: &[u8]) {
        if !offset.is_multiple_of(4) {
            return;
        }
        let (words, _) = from.as_chunks::<4>();
        for (skipped, word) in (0..).step_by(4).zip(words) {
            let at = offset.wrapping_add(skipped);
            let entry = self.entries.get_mut((at / pci::MSIX_ENTRY) as usize);
            let place = (at % pci::MSIX_ENTRY / 4) as usize;
            let value = u32::from_le_bytes(*word);
            if let Some(place) = entry.and_then(|entry| entry.words.get_mut(place)) {
                *place = match at % pci::MSIX_ENTRY {
                    pci::MSIX_ENTRY_CONTROL => value & pci::MSIX_MASKED,
                    _ => value,
                };
            }
        }
    }

    /// Asks for the message of an entry; of one that there is not, nothing comes.
    pub fn raise(&mut self, entry: u16) {
        if let Some(entry) = self.entries.get_mut(usize::from(entry)) {
            entry.pending = true;
        }
    }

    /// Sends what waits and is not masked, with MSI-X under the message control `control`. While it is off, nothing is
    /// sent, and nothing waits.
    pub fn send(&mut self, control: u16, sink: &mut impl MessageSink) {
        let on = control & pci::MSIX_ENABLE != 0;
        if on && control & pci::MSIX_FUNCTION_MASK != 0 {
            return;
        }
        for entry in self.entries.iter_mut().filter(|entry| entry.pending) {
            if on && entry.masked() {
                continue;
            }
            entry.pending = false;
            if let Some(message) = entry.message().filter(|_| on) {
                sink.deliver(message);
            }
        }
    }

    /// Forgets the messages that wait.
    pub fn forget(&mut self) {
        for entry in &mut self.entries {
            entry.pending = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Sent(Vec<Message>);

    impl MessageSink for Sent {
        fn deliver(&mut self, message: Message) -> bool {
            self.0.push(message);
            true
        }
    }

    const ON: u16 = 0x8000;
    const FUNCTION_MASK: u16 = 0x4000;

    fn msix() -> (Msix, Sent) {
        let mut msix = Msix::new(3);
        msix.write(0x10, &[0x00, 0x20, 0xE0, 0xFE, 0, 0, 0, 0]);
        msix.write(0x18, &[0x41, 0, 0, 0]);
        msix.write(0x1C, &[0; 4]);
        (msix, Sent::default())
    }

    fn read(msix: &Msix, offset: u32) -> u32 {
        let mut bytes = [0; 4];
        msix.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    #[test]
    fn a_message_goes_where_its_entry_says() {
        let (mut msix, mut sent) = msix();
        msix.raise(1);
        msix.send(ON, &mut sent);
        msix.send(ON, &mut sent);
        let message = Message {
            vector: 0x41,
            delivery_mode: 0,
            destination: 2,
            logical: false,
            level_triggered: false,
        };
        assert_eq!(sent.0, [message]);
        msix.write(0x10, &0xFEEF_F00C_u32.to_le_bytes());
        msix.write(0x18, &0xC152_u32.to_le_bytes());
        msix.raise(1);
        msix.send(ON, &mut sent);
        let lowest = Message {
            vector: 0x52,
            delivery_mode: 1,
            destination: 0xFF,
            logical: true,
            level_triggered: false,
        };
        assert_eq!(sent.0[1..], [lowest]);
    }

    #[test]
    fn what_is_masked_waits_and_is_seen_to() {
        let (mut msix, mut sent) = msix();
        msix.write(0x1C, &[0xFF; 4]);
        assert_eq!(read(&msix, 0x1C), 1);
        msix.raise(1);
        msix.send(ON, &mut sent);
        assert_eq!((read(&msix, PENDING), sent.0.len()), (0b10, 0));
        msix.write(PENDING, &[0xFF; 8]);
        assert_eq!(read(&msix, PENDING), 0b10, "read-only");
        msix.write(0x1C, &[0; 4]);
        msix.send(ON | FUNCTION_MASK, &mut sent);
        assert_eq!(sent.0.len(), 0);
        msix.send(ON, &mut sent);
        assert_eq!((read(&msix, PENDING), sent.0.len()), (0, 1));
    }

    #[test]
    fn while_it_is_off_nothing_is_sent_and_nothing_waits() {
        let (mut msix, mut sent) = msix();
        msix.raise(1);
        msix.send(0, &mut sent);
        msix.send(ON, &mut sent);
        assert!(sent.0.is_empty());
    }

    #[test]
    fn entries_that_are_not_there_and_addresses_of_no_apic_send_nothing() {
        let (mut msix, mut sent) = msix();
        for entry in [3, 0x7FF, 0xFFFF] {
            msix.raise(entry);
        }
        for (low, high) in [(0xFED4_0000_u32, 0_u32), (0xFEE0_0000, 1), (0x1000, 0)] {
            msix.write(0x10, &low.to_le_bytes());
            msix.write(0x14, &high.to_le_bytes());
            msix.raise(1);
            msix.send(ON, &mut sent);
        }
        assert!(sent.0.is_empty());
        assert_eq!(read(&msix, PENDING), 0);
    }

    #[test]
    fn accesses_of_any_place_and_width_are_answered() {
        let (mut msix, _) = msix();
        for offset in [0x2F, 0x30, 0x7FF, 0xFFD, 0xFFFF_FFFC] {
            for width in [1, 2, 4, 8] {
                msix.read(offset, &mut [0; 8][..width]);
                msix.write(offset, &[0xFF; 8][..width]);
            }
        }
        msix.write(0x12, &[0; 4]);
        msix.write(0x10, &[0]);
        assert_eq!(read(&msix, 0x10), 0xFEE0_2000, "whole doublewords only");
        let mut byte = [0];
        msix.read(0x13, &mut byte);
        assert_eq!(byte, [0xFE]);
    }
}
