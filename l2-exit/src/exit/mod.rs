//! One return of TDG.VP.ENTER as a value.

mod qualification;
mod reason;

use tdx_defs::vmcs::InterruptionInfo;
use tdx_defs::vp_enter::{EntryStatus, Outcome};
use x86_defs::efer;

use crate::event::Event;
use crate::vcpu::{Segment, SegmentAccessRights, Vcpu};

pub use qualification::{
    ControlRegisterAccess, DebugRegisterAccess, DescriptorTable, EptViolation, ExceptionExit,
    IoAccess, IoString, OperandWidth, TaskSwitch, TaskSwitchSource,
};
pub use reason::Reason;

/// Who tells L1 that L2 left (TDX Module ABI, TDG.VP.ENTER completion status).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The TDX module, at the exit itself: all of [`Exit`] is true.
    Direct,
    /// The TDX module, because an interrupt waits for L1. The reason is an external interrupt.
    PendingInterrupt,
    /// The host asked for it after an asynchronous TD exit. The values are those of L2's last
    /// exit, but whether that was one for L1, the host alone says: it may have served it
    /// already, or the exit may have been the host's own business. A hint, to be checked
    /// against L2's state, as [`crate::mmio::emulate`] does, or ignored.
    HostRouted,
    /// The host asked for it after it served a TDG.VP.VMCALL of L2's. The call is over and RIP
    /// is already behind it.
    HostRoutedTdvmcall,
}

/// Why L2 left, and where it stood.
///
/// RIP, RFLAGS and the general registers are in the guest state, not here. RIP is that of the
/// instruction which caused the exit: [`Reason::is_instruction`] says for which reasons L1
/// must step over it once it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// VMX basic exit reason with its qualification.
    pub reason: Reason,
    /// Who tells.
    pub origin: Origin,
    /// The event that was being delivered when L2 left. It is lost unless L1 injects it again
    /// at the next entry, before and instead of anything else.
    pub idt_vectoring: Option<Event>,
    /// CS.
    pub cs: Segment,
    /// Current privilege level.
    pub cpl: u8,
    /// VM-exit instruction length. Defined for exits that [`Reason::is_instruction`] names and
    /// for software events, not for EPT violations.
    pub instruction_length: u8,
    /// A bus lock was asserted by the instruction before the exit (bit 26 of the reason).
    pub bus_lock: bool,
}

impl Exit {
    /// Decodes what TDG.VP.ENTER returned. Costs no TDCALL and cannot fail: what is unknown
    /// becomes [`Reason::Other`].
    pub fn decode(outcome: &Outcome) -> Self {
        let origin = match outcome.status {
            EntryStatus::HostRoutedAsync => Origin::HostRouted,
            EntryStatus::HostRoutedTdvmcall => Origin::HostRoutedTdvmcall,
            EntryStatus::PendingInterruptExit | EntryStatus::PendingInterrupt => {
                Origin::PendingInterrupt
            }
            EntryStatus::Exit => Origin::Direct,
        };
        Self {
            reason: if matches!(outcome.status, EntryStatus::PendingInterrupt) {
                Reason::NotEntered
            } else {
                Reason::decode(outcome)
            },
            origin,
            idt_vectoring: Event::from_information(
                InterruptionInfo::from_bits(outcome.idt_info),
                outcome.idt_error,
                outcome.instruction_length,
            ),
            cs: Segment {
                selector: outcome.cs.selector,
                base: outcome.cs.base,
                limit: outcome.cs.limit,
                access_rights: SegmentAccessRights::from_bits(u32::from(outcome.cs.access_rights)),
            },
            cpl: outcome.cpl & 0b11,
            instruction_length: (outcome.instruction_length & 0xF) as u8,
            bus_lock: outcome.exit_reason & x86_defs::exit_reason::BUS_LOCK_ASSERTED != 0,
        }
    }

    /// Whether L2 ran 64-bit code: CS.L in IA-32e mode. Outside that mode CS.L means nothing,
    /// and RIP has 32 bits, so EFER is read only if RIP leaves it open.
    pub fn is_64_bit<V: Vcpu>(&self, vcpu: &V) -> bool {
        self.cs.access_rights.long() && (vcpu.rip() >> 32 != 0 || vcpu.efer() & efer::LMA != 0)
    }
}

#[cfg(test)]
mod tests;
