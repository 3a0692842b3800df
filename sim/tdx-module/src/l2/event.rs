//! What comes between L2's instructions: the event that an entry delivers, virtual interrupts,
//! windows and the TSC deadline.

use super::exit_information::ExitInformation;
use super::guest::Guest;
use super::state::NO_DEADLINE;
use super::vapic::{MachinePage, VirtualApic};
use crate::platform::{Event, EventKind, Intercepts, Platform, Register};
use tdx_defs::vmcs::VmcsField;
use x86_defs::cr0;
use x86_defs::exit_reason;
use x86_defs::rflags;

/// What stands in the way of L2's next instruction.
pub(super) enum Ready {
    /// Nothing: L2 can run.
    Run,
    /// An exit to L1 before L2 has run an instruction.
    Exit(ExitInformation),
}

const DEBUG_EXCEPTION: u8 = 1;
const INVALID_OPCODE: u32 = 1 << 6;
/// Pending debug exceptions: a breakpoint was enabled, a single step.
const PENDING_BREAKPOINT: u64 = 1 << 12;
const PENDING_SINGLE_STEP: u64 = 1 << 14;

impl<P: Platform> Guest<'_, P> {
    /// The virtual APIC with the guest interrupt status of the VMCS.
    pub(super) fn virtual_apic(&mut self) -> VirtualApic<MachinePage<'_, P>> {
        let status = self.l2.cell(VmcsField::GUEST_INTERRUPT_STATUS) as u16;
        VirtualApic::new(
            MachinePage {
                hpa: self.l2.entry.vapic_hpa,
                platform: self.platform,
            },
            status,
        )
    }

    /// Does something to the virtual APIC, and keeps its new interrupt status.
    pub(super) fn with_virtual_apic<T>(
        &mut self,
        act: impl FnOnce(&mut VirtualApic<MachinePage<'_, P>>) -> T,
    ) -> T {
        let mut apic = self.virtual_apic();
        let result = act(&mut apic);
        let status = apic.interrupt_status();
        self.l2
            .set_cell(VmcsField::GUEST_INTERRUPT_STATUS, status.into());
        result
    }

    /// The event in the VM-entry interruption-information fields.
    pub(super) fn entry_event(&self) -> Option<Event> {
        Event::from_information(
            self.l2.cell(VmcsField::ENTRY_INTERRUPTION_INFO) as u32,
            self.l2.cell(VmcsField::ENTRY_EXCEPTION_ERROR_CODE) as u32,
            self.l2.cell(VmcsField::ENTRY_INSTRUCTION_LENGTH) as u32,
        )
    }

    /// Puts an event into the VM-entry fields. In real mode nothing pushes an error code.
    pub(super) fn set_entry_event(&mut self, event: &Event) {
        let protected = self.register(Register::Cr0) & cr0::PE != 0;
        let event = Event {
            error_code: event.error_code.filter(|_| protected),
            ..*event
        };
        let l2 = &mut *self.l2;
        l2.set_cell(
            VmcsField::ENTRY_INTERRUPTION_INFO,
            event.information().into(),
        );
        if let Some(error_code) = event.error_code {
            l2.set_cell(VmcsField::ENTRY_EXCEPTION_ERROR_CODE, error_code.into());
        }
        l2.set_cell(
            VmcsField::ENTRY_INSTRUCTION_LENGTH,
            event.instruction_length.into(),
        );
    }

    /// Prepares the hardware context for L2's next instruction: event, windows, intercepts, timer.
    pub(super) fn prepare(&mut self) -> Ready {
        let mut event = self.entry_event();
        if event.is_none() {
            match self.before_next_instruction() {
                Ok(due) => event = due,
                Err(exit) => return Ready::Exit(exit),
            }
        }
        let information = self.l2.cell(VmcsField::ENTRY_INTERRUPTION_INFO);
        self.l2
            .set_cell(VmcsField::ENTRY_INTERRUPTION_INFO, information & !(1 << 31));
        self.inject(event);
        let intercepts = self.intercepts();
        let vm = self.vm();
        self.platform.set_intercepts(vm, intercepts);
        let interruptibility = self.interruptibility().into_bits() & 3;
        self.set_register(Register::InterruptShadow, interruptibility.into());
        let deadline = self.l2.tsc_deadline;
        self.platform
            .set_timer((deadline != NO_DEADLINE).then_some(deadline));
        Ready::Run
    }

    /// What happens at an instruction boundary, in order of priority, if no event is injected: an
    /// exit, or an event that is due.
    fn before_next_instruction(&mut self) -> Result<Option<Event>, ExitInformation> {
        if let Some(causes) = self.take_pending_debug_exception() {
            let event = Event::exception(DEBUG_EXCEPTION, None);
            if self.exits_on_exception(event.vector, 0) {
                // DR6 is L1's to update.
                return Err(ExitInformation::exception(&event, causes));
            }
            let dr6 = self.register(Register::Dr6);
            self.set_register(Register::Dr6, dr6 | causes);
            return Ok(Some(event));
        }
        if self.platform.tsc() >= self.l2.tsc_deadline {
            return Err(ExitInformation::of(exit_reason::PREEMPTION_TIMER));
        }
        if self.primary().nmi_window() && self.is_nmi_window_open() {
            return Err(ExitInformation::of(exit_reason::NMI_WINDOW));
        }
        if !self.is_interrupt_window_open() {
            return Ok(None);
        }
        if self.primary().interrupt_window() {
            return Err(ExitInformation::of(exit_reason::INTERRUPT_WINDOW));
        }
        if self.has_recognized_interrupt() {
            let vector = self.with_virtual_apic(|apic| apic.deliver());
            return Ok(Some(Event::interrupt(vector)));
        }
        Ok(None)
    }

    /// Whether a virtual interrupt waits for nothing but an open window.
    fn has_recognized_interrupt(&mut self) -> bool {
        self.secondary().virtual_interrupt_delivery()
            && !self.primary().interrupt_window()
            && self.virtual_apic().is_recognized()
    }

    pub(super) fn is_interrupt_window_open(&mut self) -> bool {
        let state = self.interruptibility();
        self.register(Register::Rflags) & rflags::IF != 0
            && !state.blocking_by_sti()
            && !state.blocking_by_mov_ss()
    }

    pub(super) fn is_nmi_window_open(&self) -> bool {
        let state = self.interruptibility();
        !state.blocking_by_nmi() && !state.blocking_by_mov_ss()
    }

    /// Takes the #DB that L1 left in the pending-debug-exceptions field, if it can come now: its
    /// causes, as DR6 and an exit qualification have them.
    fn take_pending_debug_exception(&mut self) -> Option<u64> {
        let pending = self.l2.cell(VmcsField::GUEST_PENDING_DEBUG_EXCEPTIONS);
        let due = pending & (PENDING_BREAKPOINT | PENDING_SINGLE_STEP) != 0
            && !self.interruptibility().blocking_by_mov_ss();
        if !due {
            return None;
        }
        self.l2
            .set_cell(VmcsField::GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
        const BREAKPOINTS: u64 = 0xf;
        Some(pending & (BREAKPOINTS | PENDING_SINGLE_STEP))
    }

    /// Has the hardware deliver an event.
    fn inject(&mut self, event: Option<Event>) {
        if event.is_some_and(|event| event.kind == EventKind::Nmi) {
            let state = self.interruptibility().with_blocking_by_nmi(true);
            self.set_interruptibility(state);
            self.l2.nmi_iret = None;
        }
        let vm = self.vm();
        self.platform.inject(vm, event);
    }

    /// IRET ends blocking by NMI, also one that faults (SDM volume 3, "Handling Multiple NMIs"). The hardware stops before
    /// it; whether it has run since, RIP says.
    pub(super) fn end_blocking_by_nmi(&mut self) {
        if let Some(iret) = self.l2.nmi_iret
            && self.register(Register::Rip) != iret
        {
            self.l2.nmi_iret = None;
            let state = self.interruptibility().with_blocking_by_nmi(false);
            self.set_interruptibility(state);
        }
    }

    /// An exit has come while `vectoring` was being delivered: adds the length of the instruction
    /// that a software event came from, if the hardware did not tell it.
    pub(super) fn take_vectoring(&mut self, vectoring: Option<Event>) {
        let mut vectoring = vectoring;
        if let Some(event) = &mut vectoring
            && is_software(event.kind)
            && event.instruction_length == 0
            && let Some(instruction) = self.fetch()
        {
            event.instruction_length = instruction.len() as u8;
        }
        self.l2.vectoring = vectoring;
    }

    /// What the hardware has to stop at for L1 or for the module.
    pub(super) fn intercepts(&mut self) -> Intercepts {
        let primary = self.primary();
        let secondary = self.secondary();
        let blocked = self.interruptibility().blocking_by_nmi();
        let pfec_selects = self.l2.cell(VmcsField::PAGE_FAULT_ERROR_CODE_MASK) != 0
            || self.l2.cell(VmcsField::PAGE_FAULT_ERROR_CODE_MATCH) != 0;
        const PAGE_FAULT: u32 = 1 << 14;
        let bitmap = self.l2.cell(VmcsField::EXCEPTION_BITMAP) as u32;
        Intercepts::new()
            .with_interrupt_window(primary.interrupt_window() || self.has_recognized_interrupt())
            .with_nmi_window(primary.nmi_window() && !blocked)
            .with_iret(blocked && self.l2.nmi_iret.is_none())
            .with_cr3_load(primary.cr3_load())
            .with_cr3_store(primary.cr3_store())
            // TPR is in the virtual-APIC page.
            .with_cr8_load(true)
            .with_cr8_store(true)
            .with_cr_read(self.needs_read_shadow())
            .with_invlpg(primary.invlpg())
            .with_rdpmc(primary.rdpmc())
            .with_rdtsc(primary.rdtsc())
            .with_pause(primary.pause())
            .with_debug_registers(primary.mov_dr())
            .with_descriptor_tables(secondary.descriptor_table())
            .with_exceptions(bitmap | INVALID_OPCODE | if pfec_selects { PAGE_FAULT } else { 0 })
    }

    /// Whether VM entry takes the event that L1 has put into the VM-entry fields (SDM volume 3,
    /// "VM-Entry Control Fields"). One that it does not is fatal.
    pub(super) fn is_entry_event_legal(&mut self) -> bool {
        let information = self.l2.cell(VmcsField::ENTRY_INTERRUPTION_INFO) as u32;
        if information & 1 << 31 == 0 {
            return true;
        }
        const RESERVED: u32 = 0x7fff_f000;
        let Some(event) = self.entry_event() else {
            return false;
        };
        let protected = self.register(Register::Cr0) & cr0::PE != 0;
        let has_error_code = event.kind == EventKind::HardwareException
            && matches!(event.vector, 8 | 10..=14 | 17 | 21);
        let error_code_fits = match event.error_code {
            Some(error_code) => has_error_code && protected && error_code >> 16 == 0,
            None => !has_error_code || !protected,
        };
        let vector_fits = match event.kind {
            EventKind::Nmi => event.vector == 2,
            EventKind::HardwareException => event.vector <= 31,
            _ => true,
        };
        let length_fits =
            !is_software(event.kind) || self.l2.cell(VmcsField::ENTRY_INSTRUCTION_LENGTH) <= 15;
        information & RESERVED == 0 && error_code_fits && vector_fits && length_fits
    }
}

/// Whether delivery pushes the address after an instruction.
pub(super) fn is_software(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::SoftwareInterrupt
            | EventKind::PrivilegedSoftwareException
            | EventKind::SoftwareException
    )
}
