//! HLT, and the timers that end it.

use l2_exit::{Exit, Vcpu};
use tdcall::leaf::MetadataError;
use x86_defs::rflags;

use super::L2;
use crate::machine::host;
use crate::run::end::{End, Failure};
use crate::run::environment::{Environment, Processor};
use crate::vcpu::processor::Deadline;

/// As far ahead as the module is asked for a deadline, where it refused a later one.
const NEAR_DEADLINE: u64 = 1 << 31;

impl<E: Environment> L2<'_, E> {
    pub(super) fn hlt(&mut self, exit: &Exit) -> Result<(), End> {
        let rip = self.vcpu.vmcs.rip();
        let stepping = self.vcpu.vmcs.rflags() & rflags::TF != 0;
        l2_exit::advance(exit, &mut self.vcpu.vmcs);
        // A debug exception ends the halt (SDM Vol. 2, HLT).
        if stepping && self.vcpu.vmcs.debug_exception_pending()? {
            return Ok(());
        }
        self.idle(rip)
    }

    /// Waits, outside L2, until an interrupt is pending for it. RIP is behind the instruction
    /// at `rip` that asked for it.
    ///
    /// Linux halts in the shadow of STI, which ends with the HLT: left in place, it would hold
    /// the interrupt back for an instruction that may well be CLI.
    pub(super) fn idle(&mut self, rip: u64) -> Result<(), End> {
        self.vcpu.vmcs.end_interrupt_shadow()?;
        let enabled = self.vcpu.vmcs.rflags() & rflags::IF != 0;
        let mut armed = None;
        loop {
            self.run_timers();
            self.serve_devices();
            let pending = self.vcpu.apic.interrupt_pending() || self.external_interrupt_pending();
            if self.vcpu.apic.nmi_pending() || enabled && pending {
                break;
            }
            if !enabled {
                // The only processor, and nothing sends NMIs: nobody can wake it.
                return Err(End::Halted { rip });
            }
            let expiry = self.timer_expiry();
            if armed != Some(expiry) {
                // A host that refuses leaves L1 without a timer: it then polls.
                let _ = host::arm_timer(self.machine.td, expiry);
                armed = Some(expiry);
            }
            self.vcpu.processor.halt(self.machine.td);
            let interrupts = self.vcpu.processor.take_interrupts();
            if interrupts.timer {
                // One-shot: if L2's deadline is still to come, it has to be armed again.
                armed = None;
            }
            if interrupts.console {
                self.machine.devices.receive(&mut self.vcpu.apic);
            }
        }
        Ok(())
    }

    /// The module's timer ran out: L2's deadline, or as far towards it as the module counts.
    pub(super) fn timer_exit(&mut self) {
        self.run_timers();
        // What the module holds is past: set the rest of the way, or the next deadline.
        self.vcpu.deadline = Deadline::Passed;
    }

    /// TSC value at which a timer of L2's next expires: the local APIC's, or the machine's.
    pub(super) fn timer_expiry(&self) -> Option<u64> {
        let machine = self.machine.devices.timer_expiry();
        match (self.vcpu.apic.timer_expiry(), machine) {
            (Some(own), Some(machine)) => Some(own.min(machine)),
            (own, machine) => own.or(machine),
        }
    }

    fn run_timers(&mut self) {
        let now = self.vcpu.processor.tsc();
        self.vcpu.apic.run_timer(now);
        self.machine.devices.run_timers(now, &mut self.vcpu.apic);
    }

    /// Gives the module L2's next timer expiry.
    pub(super) fn set_deadline(&mut self) -> Result<(), Failure> {
        let expiry = self.timer_expiry();
        match self.vcpu.vmcs.set_deadline(expiry) {
            Ok(()) => {
                self.vcpu.deadline = Deadline::Set(expiry);
                Ok(())
            }
            // "Too far in the future": ask again when the near one has passed.
            Err(Failure::Field {
                error: MetadataError::Operand(_),
                ..
            }) => {
                let near = self.vcpu.processor.tsc().saturating_add(NEAR_DEADLINE);
                self.vcpu.vmcs.set_deadline(Some(near))?;
                self.vcpu.deadline = Deadline::Set(expiry);
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }
}
