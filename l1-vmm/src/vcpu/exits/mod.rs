//! A virtual processor of L2's on its machine, and the loop that runs it.
//!
//! One file for each kind of exit; this one enters L2 and hands out what comes back.

mod ahead;
mod external;
mod idle;
mod instruction;
mod memory;
mod msr;
mod ports;
mod signals;
mod tdvmcall;

use alloc::sync::Arc;

use l2_exit::exit::{ControlRegisterAccess, Exit, Origin, Reason};
use l2_exit::run_ahead::RunAhead;
use l2_exit::{Event, Vcpu, mmio};
use tdx_defs::field::TdAttributes;
use tdx_defs::vmcs::VmcsField;
use tdx_defs::vp_enter;
use vcpu_signals::{Mailbox, Vectors};
use x86_defs::exception;

use crate::launch::boot::EntryState;
use crate::machine::Machine;
use crate::machine::notices::SERVES;
use crate::run::Statistics;
use crate::run::end::{End, Failure, GuestError, Snapshot};
use crate::run::environment::{Environment, Layout, Processor};
use crate::vcpu::apic::{Effect, Mode};
use crate::vcpu::processor::{Activity, VirtualProcessor};
use crate::vcpu::{InitialState, Refusal};

/// What a virtual processor of L2's is made of.
pub struct ProcessorParts<E: Environment> {
    /// The processor that L1 runs on.
    pub processor: E::Processor,
    /// Its virtual-APIC page.
    pub vapic: E::Vapic,
}

/// A virtual processor of L2's, and the machine that it shares with the others.
pub struct L2<'t, E: Environment> {
    machine: Arc<Machine<'t, E>>,
    vcpu: VirtualProcessor<'t, E>,
}

impl<'t, E: Environment> L2<'t, E> {
    /// The processor `layout.index` of `machine`. The first is ready to run in state `boot`, the others wait to be
    /// started by it. To be called on the virtual processor of the TD that will run it. Device interrupts of L1's own
    /// are the image's to set up ([`crate::machine::host`]).
    pub fn new(
        machine: Arc<Machine<'t, E>>,
        layout: &Layout,
        parts: ProcessorParts<E>,
        boot: &EntryState,
    ) -> Result<Self, Failure> {
        mmio::prepare();
        let vcpu = VirtualProcessor::new(&machine, layout, parts.processor, parts.vapic);
        let mut l2 = Self { machine, vcpu };
        if l2.machine.peers.count() > 1 {
            // What the host answers to L1 is good enough to address an interrupt to the host's own processor by.
            let topology = l2.vcpu.processor.cpuid(0xB, 0);
            l2.machine
                .peers
                .publish_host_id(l2.vcpu.index, topology.edx);
        }
        let waiting;
        let entry = match l2.vcpu.activity {
            Activity::Active => boot,
            Activity::WaitsForStartUp { .. } => {
                // As firmware leaves it: with caches.
                waiting = l2.after_init(0);
                &waiting
            }
        };
        l2.vcpu.vmcs.set_up(&InitialState {
            entry,
            vapic: layout.vapic,
            x2apic: l2.vcpu.apic.mode() == Mode::X2Apic,
            user_wait: false,
        })?;
        l2.publish_address();
        Ok(l2)
    }

    /// Runs the processor to the end of L2's run, which may come on any of them: None if it came on another one. Where
    /// it came here, the others have stopped when it is told, unless the host kept one from it. A reset of the machine has
    /// reached every device then: whatever the host does, the TPM has had its _TPM_Init.
    pub fn run(&mut self) -> Option<End> {
        loop {
            if let Err(end) = self.step() {
                let end = self.conclude(end);
                if end.as_ref().is_some_and(End::is_reset) {
                    self.machine.reset();
                }
                return end;
            }
        }
    }

    /// Whether all others have stopped, so that nobody but the caller, whose run has ended as a reset, reaches L2's memory
    /// and devices.
    pub fn is_alone(&self) -> bool {
        self.machine.ending.count_stopped() + 1 >= self.machine.peers.count()
    }

    /// For the one whose run ended as a reset, which [is alone](L2::is_alone), when L2's memory holds what is to start: the
    /// machine's processors may go [on anew](L2::anew).
    pub fn restart(&mut self) {
        self.machine.restart(&self.own_statistics());
    }

    /// Whether the machine has restarted since this processor began.
    pub fn is_restarted(&self) -> bool {
        self.machine.ending.restarts() != self.vcpu.restarts
    }

    /// The same processor as after a reset, of a machine that has restarted: as [`L2::new`].
    pub fn anew(self, layout: &Layout, boot: &EntryState) -> Result<Self, Failure> {
        let Self { machine, vcpu } = self;
        let VirtualProcessor {
            mut processor,
            apic,
            ..
        } = vcpu;
        processor.reset_l2();
        let parts = ProcessorParts {
            processor,
            vapic: apic.into_page(),
        };
        Self::new(machine, layout, parts, boot)
    }

    /// Enters L2 once and answers its exit, or waits once for what makes it run.
    pub fn step(&mut self) -> Result<(), End> {
        if self.sleeps_on() {
            return self.wait_for_start_up();
        }
        self.hear()?;
        if self.vcpu.activity != Activity::Active {
            return self.wait_for_start_up();
        }
        self.prepare_entry()?;
        if !self.departs() {
            return Ok(());
        }
        let entered = self.vcpu.vmcs.enter(&mut self.vcpu.processor);
        self.arrived();
        let (outcome, exit) = entered?;
        self.vcpu.statistics.count(&outcome);
        let interrupts = self.vcpu.processor.take_interrupts();
        self.vcpu.look_at_devices |= interrupts.devices;
        if interrupts.console {
            self.receive();
        }
        let before = self.allocations();
        self.answer(&exit, &outcome)?;
        self.serve_devices();
        self.send_kicks()?;
        let after = self.allocations();
        if after.0 != before.0 && after.1 == before.1 {
            self.vcpu.statistics.allocating += 1;
        }
        match self.vcpu.vmcs.take_failure() {
            Some(failure) => Err(End::Failure(failure)),
            None => Ok(()),
        }
    }

    /// Blocks of the heap that were given out so far, and how often the TPM was taken. Exits are answered without the
    /// heap; where there are several processors, another's may show.
    fn allocations(&self) -> (u64, u64) {
        let allocations = self.vcpu.processor.allocations();
        (allocations, self.machine.tpm_taken())
    }

    /// The processor leaves L1, unless something has been posted since [`L2::hear`].
    fn departs(&self) -> bool {
        let mailbox = self.machine.peers.mailbox(self.vcpu.index);
        mailbox.is_none_or(Mailbox::depart)
    }

    /// The processor is back.
    fn arrived(&self) {
        if let Some(mailbox) = self.machine.peers.mailbox(self.vcpu.index) {
            mailbox.arrive();
        }
    }

    /// Takes what arrived on the serial line.
    fn receive(&mut self) {
        let machine = &*self.machine;
        machine.devices().receive(&mut self.vcpu.router(machine));
    }

    /// Lets the devices on the PCI bus do what L2 or the host has given them to do: where this processor knows of
    /// something, or is the one that looks after them, and nobody else does at the moment.
    fn serve_devices(&mut self) {
        let machine = &*self.machine;
        if machine.pci.is_none() {
            return;
        }
        let devices = match self.vcpu.look_at_devices {
            true => Some(machine.devices()),
            false if self.vcpu.index == SERVES => machine.try_devices(),
            false => None,
        };
        if let Some(mut devices) = devices {
            self.vcpu.look_at_devices = false;
            let mut router = self.vcpu.router(machine);
            devices.pci.serve(&machine.memory, &mut router);
        }
    }

    /// Counts so far: of this processor, and of those that have stopped.
    pub fn statistics(&self) -> Statistics {
        let mut statistics = self.machine.ending.statistics();
        statistics.add(&self.own_statistics());
        statistics.tpm_accesses = self.machine.tpm_accesses();
        statistics
    }

    fn own_statistics(&self) -> Statistics {
        let mut statistics = self.vcpu.statistics.clone();
        statistics.decoded = self.vcpu.decoded.statistics();
        let ahead = self.vcpu.ahead.as_ref();
        statistics.ahead = ahead.map(RunAhead::figures).unwrap_or_default();
        statistics.kicks = self.vcpu.kicks.count;
        statistics.kicks_repeated = self.vcpu.kicks.repeated;
        statistics
    }

    /// Logs the counts, how the locks were used where there are several processors, and what each device on the PCI
    /// bus has moved.
    pub fn log_figures(&self) {
        self.statistics().log();
        if self.machine.peers.count() > 1 {
            for (name, figures) in self.machine.lock_figures() {
                log::info!(
                    target: "lock",
                    name,
                    taken = figures.taken,
                    contended = figures.contended,
                    total = figures.total,
                    longest = figures.longest;
                    "lock of {name}: {figures}"
                );
            }
        }
        self.machine.devices().pci.log_traffic();
    }

    /// L2's registers and code, for a report to the host, in a TD whose `attributes` let the host
    /// read them anyway. In any other, a host that takes a page away or sends L1 stale hints would
    /// learn what L2 was working on.
    pub fn snapshot(&self, attributes: TdAttributes) -> Option<Snapshot> {
        attributes.debug().then(|| Snapshot {
            instruction: self.vcpu.unexecuted,
            ..self.vcpu.vmcs.snapshot()
        })
    }

    /// Calls `with` with the TPM, once L2 is over.
    pub fn with_tpm<T>(&mut self, with: impl FnOnce(&mut E::Tpm) -> T) -> T {
        with(&mut self.machine.tpm())
    }

    /// Brings L2's VMCS to what the devices ask for. In a run of TPM accesses nothing changes,
    /// and this makes no TDCALL.
    fn prepare_entry(&mut self) -> Result<(), Failure> {
        // A deadline that passed while L1 was at work would end the next run before it began.
        let expiry = self.timer_expiry();
        if expiry.is_some_and(|expiry| expiry <= self.vcpu.processor.tsc()) {
            self.timer_exit();
        }
        self.forget_changes();
        if self.vcpu.apic.take_mode_change() {
            let x2apic = self.vcpu.apic.mode() == Mode::X2Apic;
            self.vcpu.vmcs.set_x2apic_native(x2apic)?;
        }
        self.publish_address();
        let known = &mut self.vcpu.level_generation;
        let published = self.machine.notices.level_vectors(known);
        self.vcpu.level_vectors = published.unwrap_or(self.vcpu.level_vectors);
        if core::mem::take(&mut self.vcpu.level_taken) || published.is_some() {
            let taken = self.vcpu.apic.level_triggered();
            let vectors = union(self.vcpu.level_vectors, taken);
            self.vcpu.vmcs.set_eoi_exits(vectors)?;
            self.vcpu.end_exits = vectors;
        }
        if self.vcpu.apic.nmi_pending() && self.vcpu.vmcs.inject_nmi()? {
            self.vcpu.apic.take_nmi();
        }
        self.external_interrupt()?;
        if let Some(status) = self.vcpu.apic.take_changed_status() {
            self.vcpu.vmcs.set_interrupt_status(status.bits());
        }
        self.send_kicks()?;
        if !self.deadline_is_set() {
            self.set_deadline()?;
        }
        Ok(())
    }

    /// Tells the other processors where interrupts reach this one.
    fn publish_address(&mut self) {
        if let Some(address) = self.vcpu.apic.take_changed_address() {
            self.machine.peers.publish(self.vcpu.index, address);
        }
    }

    fn answer(&mut self, exit: &Exit, outcome: &vp_enter::Outcome) -> Result<(), End> {
        if matches!(exit.reason, Reason::NotEntered) {
            return Ok(());
        }
        if let Some(event) = exit.idt_vectoring {
            self.vcpu.statistics.reinjected += 1;
            self.vcpu.vmcs.inject(event);
        }
        match (exit.origin, exit.reason) {
            (Origin::HostRoutedTdvmcall, _) => return Ok(()),
            (Origin::HostRouted, Reason::EptViolation(_)) => {}
            // The module reports L2's last exit, which it may have had to end at the host before
            // it could tell L1. An EOI does not happen again. Told a second time, it only makes
            // the I/O APIC look at its level-triggered pins once more.
            (Origin::HostRouted, Reason::VirtualizedEoi { .. }) => {}
            // The host woke L1 for something that is none of L1's business, or stale: L2 comes to
            // the same exit again if there is cause for it.
            (Origin::HostRouted, _) => return Ok(()),
            _ => self.vcpu.stale_hints = 0,
        }
        match exit.reason {
            Reason::EptViolation(violation) => self.memory_access(exit, &violation),
            Reason::Io(access) => self.port_access(exit, &access),
            Reason::Wrmsr => self.instruction(exit, Self::wrmsr),
            Reason::Rdmsr => self.instruction(exit, Self::rdmsr),
            Reason::PreemptionTimer => {
                self.timer_exit();
                Ok(())
            }
            Reason::Cpuid => self.instruction(exit, Self::cpuid),
            Reason::Hlt => self.hlt(exit),
            Reason::VirtualizedEoi { vector } => {
                let effect = self.vcpu.apic.virtualized_eoi(vector);
                self.apply(effect);
                Ok(())
            }
            Reason::ApicWrite { offset } => {
                self.vcpu.apic.virtualized_write(offset);
                Ok(())
            }
            Reason::ControlRegister(access) => self.control_register(exit, access),
            Reason::Xsetbv => self.instruction(exit, Self::xsetbv),
            Reason::Tdcall => self.tdcall(exit),
            Reason::NotEntered | Reason::ExternalInterrupt | Reason::TprBelowThreshold => Ok(()),
            Reason::NmiWindow => Ok(self.vcpu.vmcs.set_nmi_window(false)?),
            Reason::InterruptWindow => Ok(self.vcpu.vmcs.set_interrupt_window(false)?),
            // Private memory is write-back and coherent, and no device bypasses the caches, so
            // there is nothing to write back; INVD must not lose what L1 has in them.
            Reason::Wbinvd { .. } | Reason::Invd | Reason::Pause => {
                self.instruction(exit, |_| Ok(()))
            }
            Reason::Rdtsc => self.instruction(exit, Self::rdtsc),
            Reason::Rdtscp | Reason::Rdpmc => {
                self.instruction(exit, |_| Err(Refusal::GENERAL_PROTECTION))
            }
            Reason::Invlpg { .. } | Reason::Invpcid { .. } => self.instruction(exit, |platform| {
                platform.vcpu.vmcs.flush_translations();
                Ok(())
            }),
            // Not in L2's CPUID.
            Reason::Getsec
            | Reason::Rsm
            | Reason::Vmcall
            | Reason::Vmx { .. }
            | Reason::Mwait
            | Reason::Monitor
            | Reason::Vmfunc
            | Reason::Encls
            | Reason::Pconfig
            | Reason::Umwait { .. }
            | Reason::Tpause { .. }
            | Reason::Loadiwkey
            | Reason::Seamcall => self.instruction(exit, |_| Err(Refusal::INVALID_OPCODE)),
            Reason::Exception(exception) => {
                if exception.event.vector == exception::PAGE_FAULT {
                    self.vcpu.vmcs.set_cr2(exception.qualification);
                }
                self.vcpu.vmcs.inject(exception.event);
                Ok(())
            }
            Reason::TripleFault => Err(self.triple_fault(exit)),
            Reason::TaskSwitch(switch) => Err(self.guest_error(GuestError::TaskSwitch { switch })),
            Reason::InvalidGuestState { qualification } => {
                Err(self.guest_error(GuestError::InvalidState { qualification }))
            }
            // Unknown, or an exit by a control that L1 never sets.
            _ => Err(self.guest_error(GuestError::UnknownExit {
                reason: outcome.exit_reason,
                qualification: outcome.qualification,
            })),
        }
    }

    /// Acts on what a write to the local APIC asked of the rest of the machine.
    fn apply(&mut self, effect: Effect) {
        let machine = &*self.machine;
        let mut router = self.vcpu.router(machine);
        match effect {
            Effect::None => {}
            Effect::EndOfInterrupt(vector) => {
                let ioapic = &mut machine.devices().ioapic;
                ioapic.end_of_interrupt(vector, &mut router);
            }
            Effect::Command { command, wide } => router.command(command, wide),
        }
    }

    /// Completes an instruction, or injects its fault.
    fn instruction(
        &mut self,
        exit: &Exit,
        execute: impl FnOnce(&mut Self) -> Result<(), Refusal>,
    ) -> Result<(), End> {
        match execute(self) {
            Ok(()) => l2_exit::advance(exit, &mut self.vcpu.vmcs),
            Err(Refusal::Fault(event)) => self.vcpu.vmcs.inject(event),
            Err(Refusal::Failure(failure)) => return Err(End::Failure(failure)),
        }
        Ok(())
    }

    /// A kernel that has emptied its IDT wants the processor to shut down, which resets a PC: Linux does so
    /// last of all ways to reboot. Any other triple fault is a mistake, and told as one.
    fn triple_fault(&self, exit: &Exit) -> End {
        match self.vcpu.vmcs.read(VmcsField::GUEST_IDTR_LIMIT) {
            Ok(0) => End::Reset,
            Ok(_) => End::TripleFault {
                rip: self.vcpu.vmcs.rip(),
                event: exit.idt_vectoring,
            },
            Err(failure) => failure.into(),
        }
    }

    fn control_register(&mut self, exit: &Exit, access: ControlRegisterAccess) -> Result<(), End> {
        // Outside 64-bit code the operand has 32 bits (SDM Vol. 2, "MOV—Move to/from Control
        // Registers"); what the upper half of the register holds is left over.
        let mask = if exit.is_64_bit(&self.vcpu.vmcs) {
            u64::MAX
        } else {
            u64::from(u32::MAX)
        };
        self.instruction(exit, |platform| {
            platform.access_control_register(access, mask)
        })
    }

    fn completed(&mut self, outcome: l2_exit::Outcome) {
        if let l2_exit::Outcome::Fault(event) = outcome {
            self.vcpu.vmcs.inject(event);
        }
    }

    fn guest_error(&mut self, error: impl Into<GuestError>) -> End {
        let error = error.into();
        if let GuestError::Emulation(error) = &error {
            self.vcpu.unexecuted = error.instruction();
        }
        End::GuestError {
            rip: self.vcpu.vmcs.rip(),
            error,
        }
    }
}

fn union(one: Vectors, other: Vectors) -> Vectors {
    core::array::from_fn(|index| {
        let word = |vectors: Vectors| vectors.get(index).copied().unwrap_or(0);
        word(one) | word(other)
    })
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Event> for Refusal {
    fn from(event: Event) -> Self {
        Self::Fault(event)
    }
}

#[cfg(test)]
mod tests;
