//! The interrupt command register in x2APIC mode: which virtual processors a command of L1's reaches, and with what
//! (SDM volume 3, "Interrupt Command Register").

const SELF: u64 = 1;
const ALL: u64 = 2;
const ALL_BUT_SELF: u64 = 3;
/// Destination that every processor has, in either mode.
const BROADCAST: u32 = 0xFFFF_FFFF;

/// What the target gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Fixed(u8),
    Nmi,
}

/// Who the target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Sender,
    All,
    AllButSender,
    Physical(u32),
    Logical(u32),
}

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InterruptCommand {
    pub(super) delivery: Delivery,
    target: Target,
}

impl InterruptCommand {
    /// Reads a command. None: a delivery mode that a TD's host does not have. INIT and SIPI are no way to start a virtual
    /// processor of a TD.
    pub(super) fn parse(value: u64) -> Option<Self> {
        let delivery = match value >> 8 & 7 {
            0 => Delivery::Fixed(value as u8),
            4 => Delivery::Nmi,
            _ => return None,
        };
        let destination = (value >> 32) as u32;
        let target = match (value >> 18 & 3, value >> 11 & 1) {
            (SELF, _) => Target::Sender,
            (ALL, _) => Target::All,
            (ALL_BUT_SELF, _) => Target::AllButSender,
            (_, 0) => Target::Physical(destination),
            _ => Target::Logical(destination),
        };
        Some(Self { delivery, target })
    }

    /// Whether the command reaches a processor with this APIC id.
    pub(super) fn reaches(&self, apic_id: u32, is_sender: bool) -> bool {
        match self.target {
            Target::Sender => is_sender,
            Target::All => true,
            Target::AllButSender => !is_sender,
            Target::Physical(destination) => destination == apic_id || destination == BROADCAST,
            Target::Logical(destination) => {
                let logical = logical_id(apic_id);
                destination == BROADCAST
                    || destination >> 16 == logical >> 16 && destination & logical & 0xFFFF != 0
            }
        }
    }
}

/// LDR in x2APIC mode: the cluster in the upper half, the processor's bit of it in the lower.
pub(super) fn logical_id(apic_id: u32) -> u32 {
    (apic_id >> 4) << 16 | 1 << (apic_id & 0xF)
}
