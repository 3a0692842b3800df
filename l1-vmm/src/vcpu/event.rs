//! Events for L2: what the next entry injects, and what has to wait for a window.

use l2_exit::Event;
use tdcall::RawTdcall;
use tdx_defs::vmcs::{InterruptibilityState, VmcsField};
use x86_defs::{cr0, debugctl, rflags};

use super::L2Vcpu;
use crate::run::end::Failure;

/// Pending debug exceptions: BS.
const PENDING_BS: u64 = 1 << 14;

impl<R: RawTdcall> L2Vcpu<'_, R> {
    /// Injects `event` at the next entry, unless one is to be injected already: the first is
    /// the older one, and its delivery raises the other again if it still applies.
    pub fn inject(&mut self, event: Event) {
        if self.injection.is_none() && !self.injection_prepared {
            self.injection = Some(event);
        }
    }

    /// Injects an NMI at the next entry, or asks for an exit as soon as one can be. Whether it
    /// will be injected.
    pub fn inject_nmi(&mut self) -> Result<bool, Failure> {
        if self.injection.is_some() || self.injection_prepared {
            self.set_nmi_window(true)?;
            return Ok(false);
        }
        let interruptibility = self.interruptibility()?;
        if interruptibility.blocking_by_nmi()
            || interruptibility.blocking_by_mov_ss()
            || interruptibility.blocking_by_sti()
        {
            self.set_nmi_window(true)?;
            return Ok(false);
        }
        self.set_nmi_window(false)?;
        self.injection = Some(Event {
            vector: 2,
            kind: l2_exit::EventKind::Nmi,
            error_code: None,
            instruction_length: 0,
        });
        Ok(true)
    }

    /// Whether L2 is in the handler of an NMI: the next one waits for IRET.
    pub fn nmi_blocked(&self) -> Result<bool, Failure> {
        Ok(self.interruptibility()?.blocking_by_nmi())
    }

    /// Blocks NMIs again, after an IRET that ended the blocking faulted.
    pub fn block_nmi(&mut self) -> Result<(), Failure> {
        let blocking = InterruptibilityState::new().with_blocking_by_nmi(true);
        self.write_interruptibility(blocking, blocking)
    }

    /// Ends blocking by STI and MOV SS, as completing an instruction does.
    pub fn end_interrupt_shadow(&mut self) -> Result<(), Failure> {
        let shadow = InterruptibilityState::new()
            .with_blocking_by_sti(true)
            .with_blocking_by_mov_ss(true);
        self.write_interruptibility(InterruptibilityState::new(), shadow)
    }

    /// Stops or starts exits when L2 can take an NMI.
    pub fn set_nmi_window(&mut self, on: bool) -> Result<(), Failure> {
        if self.primary.nmi_window() == on {
            return Ok(());
        }
        self.set_primary_controls(self.primary.with_nmi_window(on))
    }

    /// Whether an external interrupt can be injected at the next entry. If not, an exit comes as soon as one can;
    /// until then no virtual interrupt is delivered either (SDM Vol. 3C, "Evaluation of Pending Virtual
    /// Interrupts").
    pub fn can_take_interrupt(&mut self) -> Result<bool, Failure> {
        let busy = self.injection.is_some() || self.injection_prepared;
        let open = !busy && l2_exit::Vcpu::rflags(self) & rflags::IF != 0 && {
            let interruptibility = self.interruptibility()?;
            !interruptibility.blocking_by_sti() && !interruptibility.blocking_by_mov_ss()
        };
        self.set_interrupt_window(!open)?;
        Ok(open)
    }

    /// Injects an external interrupt at the next entry, which can take it: [`L2Vcpu::can_take_interrupt`].
    pub fn inject_interrupt(&mut self, vector: u8) {
        self.inject(Event {
            vector,
            kind: l2_exit::EventKind::ExternalInterrupt,
            error_code: None,
            instruction_length: 0,
        });
    }

    /// Starts or stops exits when L2 can take an interrupt. What the virtual-APIC page holds wants none:
    /// virtual-interrupt delivery waits by itself.
    pub fn set_interrupt_window(&mut self, on: bool) -> Result<(), Failure> {
        if self.primary.interrupt_window() == on {
            return Ok(());
        }
        self.set_primary_controls(self.primary.with_interrupt_window(on))
    }

    /// The event that the next entry injects.
    #[cfg(test)]
    pub(crate) fn pending_injection(&self) -> Option<Event> {
        self.injection
    }

    pub(super) fn prepare_injection(&mut self, event: Event) -> Result<(), Failure> {
        // VM entry refuses an error code outside protected mode.
        let protected = event.error_code.is_none() || self.in_protected_mode();
        let event = if protected {
            event
        } else {
            event.in_real_mode()
        };
        if let Some(code) = event.error_code {
            self.write(VmcsField::ENTRY_EXCEPTION_ERROR_CODE, u64::from(code))?;
        }
        if event.kind.is_software() {
            let length = u64::from(event.instruction_length);
            self.write(VmcsField::ENTRY_INSTRUCTION_LENGTH, length)?;
        }
        let information = u64::from(event.information().into_bits());
        self.write(VmcsField::ENTRY_INTERRUPTION_INFO, information)?;
        self.injection_prepared = true;
        Ok(())
    }

    pub(super) fn pend_single_step(&mut self) -> Result<(), Failure> {
        self.end_interrupt_shadow()?;
        if self.read(VmcsField::GUEST_DEBUGCTL)? & debugctl::BTF == 0 {
            let field = VmcsField::GUEST_PENDING_DEBUG_EXCEPTIONS;
            self.write_masked(field, PENDING_BS, PENDING_BS)?;
        }
        Ok(())
    }

    /// Whether L2 takes a debug exception as soon as it runs.
    pub fn debug_exception_pending(&self) -> Result<bool, Failure> {
        Ok(self.read(VmcsField::GUEST_PENDING_DEBUG_EXCEPTIONS)? != 0)
    }

    fn in_protected_mode(&self) -> bool {
        l2_exit::Vcpu::cr0(self) & cr0::PE != 0
    }

    fn interruptibility(&self) -> Result<InterruptibilityState, Failure> {
        let value = self.read(VmcsField::GUEST_INTERRUPTIBILITY)?;
        Ok(InterruptibilityState::from_bits(value as u32))
    }

    fn write_interruptibility(
        &self,
        value: InterruptibilityState,
        mask: InterruptibilityState,
    ) -> Result<(), Failure> {
        self.write_masked(
            VmcsField::GUEST_INTERRUPTIBILITY,
            u64::from(value.into_bits()),
            u64::from(mask.into_bits()),
        )
    }
}
