//! The I/O APIC: 24 pins, at [`BASE`].

use x86_defs::ioapic::{
    ARBITRATION, EOI, IDENTIFICATION, INDEX, PINS, REDIRECTION, REDIRECTION_WRITABLE, Redirection,
    VERSION, WINDOW,
};

/// Guest-physical address of the registers; one page.
pub const BASE: u64 = x86_defs::pc::IO_APIC;

/// Value of the version register: version 20H, 24 entries.
const VERSION_VALUE: u32 = 0x0017_0020;

/// An interrupt message, as the I/O APIC sends it to the local APICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Vector.
    pub vector: u8,
    /// Delivery mode, as in the redirection entry.
    pub delivery_mode: u8,
    /// Destination APIC id or logical set.
    pub destination: u8,
    /// `destination` is logical.
    pub logical: bool,
    /// Level-triggered: wants an end-of-interrupt message back.
    pub level_triggered: bool,
}

/// Where interrupt messages go: the local APIC.
pub trait MessageSink {
    /// Delivers `message` if it is meant for this APIC. Whether its end will be heard of: an
    /// APIC accepted it, as an interrupt with a vector.
    fn deliver(&mut self, message: Message) -> bool;
}

/// The I/O APIC's state.
#[derive(Clone, Debug)]
pub struct IoApic {
    index: u8,
    id: u8,
    entries: [Redirection; PINS],
    lines: [bool; PINS],
    level_vectors_changed: bool,
}

impl Default for IoApic {
    fn default() -> Self {
        Self::new()
    }
}

impl IoApic {
    /// Every pin masked.
    pub fn new() -> Self {
        Self {
            index: 0,
            id: 0,
            entries: [Redirection::new().with_masked(true); PINS],
            lines: [false; PINS],
            level_vectors_changed: true,
        }
    }

    /// Reads the register at `offset` from [`BASE`].
    pub fn read(&self, offset: u64) -> u32 {
        match offset {
            INDEX => u32::from(self.index),
            WINDOW => match self.index {
                IDENTIFICATION | ARBITRATION => u32::from(self.id) << 24,
                VERSION => VERSION_VALUE,
                index => match self.entries.get(pin_of(index)) {
                    Some(entry) if index >= REDIRECTION => half(u64::from(*entry), index),
                    _ => u32::MAX,
                },
            },
            _ => 0,
        }
    }

    /// Writes the register at `offset` from [`BASE`].
    pub fn write(&mut self, offset: u64, value: u32, sink: &mut impl MessageSink) {
        match offset {
            INDEX => self.index = value as u8,
            WINDOW => match self.index {
                IDENTIFICATION => self.id = (value >> 24) as u8 & 0xF,
                index if index >= REDIRECTION => self.write_redirection(index, value, sink),
                _ => {}
            },
            EOI => self.end_of_interrupt(value as u8, sink),
            _ => {}
        }
    }

    /// Sets the level of an input. An edge on a masked pin is lost (82093AA, section 3.2.4).
    pub fn set_line(&mut self, pin: usize, level: bool, sink: &mut impl MessageSink) {
        let Some(line) = self.lines.get_mut(pin) else {
            return;
        };
        let rose = level && !*line;
        *line = level;
        let Some(entry) = self.entries.get(pin) else {
            return;
        };
        if entry.level_triggered() || rose {
            self.service(pin, sink);
        }
    }

    /// An EOI message for `vector`: from the local APIC, or written to the EOI register.
    pub fn end_of_interrupt(&mut self, vector: u8, sink: &mut impl MessageSink) {
        for pin in 0..PINS {
            let Some(entry) = self.entries.get_mut(pin) else {
                continue;
            };
            if entry.level_triggered() && entry.remote_irr() && entry.vector() == vector {
                entry.set_remote_irr(false);
                self.service(pin, sink);
            }
        }
    }

    /// The vectors whose end the I/O APIC must hear of, if they changed since the last call:
    /// what the EOI-exit bitmap is made of.
    pub fn take_changed_level_vectors(&mut self) -> Option<[u64; 4]> {
        if !core::mem::take(&mut self.level_vectors_changed) {
            return None;
        }
        let mut vectors = [0u64; 4];
        for entry in self.entries.iter().filter(|entry| entry.level_triggered()) {
            if let Some(word) = vectors.get_mut(usize::from(entry.vector() >> 6)) {
                *word |= 1 << (entry.vector() & 63);
            }
        }
        Some(vectors)
    }

    fn write_redirection(&mut self, index: u8, value: u32, sink: &mut impl MessageSink) {
        let pin = pin_of(index);
        let Some(entry) = self.entries.get_mut(pin) else {
            return;
        };
        let (shift, keep) = if index & 1 == 0 {
            (0, !0xFFFF_FFFF)
        } else {
            (32, 0xFFFF_FFFF)
        };
        let old = *entry;
        let wanted = u64::from(old) & keep | u64::from(value) << shift;
        let mut new = Redirection::from(
            wanted & REDIRECTION_WRITABLE | u64::from(old) & !REDIRECTION_WRITABLE,
        );
        if !new.level_triggered() {
            new.set_remote_irr(false);
        }
        *entry = new;
        self.level_vectors_changed |=
            old.level_triggered() != new.level_triggered() || old.vector() != new.vector();
        if new.level_triggered() {
            self.service(pin, sink);
        }
    }

    /// Sends the pin's message if its entry lets it: for a level pin only while the line is
    /// asserted and no earlier one is in service.
    fn service(&mut self, pin: usize, sink: &mut impl MessageSink) {
        let (Some(entry), Some(line)) = (self.entries.get_mut(pin), self.lines.get(pin)) else {
            return;
        };
        if entry.masked() || !*line || entry.level_triggered() && entry.remote_irr() {
            return;
        }
        let accepted = sink.deliver(Message {
            vector: entry.vector(),
            delivery_mode: entry.delivery_mode(),
            destination: entry.destination(),
            logical: entry.logical(),
            level_triggered: entry.level_triggered(),
        });
        // Nobody would end what nobody took, and the pin would be dead for good.
        entry.set_remote_irr(accepted && entry.level_triggered());
    }
}

fn pin_of(index: u8) -> usize {
    usize::from(index.wrapping_sub(REDIRECTION) >> 1)
}

fn half(value: u64, index: u8) -> u32 {
    if index & 1 == 0 {
        value as u32
    } else {
        (value >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[derive(Default)]
    struct Sent(Vec<Message>);

    impl MessageSink for Sent {
        fn deliver(&mut self, message: Message) -> bool {
            self.0.push(message);
            true
        }
    }

    /// No APIC takes anything.
    struct Nobody;

    impl MessageSink for Nobody {
        fn deliver(&mut self, _: Message) -> bool {
            false
        }
    }

    fn program(apic: &mut IoApic, pin: u8, value: u64, sent: &mut Sent) {
        for (index, half) in [(1, value >> 32), (0, value & 0xFFFF_FFFF)] {
            apic.write(INDEX, u32::from(REDIRECTION + 2 * pin + index), sent);
            apic.write(WINDOW, half as u32, sent);
        }
    }

    fn redirection(apic: &mut IoApic, pin: u8) -> Redirection {
        apic.write(
            INDEX,
            u32::from(REDIRECTION + 2 * pin),
            &mut Sent::default(),
        );
        Redirection::from(u64::from(apic.read(WINDOW)))
    }

    const LEVEL: u64 = 1 << 15;

    #[test]
    fn identifies_itself_as_24_pins_of_version_20h() {
        let mut apic = IoApic::new();
        apic.write(INDEX, u32::from(VERSION), &mut Sent::default());
        assert_eq!(apic.read(WINDOW), 0x0017_0020);
        apic.write(INDEX, 0, &mut Sent::default());
        apic.write(WINDOW, 0x0200_0000, &mut Sent::default());
        assert_eq!(apic.read(WINDOW), 0x0200_0000);
        apic.write(INDEX, 0xFF, &mut Sent::default());
        assert_eq!(apic.read(WINDOW), u32::MAX);
    }

    #[test]
    fn an_edge_is_sent_once_per_rise() {
        let (mut apic, mut sent) = (IoApic::new(), Sent::default());
        program(&mut apic, 4, 0x24, &mut sent);
        for level in [true, true, false, true] {
            apic.set_line(4, level, &mut sent);
        }
        assert_eq!(
            sent.0.iter().map(|m| m.vector).collect::<Vec<_>>(),
            [0x24, 0x24]
        );
        assert!(!redirection(&mut apic, 4).remote_irr());
    }

    #[test]
    fn an_edge_on_a_masked_pin_is_lost() {
        let (mut apic, mut sent) = (IoApic::new(), Sent::default());
        apic.set_line(4, true, &mut sent);
        program(&mut apic, 4, 0x24, &mut sent);
        assert!(sent.0.is_empty());
    }

    #[test]
    fn a_level_is_sent_again_only_after_its_end() {
        let (mut apic, mut sent) = (IoApic::new(), Sent::default());
        program(&mut apic, 9, 0x31 | LEVEL, &mut sent);
        apic.set_line(9, true, &mut sent);
        apic.set_line(9, true, &mut sent);
        assert_eq!(sent.0.len(), 1);
        assert!(redirection(&mut apic, 9).remote_irr());
        apic.end_of_interrupt(0x30, &mut sent);
        assert_eq!(sent.0.len(), 1, "another vector's end");
        apic.end_of_interrupt(0x31, &mut sent);
        assert_eq!(sent.0.len(), 2, "still asserted");
        apic.set_line(9, false, &mut sent);
        apic.write(EOI, 0x31, &mut sent);
        assert_eq!(sent.0.len(), 2);
        assert!(!redirection(&mut apic, 9).remote_irr());
    }

    #[test]
    fn a_level_that_nobody_accepts_is_sent_again() {
        let (mut apic, mut sent) = (IoApic::new(), Sent::default());
        program(&mut apic, 9, 0x31 | LEVEL, &mut sent);
        apic.set_line(9, true, &mut Nobody);
        assert!(!redirection(&mut apic, 9).remote_irr());
        apic.set_line(9, true, &mut sent);
        assert_eq!(sent.0.len(), 1);
        assert!(redirection(&mut apic, 9).remote_irr());
    }

    #[test]
    fn unmasking_sends_an_asserted_level() {
        let (mut apic, mut sent) = (IoApic::new(), Sent::default());
        program(&mut apic, 9, 0x31 | LEVEL | 1 << 16, &mut sent);
        apic.set_line(9, true, &mut sent);
        assert!(sent.0.is_empty());
        program(&mut apic, 9, 0x31 | LEVEL, &mut sent);
        assert_eq!(sent.0.len(), 1);
    }

    #[test]
    fn remote_irr_is_not_writable_and_falls_with_edge_mode() {
        let (mut apic, mut sent) = (IoApic::new(), Sent::default());
        program(&mut apic, 9, 0x31 | LEVEL | 1 << 14 | 1 << 12, &mut sent);
        assert!(!redirection(&mut apic, 9).remote_irr());
        apic.set_line(9, true, &mut sent);
        program(&mut apic, 9, 0x31, &mut sent);
        assert!(!redirection(&mut apic, 9).remote_irr());
    }

    #[test]
    fn level_vectors_are_those_of_level_entries() {
        let (mut apic, mut sent) = (IoApic::new(), Sent::default());
        assert_eq!(apic.take_changed_level_vectors(), Some([0; 4]));
        program(&mut apic, 4, 0x24, &mut sent);
        program(&mut apic, 9, 0x71 | LEVEL, &mut sent);
        assert_eq!(
            apic.take_changed_level_vectors(),
            Some([0, 1 << 0x31, 0, 0])
        );
        assert_eq!(apic.take_changed_level_vectors(), None);
    }
}
