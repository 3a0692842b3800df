//! One VM: its control block, nested page tables and permission maps.

use alloc::boxed::Box;

use tdx_defs::vmcs::SegmentAccessRights;
use tdx_module::HardwareExit;
use tdx_module::platform::{Event, EventKind, Intercepts, Segment, SegmentName};

use super::nested_paging::NestedPaging;
use super::permissions::{MsrPermissions, PortPermissions};
use super::run::GeneralRegisters;
use super::unpaged::ControlRegisters;
use super::vmcb::{self, EventInformation, Vmcb};
use super::{Processor, exit};
use crate::arch::interrupts;

/// EFER.SVME: VMRUN demands it, guests do not see it.
pub(super) const SVME: u64 = 1 << 12;
/// Bits of a segment's type: accessed (code or data), busy (task state).
const ACCESSED: u8 = 1 << 0;
const BUSY: u8 = 1 << 1;
const INVALID_OPCODE: u32 = 1 << 6;

/// A VM.
pub(crate) struct VirtualMachine {
    pub(super) vmcb: Box<Vmcb>,
    pub(super) registers: GeneralRegisters,
    /// As the VM has set them.
    pub(super) control_registers: ControlRegisters,
    /// They are not yet in the control block.
    pub(super) control_registers_changed: bool,
    /// Runs on the tables of [`super::unpaged`].
    pub(super) runs_unpaged: bool,
    /// What is to end a run.
    pub(super) wanted: Intercepts,
    /// PAUSE ends a run, whatever the module wants.
    pub(super) pause_yields: bool,
    msrs: Box<MsrPermissions>,
    /// The event to deliver at the start of the next run.
    event: Option<Event>,
    /// This run begins with the delivery of an external interrupt.
    delivers_interrupt: bool,
    /// By how much RIP was moved past a software interrupt that this run delivers.
    pub(super) rip_advance: u64,
}

impl VirtualMachine {
    /// A VM with every port and MSR intercepted. Every run has to bring its memory.
    pub(crate) fn new(asid: u32) -> Self {
        // SAFETY: the VMCB is integers only, for which zero is a value.
        let mut vmcb: Box<Vmcb> = Box::new(unsafe { core::mem::zeroed() });
        let msrs = MsrPermissions::all_intercepted();
        vmcb.control.iopm_base = PortPermissions::all_intercepted();
        vmcb.control.msrpm_base = msrs.address();
        vmcb.control.asid = asid;
        vmcb.control.nested_paging = 1;
        let mut machine = Self {
            vmcb,
            registers: GeneralRegisters::default(),
            pause_yields: false,
            msrs,
            event: None,
            delivers_interrupt: false,
            rip_advance: 0,
            control_registers: ControlRegisters::default(),
            control_registers_changed: true,
            runs_unpaged: false,
            wanted: Intercepts::default(),
        };
        machine.apply_intercepts(Intercepts::default());
        machine
    }

    /// Runs in the memory of these tables until something ends the run.
    pub(crate) fn run(
        &mut self,
        processor: &mut Processor,
        paging: &mut NestedPaging,
    ) -> exit::Ended {
        if let Err(ended) = self.prepare(paging) {
            return ended;
        }
        self.run_prepared(processor);
        self.finish(paging)
    }

    /// Makes the control block ready for a run, unless the run has ended by that.
    pub(crate) fn prepare(&mut self, paging: &mut NestedPaging) -> Result<(), exit::Ended> {
        // It is asked for only while nothing blocks NMIs.
        if self.wanted.nmi_window() && self.event.is_none() {
            return Err(exit::Ended::without_running(HardwareExit::NmiWindow));
        }
        let event = self.event.take();
        self.vmcb.control.event_injection = event.map_or(EventInformation::new(), injection);
        self.rip_advance = event.map_or(0, |event| u64::from(event.instruction_length));
        self.vmcb.save.rip = self.vmcb.save.rip.wrapping_add(self.rip_advance);
        self.vmcb.control.nested_cr3 = paging.root();
        self.load_control_registers(paging);
        self.delivers_interrupt =
            event.is_some_and(|event| event.kind == EventKind::ExternalInterrupt);
        Ok(())
    }

    /// The run itself: on the processor that carries it out, and the only part that is.
    pub(crate) fn run_prepared(&mut self, processor: &mut Processor) {
        if self.delivers_interrupt {
            // QEMU's VMRUN delivers an interrupt, and does not forget it before the next exit: where its time slice ends
            // first, it delivers it once more, whatever RFLAGS.IF is. So the next exit is at once.
            interrupts::end_next_run();
        }
        processor.run(&mut self.vmcb, &mut self.registers);
    }

    /// Why it has ended.
    pub(crate) fn finish(&mut self, paging: &NestedPaging) -> exit::Ended {
        self.store_control_registers();
        let ended = exit::decode(self, paging);
        let delivered = self.delivers_interrupt && ended.exited.exit == HardwareExit::Interrupt;
        exit::Ended {
            // Nothing of the VM's own has run.
            ran: ended.ran && !delivered,
            ..ended
        }
    }

    /// A general register, by its number in instruction encodings.
    pub(crate) fn general(&self, number: usize) -> u64 {
        match number {
            0 => self.vmcb.save.rax,
            4 => self.vmcb.save.rsp,
            _ => self.registers.slot[number],
        }
    }

    pub(crate) fn set_general(&mut self, number: usize, value: u64) {
        match number {
            0 => self.vmcb.save.rax = value,
            4 => self.vmcb.save.rsp = value,
            _ => self.registers.slot[number] = value,
        }
    }

    /// All general registers, in instruction encoding order.
    pub(crate) fn all_general(&self) -> [u64; 16] {
        let mut values = self.registers.slot;
        values[0] = self.vmcb.save.rax;
        values[4] = self.vmcb.save.rsp;
        values
    }

    pub(crate) fn set_all_general(&mut self, values: &[u64; 16]) {
        self.registers.slot = *values;
        self.vmcb.save.rax = values[0];
        self.vmcb.save.rsp = values[4];
    }

    /// The saved state, for registers that the VMCB has.
    pub(crate) fn state(&mut self) -> &mut vmcb::StateSaveArea {
        &mut self.vmcb.save
    }

    /// Blocking by STI or MOV SS at the last exit; QEMU's VMRUN does not load it.
    pub(crate) fn interrupt_shadow(&self) -> u64 {
        self.vmcb.control.interrupt_shadow & 1
    }

    pub(crate) fn set_interrupt_shadow(&mut self, value: u64) {
        self.vmcb.control.interrupt_shadow = u64::from(value != 0);
    }

    fn segment_slot(&mut self, name: SegmentName) -> &mut vmcb::Segment {
        let save = &mut self.vmcb.save;
        match name {
            SegmentName::Es => &mut save.es,
            SegmentName::Cs => &mut save.cs,
            SegmentName::Ss => &mut save.ss,
            SegmentName::Ds => &mut save.ds,
            SegmentName::Fs => &mut save.fs,
            SegmentName::Gs => &mut save.gs,
            SegmentName::Ldtr => &mut save.ldtr,
            SegmentName::Tr => &mut save.tr,
            SegmentName::Gdtr => &mut save.gdtr,
            SegmentName::Idtr => &mut save.idtr,
        }
    }

    pub(crate) fn segment(&mut self, name: SegmentName) -> Segment {
        let slot = *self.segment_slot(name);
        let attributes = u32::from(slot.attributes);
        let mut rights =
            SegmentAccessRights::from_bits(attributes & 0xFF | (attributes & 0xF00) << 4);
        // QEMU loads CS and TR without the bits that the processor sets in a descriptor it loads:
        // accessed, and busy.
        if name == SegmentName::Tr {
            rights.set_segment_type(rights.segment_type() | BUSY);
        } else if rights.code_or_data() {
            rights.set_segment_type(rights.segment_type() | ACCESSED);
        }
        rights.set_unusable(!rights.present());
        let table = matches!(name, SegmentName::Gdtr | SegmentName::Idtr);
        Segment {
            selector: slot.selector,
            access_rights: if table { 0 } else { rights.into_bits() },
            limit: slot.limit,
            base: slot.base,
        }
    }

    pub(crate) fn set_segment(&mut self, name: SegmentName, segment: Segment) {
        let rights = segment.access_rights;
        let attributes = if SegmentAccessRights::from_bits(rights).unusable() {
            0
        } else {
            rights & 0xFF | rights >> 4 & 0xF00
        };
        *self.segment_slot(name) = vmcb::Segment {
            selector: segment.selector,
            attributes: attributes as u16,
            limit: segment.limit,
            base: segment.base,
        };
        if name == SegmentName::Ss {
            self.vmcb.save.cpl = (rights >> 5 & 3) as u8;
        }
    }

    pub(crate) fn inject(&mut self, event: Option<Event>) {
        self.event = event;
    }

    pub(crate) fn set_intercepts(&mut self, wanted: Intercepts) {
        if wanted != self.wanted {
            self.apply_intercepts(wanted);
        }
    }

    /// Whether PAUSE ends a run although the module does not want to know of it.
    pub(crate) fn set_pause_yields(&mut self, yields: bool) {
        if yields != self.pause_yields {
            self.pause_yields = yields;
            self.apply_intercepts(self.wanted);
        }
    }

    pub(crate) fn pause_yields(&self) -> bool {
        self.pause_yields
    }

    /// Steps over a PAUSE that ended a run for its own sake only. Answers whether it was one.
    pub(crate) fn skip_pause(&mut self) -> bool {
        const PAUSE_LENGTH: u64 = 2;
        let ours = self.pause_yields && !self.wanted.pause();
        if ours {
            self.vmcb.save.rip = self.vmcb.save.rip.wrapping_add(PAUSE_LENGTH);
            self.set_interrupt_shadow(0);
        }
        ours
    }

    fn apply_intercepts(&mut self, wanted: Intercepts) {
        self.wanted = wanted;
        self.apply_cr_intercepts();
        let control = &mut self.vmcb.control;
        control.intercept_dr = if wanted.debug_registers() {
            u32::MAX
        } else {
            0
        };
        control.intercept_exceptions = wanted.exceptions() | INVALID_OPCODE;
        let tables = wanted.descriptor_tables();
        control.set_intercepts(
            vmcb::Intercepts::new()
                .with_intr(true)
                .with_nmi(true)
                .with_vintr(wanted.interrupt_window())
                .with_idtr_read(tables)
                .with_gdtr_read(tables)
                .with_ldtr_read(tables)
                .with_tr_read(tables)
                .with_idtr_write(tables)
                .with_gdtr_write(tables)
                .with_ldtr_write(tables)
                .with_tr_write(tables)
                .with_rdtsc(wanted.rdtsc())
                .with_rdtscp(wanted.rdtsc())
                .with_rdpmc(wanted.rdpmc())
                .with_cpuid(true)
                .with_iret(wanted.iret())
                .with_invd(true)
                .with_pause(wanted.pause() || self.pause_yields)
                .with_hlt(true)
                .with_invlpg(wanted.invlpg())
                .with_invlpga(true)
                .with_io(true)
                .with_msr(true)
                .with_shutdown(true)
                .with_vmrun(true)
                .with_vmmcall(true)
                .with_vmload(true)
                .with_vmsave(true)
                .with_stgi(true)
                .with_clgi(true)
                .with_skinit(true)
                .with_wbinvd(true)
                .with_monitor(true)
                .with_mwait(true)
                .with_mwait_conditional(true)
                .with_xsetbv(true),
        );
        // A pending virtual interrupt that is intercepted is an interrupt window.
        control.interrupt_control = control
            .interrupt_control
            .with_v_irq(wanted.interrupt_window())
            .with_v_ignore_tpr(true)
            .with_v_intr_prio(0xF)
            .with_v_intr_masking(true);
    }

    pub(super) fn apply_cr_intercepts(&mut self) {
        let bit = |on: bool, number: u32| u32::from(on) << number;
        let wanted = &self.wanted;
        let unpaged = self.runs_unpaged;
        self.vmcb.control.intercept_cr = bit(wanted.cr_read() || unpaged, 0)
            | bit(wanted.cr3_store() || unpaged, 3)
            | bit(wanted.cr_read() || unpaged, 4)
            | bit(wanted.cr8_store(), 8)
            | bit(true, 16)
            | bit(wanted.cr3_load() || unpaged, 19)
            | bit(true, 20)
            | bit(wanted.cr8_load(), 24);
    }

    pub(crate) fn set_msr_intercept(&mut self, msr: u32, read: bool, write: bool) {
        self.msrs.set(msr, read, write);
    }

    /// The TSC at the last run's start and end.
    pub(crate) fn run_times(&self) -> (u64, u64) {
        (self.registers.entered, self.registers.left)
    }
}

/// The event as EVENTINJ wants it.
fn injection(event: Event) -> EventInformation {
    let kind = match event.kind {
        EventKind::ExternalInterrupt => 0,
        EventKind::Nmi => 2,
        // INT1, INT3 and INTO are exceptions to SVM; RIP is past them by now.
        EventKind::HardwareException
        | EventKind::PrivilegedSoftwareException
        | EventKind::SoftwareException => 3,
        EventKind::SoftwareInterrupt => 4,
    };
    EventInformation::new()
        .with_vector(event.vector)
        .with_kind(kind)
        .with_error_code_valid(event.error_code.is_some())
        .with_error_code(event.error_code.unwrap_or(0))
        .with_valid(true)
}
