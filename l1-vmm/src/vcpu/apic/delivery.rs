//! How interrupts reach the APIC and leave it: requests, IPIs, messages, EOI.

use super::{Effect, LocalApic, Mode, VapicPage};
use crate::machine::devices::ioapic::{Message, MessageSink};
use x86_defs::apic::{
    DELIVERY_FIXED, DELIVERY_LOWEST_PRIORITY, DELIVERY_NMI, ErrorStatus, InterruptCommand,
    Register, SHORTHAND_ALL, SHORTHAND_NONE, SHORTHAND_SELF,
};

impl<P: VapicPage> LocalApic<P> {
    /// Sets a vector's request, unless the APIC is disabled. Whether it did.
    pub fn request(&mut self, vector: u8, level_triggered: bool) -> bool {
        if vector < 16 {
            self.error(ErrorStatus::new().with_receive_illegal_vector(true));
            return false;
        }
        if self.mode == Mode::Disabled || !self.spurious_vector().enabled() {
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

    pub(super) fn send(&mut self, command: InterruptCommand) {
        let for_self = match command.shorthand() {
            SHORTHAND_NONE => self.is_destination(command.destination(), command.logical()),
            SHORTHAND_SELF | SHORTHAND_ALL => true,
            _ => false,
        };
        match command.delivery_mode() {
            DELIVERY_FIXED | DELIVERY_LOWEST_PRIORITY if command.vector() < 16 => {
                self.error(ErrorStatus::new().with_send_illegal_vector(true));
            }
            DELIVERY_FIXED | DELIVERY_LOWEST_PRIORITY if for_self => {
                self.request(command.vector(), false);
            }
            DELIVERY_NMI if for_self => self.nmi_pending = true,
            _ => {}
        }
    }

    /// SDM Vol. 3A, section "Determining IPI Destination".
    fn is_destination(&self, destination: u32, logical: bool) -> bool {
        let ldr = self.get(Register::LDR);
        match (self.mode, logical) {
            (Mode::Disabled, _) => false,
            (Mode::X2Apic, _) if destination == u32::MAX => true,
            (Mode::XApic, _) if destination == 0xFF => true,
            (_, false) => destination == 0,
            (Mode::X2Apic, true) => {
                destination >> 16 == ldr >> 16 && destination & ldr & 0xFFFF != 0
            }
            (Mode::XApic, true) => {
                let ldr = ldr >> 24;
                if self.get(Register::DFR) >> 28 == 0xF {
                    destination & ldr != 0
                } else {
                    destination >> 4 == ldr >> 4 && destination & ldr & 0xF != 0
                }
            }
        }
    }
}

impl<P: VapicPage> MessageSink for LocalApic<P> {
    fn deliver(&mut self, message: Message) -> bool {
        let destination = match (message.destination, self.mode) {
            // An I/O APIC without interrupt remapping has eight bits for the destination.
            (0xFF, Mode::X2Apic) => u32::MAX,
            (destination, _) => u32::from(destination),
        };
        if !self.is_destination(destination, message.logical) {
            return false;
        }
        match message.delivery_mode {
            DELIVERY_FIXED | DELIVERY_LOWEST_PRIORITY => {
                self.request(message.vector, message.level_triggered)
            }
            DELIVERY_NMI => {
                self.nmi_pending = true;
                false
            }
            _ => false,
        }
    }
}
