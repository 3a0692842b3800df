//! Interrupts of the 8259A pair: through LINT0 of the local APIC, or past it where it is disabled (SDM Vol. 3A,
//! "Local Vector Table", delivery mode ExtINT). The vector is the pair's, and no register of the APIC knows of it:
//! it is injected as an event at an entry, when L2 can take one.

use super::L2;
use crate::machine::notices::SERVES;
use crate::run::end::Failure;
use crate::run::environment::Environment;

impl<E: Environment> L2<'_, E> {
    /// Whether INTR is raised and reaches the processor. The boot processor alone is wired to it.
    pub(super) fn external_interrupt_pending(&self) -> bool {
        self.vcpu.index == SERVES
            && self.machine.notices.interrupt_output()
            && self.vcpu.apic.passes_external_interrupts()
    }

    /// If INTR is raised: injects the interrupt at the next entry, or asks for an exit as soon as L2 can take it. It
    /// is acknowledged only when it is injected: what waits in the pair may be masked or overtaken yet.
    pub(super) fn external_interrupt(&mut self) -> Result<(), Failure> {
        if !self.external_interrupt_pending() || !self.vcpu.vmcs.can_take_interrupt()? {
            return Ok(());
        }
        let mut devices = self.machine.devices();
        if devices.interrupt_output() {
            let vector = devices.acknowledge_interrupt();
            self.vcpu.vmcs.inject_interrupt(vector);
        }
        Ok(())
    }
}
