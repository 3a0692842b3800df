//! How interrupts reach the APIC and leave it: requests, commands, EOI.

use super::{Effect, LocalApic, VapicPage};
use x86_defs::apic::{
    DELIVERY_FIXED, DELIVERY_LOWEST_PRIORITY, ErrorStatus, InterruptCommand, Register,
};

impl<P: VapicPage> LocalApic<P> {
    /// Sets a vector's request, unless the APIC is disabled. Whether it did.
    pub fn request(&mut self, vector: u8, level_triggered: bool) -> bool {
        if vector < 16 {
            self.error(ErrorStatus::new().with_receive_illegal_vector(true));
            return false;
        }
        if !self.accepts() {
            return false;
        }
        self.set_bit(Register::TMR, vector, level_triggered);
        self.set_bit(Register::IRR, vector, true);
        self.changed = true;
        true
    }

    /// SELF_IPI, written as an MSR.
    pub(super) fn self_ipi(&mut self, vector: u8) {
        if vector < 16 {
            self.error(ErrorStatus::new().with_send_illegal_vector(true));
        }
        self.request(vector, false);
    }

    /// An exit for a write that the CPU has stored at `offset` and leaves to L1: SELF_IPI of an
    /// illegal vector, and nothing else (SDM Vol. 3C, "Virtualizing MSR-Based APIC Accesses").
    pub fn virtualized_write(&mut self, offset: u16) {
        if offset == Register::SELF_IPI.offset() {
            self.self_ipi(self.get(Register::SELF_IPI) as u8);
        }
    }

    /// An exit for a virtualized EOI: the CPU has ended `vector` already.
    pub fn virtualized_eoi(&self, vector: u8) -> Effect {
        if self.bit(Register::TMR, vector) {
            Effect::EndOfInterrupt(vector)
        } else {
            Effect::None
        }
    }

    /// Takes the pending NMI, if there is one.
    pub fn take_nmi(&mut self) -> bool {
        core::mem::take(&mut self.nmi_pending)
    }

    /// Whether an NMI waits to be injected.
    pub fn nmi_pending(&self) -> bool {
        self.nmi_pending
    }

    pub(super) fn end_of_interrupt(&mut self) -> Effect {
        let vector = self.highest(Register::ISR);
        if vector == 0 {
            return Effect::None;
        }
        self.set_bit(Register::ISR, vector, false);
        self.put(Register::PPR, u32::from(self.processor_priority()));
        self.changed = true;
        self.virtualized_eoi(vector)
    }

    /// A command to deliver, unless it is one that the APIC itself refuses.
    pub(super) fn send(&mut self, command: InterruptCommand, wide: bool) -> Effect {
        let mode = command.delivery_mode();
        if matches!(mode, DELIVERY_FIXED | DELIVERY_LOWEST_PRIORITY) && command.vector() < 16 {
            self.error(ErrorStatus::new().with_send_illegal_vector(true));
            return Effect::None;
        }
        Effect::Command { command, wide }
    }

    /// Interrupts that others have posted.
    pub fn request_all(&mut self, vectors: [u64; 4], level_triggered: bool) {
        for (first, mut word) in [0, 64, 128, 192].into_iter().zip(vectors) {
            while word != 0 {
                self.request(first + word.trailing_zeros() as u8, level_triggered);
                word &= word - 1;
            }
        }
    }

    /// The level-triggered interrupts that are requested or in service.
    pub fn level_triggered(&self) -> [u64; 4] {
        core::array::from_fn(|index| {
            let half = |element: usize| {
                let word = |register: Register| self.get(register.element(element as u8));
                let here = word(Register::IRR) | word(Register::ISR);
                u64::from(word(Register::TMR) & here)
            };
            half(2 * index + 1) << 32 | half(2 * index)
        })
    }

    /// An NMI waits to be injected.
    pub fn request_nmi(&mut self) {
        self.nmi_pending = true;
    }
}
