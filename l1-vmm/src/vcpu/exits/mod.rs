//! L2's machine: one vCPU, its devices, and the loop that runs it.
//!
//! One file for each kind of exit; this one enters L2 and hands out what comes back.

mod idle;
mod instruction;
mod memory;
mod msr;
mod ports;
mod tdvmcall;

use l2_exit::exit::{ControlRegisterAccess, Exit, Origin, Reason};
use l2_exit::mmio::DecodeCache;
use l2_exit::{Event, InstructionBytes, Vcpu, mmio};
use tdcall::Td;
use tdx_defs::field::{FieldId, TdAttributes};
use tdx_defs::vp_enter;

use crate::launch::boot::EntryState;
use crate::machine::cpuid::{CpuidTable, Machine};
use crate::machine::devices::Devices;
use crate::machine::host::HostPorts;
use crate::run::Statistics;
use crate::run::end::{End, Failure, GuestError, Snapshot};
use crate::run::environment::{Environment, Layout, Processor};
use crate::vcpu::apic::Mode;
use crate::vcpu::mtrr::Mtrrs;
use crate::vcpu::{InitialState, L2Vcpu, Refusal};

/// What the image puts into a [`Platform`].
pub struct Parts<E: Environment> {
    /// The processor that L1 runs on.
    pub processor: E::Processor,
    /// L2's memory.
    pub memory: E::Memory,
    /// L2's virtual-APIC page.
    pub vapic: E::Vapic,
    /// The TPM.
    pub tpm: E::Tpm,
}

/// L2 and everything it runs on.
pub struct Platform<'t, E: Environment> {
    vcpu: L2Vcpu<'t, E::Raw>,
    processor: E::Processor,
    memory: E::Memory,
    devices: Devices<E::Vapic, E::Tpm>,
    host: HostPorts<'t, E::Raw>,
    td: &'t Td<E::Raw>,
    decoded: DecodeCache,
    cpuid: CpuidTable,
    mtrrs: Mtrrs,
    misc_enable: u64,
    shared_bit: u64,
    /// The timer expiry that the module was given and has not reported. It keeps a deadline
    /// that passed, and exits at each entry until it gets another.
    deadline: Deadline,
    /// Host-routed exits in a row that made no sense.
    stale_hints: u32,
    /// The instruction that could not be emulated.
    unexecuted: Option<InstructionBytes>,
    statistics: Statistics,
}

impl<'t, E: Environment> Platform<'t, E> {
    /// A machine in `state`, ready to run. Device interrupts of L1's own are the image's to set
    /// up ([`crate::machine::host`]).
    pub fn new(
        td: &'t Td<E::Raw>,
        layout: &Layout,
        parts: Parts<E>,
        state: &EntryState,
    ) -> Result<Self, Failure> {
        let field = |field| {
            td.vm_rd(field)
                .map_err(|error| Failure::Field { field, error })
        };
        let tsc_ratio = field(FieldId::TSC_FREQUENCY)? as u32 & 0xFFFF;
        if tsc_ratio == 0 {
            return Err(Failure::NoTscFrequency);
        }
        mmio::prepare();
        let machine = Machine {
            tsc_ratio,
            xfam: field(FieldId::XFAM)?,
        };
        let cpuid = CpuidTable::new(|leaf, sub| parts.processor.cpuid(leaf, sub), &machine);
        let address_bits = cpuid.physical_address_width();
        let mut vcpu = L2Vcpu::new(td, layout.vm, address_bits, cpuid.cr4());
        vcpu.set_up(&InitialState {
            entry: state,
            vapic: layout.vapic,
            x2apic: true,
            user_wait: false,
        })?;
        Ok(Self {
            vcpu,
            processor: parts.processor,
            memory: parts.memory,
            devices: Devices::new(parts.vapic, u64::from(tsc_ratio), parts.tpm),
            host: HostPorts::new(td),
            td,
            decoded: DecodeCache::new(),
            mtrrs: Mtrrs::new(address_bits),
            cpuid,
            misc_enable: msr::MISC_ENABLE_RESET,
            shared_bit: layout.shared_bit,
            deadline: Deadline::Set(None),
            stale_hints: 0,
            unexecuted: None,
            statistics: Statistics::default(),
        })
    }

    /// Runs L2 to its end.
    pub fn run(&mut self) -> End {
        loop {
            if let Err(end) = self.step() {
                return end;
            }
        }
    }

    /// Enters L2 once and answers its exit.
    pub fn step(&mut self) -> Result<(), End> {
        self.prepare_entry()?;
        let (outcome, exit) = self.vcpu.enter(&mut self.processor)?;
        self.statistics.count(&outcome);
        if self.processor.take_interrupts().console {
            self.devices.receive(&mut self.host);
        }
        self.answer(&exit, &outcome)?;
        match self.vcpu.take_failure() {
            Some(failure) => Err(End::Failure(failure)),
            None => Ok(()),
        }
    }

    /// Counts so far.
    pub fn statistics(&self) -> Statistics {
        let mut statistics = self.statistics.clone();
        statistics.tpm_accesses = self.devices.tpm_accesses();
        statistics.decoded = self.decoded.statistics();
        statistics
    }

    /// L2's registers and code, for a report to the host, in a TD whose `attributes` let the host
    /// read them anyway. In any other, a host that takes a page away or sends L1 stale hints would
    /// learn what L2 was working on.
    pub fn snapshot(&self, attributes: TdAttributes) -> Option<Snapshot> {
        attributes.debug().then(|| Snapshot {
            instruction: self.unexecuted,
            ..self.vcpu.snapshot()
        })
    }

    /// The TPM, once L2 is over.
    pub fn tpm(&mut self) -> &mut E::Tpm {
        &mut self.devices.tpm
    }

    /// Brings L2's VMCS to what the devices ask for. In a run of TPM accesses nothing changes,
    /// and this makes no TDCALL.
    fn prepare_entry(&mut self) -> Result<(), Failure> {
        // A deadline that passed while L1 was at work would end the next run before it began.
        let expiry = self.devices.apic.timer_expiry();
        if expiry.is_some_and(|expiry| expiry <= self.processor.tsc()) {
            self.timer_exit();
        }
        if self.devices.take_apic_mode_change() {
            let x2apic = self.devices.apic.mode() == Mode::X2Apic;
            self.vcpu.set_x2apic_native(x2apic)?;
        }
        if let Some(vectors) = self.devices.ioapic.take_changed_level_vectors() {
            self.vcpu.set_eoi_exits(vectors)?;
        }
        if self.deadline != Deadline::Set(self.devices.apic.timer_expiry()) {
            self.set_deadline()?;
        }
        if self.devices.apic.nmi_pending() && self.vcpu.inject_nmi()? {
            self.devices.apic.take_nmi();
        }
        if let Some(status) = self.devices.apic.take_changed_status() {
            self.vcpu.set_interrupt_status(status.bits());
        }
        Ok(())
    }

    fn answer(&mut self, exit: &Exit, outcome: &vp_enter::Outcome) -> Result<(), End> {
        if matches!(exit.reason, Reason::NotEntered) {
            return Ok(());
        }
        if let Some(event) = exit.idt_vectoring {
            self.statistics.reinjected += 1;
            self.vcpu.inject(event);
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
            _ => self.stale_hints = 0,
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
                let effect = self.devices.apic.virtualized_eoi(vector);
                self.devices.apply(effect);
                Ok(())
            }
            Reason::ApicWrite { offset } => {
                self.devices.apic.virtualized_write(offset);
                Ok(())
            }
            Reason::ControlRegister(access) => self.control_register(exit, access),
            Reason::Xsetbv => self.instruction(exit, Self::xsetbv),
            Reason::Tdcall => self.tdcall(exit),
            Reason::NotEntered | Reason::ExternalInterrupt | Reason::TprBelowThreshold => Ok(()),
            Reason::NmiWindow => Ok(self.vcpu.set_nmi_window(false)?),
            Reason::InterruptWindow => Ok(self.vcpu.clear_interrupt_window()?),
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
                platform.vcpu.flush_translations();
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
                if exception.event.vector == PAGE_FAULT {
                    self.vcpu.set_cr2(exception.qualification);
                }
                self.vcpu.inject(exception.event);
                Ok(())
            }
            Reason::TripleFault => Err(End::TripleFault {
                rip: self.vcpu.rip(),
                event: exit.idt_vectoring,
            }),
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

    /// Completes an instruction, or injects its fault.
    fn instruction(
        &mut self,
        exit: &Exit,
        execute: impl FnOnce(&mut Self) -> Result<(), Refusal>,
    ) -> Result<(), End> {
        match execute(self) {
            Ok(()) => l2_exit::advance(exit, &mut self.vcpu),
            Err(Refusal::Fault(event)) => self.vcpu.inject(event),
            Err(Refusal::Failure(failure)) => return Err(End::Failure(failure)),
        }
        Ok(())
    }

    fn control_register(&mut self, exit: &Exit, access: ControlRegisterAccess) -> Result<(), End> {
        // Outside 64-bit code the operand has 32 bits (SDM Vol. 2, "MOV—Move to/from Control
        // Registers"); what the upper half of the register holds is left over.
        let mask = if exit.is_64_bit(&self.vcpu) {
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
            self.vcpu.inject(event);
        }
    }

    fn guest_error(&mut self, error: impl Into<GuestError>) -> End {
        let error = error.into();
        if let GuestError::Emulation(error) = &error {
            self.unexecuted = error.instruction();
        }
        End::GuestError {
            rip: self.vcpu.rip(),
            error,
        }
    }
}

const PAGE_FAULT: u8 = 14;

/// What the module's TSC_DEADLINE field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deadline {
    /// This expiry, or none.
    Set(Option<u64>),
    /// One that passed.
    Passed,
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
