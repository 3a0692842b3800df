//! EPT violations: accesses to devices, to nothing, and to what L2 must not reach.

use l2_exit::exit::{EptViolation, Exit, Origin};
use l2_exit::{MmioBus, mmio};
use x86_defs::paging::PAGE_4K;

use super::L2;
use crate::machine::Machine;
use crate::machine::devices::Devices;
use crate::machine::host::HostPorts;
use crate::machine::map::{self, Row};
use crate::run::end::{End, GuestError};
use crate::run::environment::{Environment, L2Memory, Owner, Processor};
use crate::vcpu::apic::{Effect, LocalApic};

/// So many host-routed exits in a row that do not fit the instruction at L2's RIP are taken for
/// late news. One more, and L2 is stuck at an instruction that cannot be emulated.
const STALE_HINTS: u32 = 16;

/// What answers in a page of L2's guest-physical addresses.
#[derive(Clone, Copy, Debug)]
pub(super) enum Window {
    /// A device of the machine's.
    Device(&'static Row<u64>),
    /// The PCI bus: configuration space, and the devices' BARs.
    Pci,
    /// The virtual processor's own local APIC, in xAPIC mode.
    LocalApic,
}

/// L2's guest-physical addresses outside its memory.
pub(super) struct Bus<'a, 't, E: Environment> {
    devices: &'a mut Devices<E::Tpm, HostPorts<'t, E::Raw>>,
    apic: &'a mut LocalApic<E::Vapic>,
    memory: &'a E::Memory,
    processor: &'a E::Processor,
    shared_bit: u64,
    /// The page of the access, and what is in it. Windows are whole pages.
    looked_up: (u64, Option<Window>),
}

const fn page(gpa: u64) -> u64 {
    gpa & !(PAGE_4K - 1)
}

impl<'a, 't, E: Environment> Bus<'a, 't, E> {
    /// For an access at `gpa` (without the shared bit), where `window` is.
    pub(super) fn new(
        machine: &'a mut Machine<'t, E>,
        apic: &'a mut LocalApic<E::Vapic>,
        processor: &'a E::Processor,
        gpa: u64,
        window: Option<Window>,
    ) -> Self {
        Self {
            devices: &mut machine.devices,
            apic,
            memory: &machine.memory,
            processor,
            shared_bit: machine.shared_bit,
            looked_up: (page(gpa), window),
        }
    }

    /// What is at `gpa` (without the shared bit). Looked up once for the page of the access.
    fn window(&self, gpa: u64) -> Option<Window> {
        let (known, window) = self.looked_up;
        if known == page(gpa) {
            window
        } else {
            window_of(self.devices, self.apic, gpa)
        }
    }
}

fn window_of<T, H, P: crate::run::environment::VapicPage>(
    devices: &Devices<T, H>,
    apic: &LocalApic<P>,
    gpa: u64,
) -> Option<Window> {
    match map::memory(gpa) {
        Some(row) => Some(Window::Device(row)),
        None if devices.pci.claims(gpa) => Some(Window::Pci),
        None => apic.has_page(gpa).then_some(Window::LocalApic),
    }
}

impl<E: Environment> MmioBus for Bus<'_, '_, E> {
    fn claims(&self, gpa: u64) -> bool {
        let gpa = gpa & !self.shared_bit;
        // Where nothing is, reads are all ones and writes are lost, as on a PC.
        self.window(gpa).is_some() || self.memory.owner(gpa) == Owner::Nobody
    }

    fn read(&mut self, gpa: u64, into: &mut [u8]) {
        let gpa = gpa & !self.shared_bit;
        match self.window(gpa) {
            Some(Window::Device(row)) => self.devices.read_memory(row, gpa, into),
            Some(Window::Pci) => self.devices.pci.read_memory(gpa, into),
            Some(Window::LocalApic) => {
                self.apic
                    .read_page(gpa & (PAGE_4K - 1), self.processor.tsc(), into);
            }
            None => into.fill(0xFF),
        }
    }

    fn write(&mut self, gpa: u64, from: &[u8]) {
        let gpa = gpa & !self.shared_bit;
        match self.window(gpa) {
            Some(Window::Device(row)) => self.devices.write_memory(row, gpa, from, self.apic),
            Some(Window::Pci) => self.devices.pci.write_memory(gpa, from),
            Some(Window::LocalApic) => {
                let now = self.processor.tsc();
                let effect = self.apic.write_page(gpa & (PAGE_4K - 1), from, now);
                if let Effect::EndOfInterrupt(vector) = effect {
                    self.devices.ioapic.end_of_interrupt(vector, self.apic);
                }
            }
            None => {}
        }
    }
}

impl<'t, E: Environment> L2<'t, E> {
    /// What is at `gpa`, without the shared bit.
    fn window(&self, gpa: u64) -> Option<Window> {
        window_of(&self.machine.devices, &self.vcpu.apic, gpa)
    }

    /// The bus for an access at `gpa`, without the shared bit.
    pub(super) fn bus(&mut self, gpa: u64) -> Bus<'_, 't, E> {
        let window = self.window(gpa);
        let vcpu = &mut self.vcpu;
        Bus::new(
            &mut self.machine,
            &mut vcpu.apic,
            &vcpu.processor,
            gpa,
            window,
        )
    }

    pub(super) fn memory_access(
        &mut self,
        exit: &Exit,
        violation: &EptViolation,
    ) -> Result<(), End> {
        if violation.nmi_unblocked && exit.idt_vectoring.is_none() {
            self.vcpu.vmcs.block_nmi()?;
        }
        let host_routed = exit.origin == Origin::HostRouted;
        let gpa = violation.gpa & !self.machine.shared_bit;
        let window = self.window(gpa);
        if window.is_none() {
            match self.machine.memory.owner(gpa) {
                Owner::Nobody => {}
                Owner::L2 if violation.gpa != gpa => {
                    return Err(self.guest_error(GuestError::SharedMemory { gpa }));
                }
                // The host took long to map the page, or has mapped it by now: try again.
                Owner::L2 if host_routed => return Ok(()),
                Owner::L2 => {
                    let pending = violation.pending;
                    return Err(self.guest_error(GuestError::LostMemory { gpa, pending }));
                }
                Owner::L1 => {
                    let EptViolation { write, fetch, .. } = *violation;
                    return Err(self.guest_error(GuestError::L1Memory { gpa, write, fetch }));
                }
            }
        }
        let (machine, vcpu) = (&mut self.machine, &mut self.vcpu);
        let mut bus = Bus::new(machine, &mut vcpu.apic, &vcpu.processor, gpa, window);
        let memory = bus.memory;
        let result = mmio::emulate(
            exit,
            violation,
            &mut vcpu.vmcs,
            memory,
            &mut bus,
            &mut vcpu.decoded,
        );
        match result {
            Ok(outcome) => {
                self.vcpu.stale_hints = 0;
                self.completed(outcome);
                Ok(())
            }
            Err(_) if host_routed && self.vcpu.stale_hints < STALE_HINTS => {
                self.vcpu.stale_hints += 1;
                Ok(())
            }
            Err(error) => Err(self.guest_error(error)),
        }
    }
}
