//! EPT violations: accesses to devices, to nothing, and to what L2 must not reach.

use l2_exit::exit::{EptViolation, Exit, Origin};
use l2_exit::{MmioBus, Outcome, mmio};
use x86_defs::paging::PAGE_4K;

use super::L2;
use crate::machine::devices::Device;
use crate::machine::map::{self, Id, Row};
use crate::machine::peers::Router;
use crate::machine::{DevicesHeld, Machine, TpmHeld};
use crate::run::end::{End, GuestError};
use crate::run::environment::{Environment, L2Memory, Owner, Processor};
use crate::vcpu::apic::{Effect, LocalApic};
use crate::vcpu::processor::Near;

/// So many host-routed exits in a row that do not fit the instruction at L2's RIP are taken for
/// late news. One more, and L2 is stuck at an instruction that cannot be emulated.
const STALE_HINTS: u32 = 16;

/// What answers in a page of L2's guest-physical addresses.
#[derive(Clone, Copy, Debug)]
pub(super) enum Window {
    /// The TPM.
    Tpm(&'static Row<u64>),
    /// Another device of the machine's.
    Device(&'static Row<u64>),
    /// The PCI bus: configuration space, and the devices' BARs.
    Pci,
    /// The virtual processor's own local APIC, in xAPIC mode.
    LocalApic,
}

/// The lock of what an instruction accesses: held to its end, so that what it reads and writes is one access to the
/// other processors, as a locked instruction demands.
enum Lock<'a, 't, E: Environment> {
    None,
    Devices(DevicesHeld<'a, 't, E>),
    Tpm(TpmHeld<'a, E>),
}

/// Another processor has the TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vcpu::exits) struct Busy;

/// L2's guest-physical addresses outside its memory.
pub(super) struct Bus<'a, 't, E: Environment> {
    machine: &'a Machine<'t, E>,
    near: Near<'a, E>,
    /// The page of the access, and what is in it. Windows are whole pages.
    looked_up: (u64, Option<Window>),
    lock: Lock<'a, 't, E>,
}

const fn page(gpa: u64) -> u64 {
    gpa & !(PAGE_4K - 1)
}

impl<'a, 't, E: Environment> Bus<'a, 't, E> {
    /// For an access at `gpa` (without the shared bit), where `window` is. Made where its caller has it: a copy would cost
    /// as much as the rest of an access.
    #[inline(always)]
    fn new(
        machine: &'a Machine<'t, E>,
        near: Near<'a, E>,
        gpa: u64,
        window: Option<Window>,
    ) -> Result<Self, Busy> {
        let lock = match window {
            Some(Window::Tpm(_)) => Lock::Tpm(machine.try_tpm().ok_or(Busy)?),
            Some(Window::Device(_) | Window::Pci) => Lock::Devices(machine.devices()),
            Some(Window::LocalApic) | None => Lock::None,
        };
        Ok(Self {
            machine,
            near,
            looked_up: (page(gpa), window),
            lock,
        })
    }

    /// What is at `gpa` (without the shared bit). Looked up once for the page of the access.
    fn window(&self, gpa: u64) -> Option<Window> {
        let (known, window) = self.looked_up;
        if known == page(gpa) {
            window
        } else {
            window_of(self.machine, self.near.router.own, gpa)
        }
    }

    /// Calls `with` with the devices. The TPM's lock may be held: the order is that one first.
    fn with_devices(
        &mut self,
        with: impl FnOnce(&mut DevicesHeld<'_, 't, E>, &mut Router<'_, E::Vapic>),
    ) {
        match &mut self.lock {
            Lock::Devices(devices) => with(devices, &mut self.near.router),
            Lock::None | Lock::Tpm(_) => with(&mut self.machine.devices(), &mut self.near.router),
        }
    }

    /// Calls `with` with the TPM. An instruction that comes to it from another device gives that one's lock back
    /// first, and waits.
    fn with_tpm(&mut self, with: impl FnOnce(&mut E::Tpm, &mut Router<'_, E::Vapic>)) {
        self.machine.count_tpm_access();
        if let Lock::Tpm(tpm) = &mut self.lock {
            with(tpm, &mut self.near.router);
            return;
        }
        self.lock = Lock::None;
        if let Some(mut tpm) = self.machine.wait_for_tpm() {
            with(&mut tpm, &mut self.near.router);
        }
    }
}

fn window_of<E: Environment>(
    machine: &Machine<'_, E>,
    apic: &LocalApic<E::Vapic>,
    gpa: u64,
) -> Option<Window> {
    match map::memory(gpa) {
        Some(row) if row.device == Id::Tpm => Some(Window::Tpm(row)),
        Some(row) => Some(Window::Device(row)),
        None if machine.pci.is_some_and(|window| window.contains(gpa)) => Some(Window::Pci),
        None => apic.has_page(gpa).then_some(Window::LocalApic),
    }
}

impl<E: Environment> MmioBus for Bus<'_, '_, E> {
    fn claims(&self, gpa: u64) -> bool {
        let gpa = gpa & !self.machine.shared_bit;
        // Where nothing is, reads are all ones and writes are lost, as on a PC.
        self.window(gpa).is_some() || self.machine.memory.owner(gpa) == Owner::Nobody
    }

    fn read(&mut self, gpa: u64, into: &mut [u8]) {
        let gpa = gpa & !self.machine.shared_bit;
        match self.window(gpa) {
            Some(Window::Tpm(row)) => {
                let machine = self.machine;
                self.with_tpm(|tpm, router| {
                    tpm.read(row.offset(gpa), into);
                    machine.update_tpm_line(tpm, router);
                });
            }
            Some(Window::Device(row)) => {
                self.with_devices(|devices, _| devices.read_memory(row, gpa, into));
            }
            Some(Window::Pci) => {
                *self.near.look_at_devices = true;
                self.with_devices(|devices, _| devices.pci.read_memory(gpa, into));
            }
            Some(Window::LocalApic) => {
                let (offset, now) = (gpa & (PAGE_4K - 1), self.near.processor.tsc());
                self.near.router.own.read_page(offset, now, into);
            }
            None => into.fill(0xFF),
        }
    }

    fn write(&mut self, gpa: u64, from: &[u8]) {
        let gpa = gpa & !self.machine.shared_bit;
        match self.window(gpa) {
            Some(Window::Tpm(row)) => {
                let machine = self.machine;
                self.with_tpm(|tpm, router| {
                    tpm.write(row.offset(gpa), from);
                    machine.update_tpm_line(tpm, router);
                });
            }
            Some(Window::Device(row)) => {
                self.with_devices(|devices, router| devices.write_memory(row, gpa, from, router));
            }
            Some(Window::Pci) => {
                *self.near.look_at_devices = true;
                self.with_devices(|devices, _| devices.pci.write_memory(gpa, from));
            }
            Some(Window::LocalApic) => {
                let (offset, now) = (gpa & (PAGE_4K - 1), self.near.processor.tsc());
                match self.near.router.own.write_page(offset, from, now) {
                    Effect::None => {}
                    Effect::EndOfInterrupt(vector) => self.with_devices(|devices, router| {
                        devices.ioapic.end_of_interrupt(vector, router);
                    }),
                    Effect::Command { command, wide } => self.near.router.command(command, wide),
                }
            }
            None => {}
        }
    }
}

impl<'t, E: Environment> L2<'t, E> {
    /// What is at `gpa`, without the shared bit.
    fn window(&self, gpa: u64) -> Option<Window> {
        window_of(&self.machine, &self.vcpu.apic, gpa)
    }

    /// The bus for an access at `gpa`, without the shared bit.
    pub(super) fn bus(&mut self, gpa: u64) -> Result<Bus<'_, 't, E>, Busy> {
        let window = self.window(gpa);
        let (near, _, _) = self.vcpu.split(&self.machine);
        Bus::new(&self.machine, near, gpa, window)
    }

    /// Another processor has the TPM: this one goes back to L2, which comes to the same instruction again.
    pub(super) fn wait_for_tpm(&mut self) {
        self.vcpu.statistics.tpm_busy += 1;
        self.machine.notices.tpm_was_busy();
        core::hint::spin_loop();
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
        let (near, vmcs, decoded) = self.vcpu.split(&self.machine);
        let Ok(mut bus) = Bus::new(&self.machine, near, gpa, window) else {
            self.wait_for_tpm();
            return Ok(());
        };
        let memory = &self.machine.memory;
        let result = mmio::emulate(exit, violation, vmcs, memory, &mut bus, decoded);
        drop(bus);
        match result {
            Ok(outcome) => {
                self.vcpu.stale_hints = 0;
                self.completed(outcome);
                if outcome == Outcome::Completed && matches!(window, Some(Window::Tpm(_))) {
                    self.run_ahead(exit)?;
                }
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
