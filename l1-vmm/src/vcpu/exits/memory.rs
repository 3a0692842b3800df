//! EPT violations: accesses to devices, to nothing, and to what L2 must not reach.

use l2_exit::exit::{EptViolation, Exit, Origin};
use l2_exit::{MmioBus, mmio};

use super::Platform;
use crate::machine::devices::Devices;
use crate::run::end::{End, GuestError};
use crate::run::environment::{Environment, L2Memory, Owner, Processor};

/// So many host-routed exits in a row that do not fit the instruction at L2's RIP are taken for
/// late news. One more, and L2 is stuck at an instruction that cannot be emulated.
const STALE_HINTS: u32 = 16;

/// L2's guest-physical addresses outside its memory.
pub(super) struct Bus<'a, E: Environment> {
    pub(super) devices: &'a mut Devices<E::Vapic, E::Tpm>,
    pub(super) memory: &'a E::Memory,
    pub(super) processor: &'a E::Processor,
    pub(super) shared_bit: u64,
}

impl<E: Environment> MmioBus for Bus<'_, E> {
    fn claims(&self, gpa: u64) -> bool {
        let gpa = gpa & !self.shared_bit;
        // Where nothing is, reads are all ones and writes are lost, as on a PC.
        self.devices.window(gpa).is_some() || self.memory.owner(gpa) == Owner::Nobody
    }

    fn read(&mut self, gpa: u64, into: &mut [u8]) {
        let processor = self.processor;
        self.devices
            .read_memory(gpa & !self.shared_bit, || processor.tsc(), into);
    }

    fn write(&mut self, gpa: u64, from: &[u8]) {
        let processor = self.processor;
        self.devices
            .write_memory(gpa & !self.shared_bit, || processor.tsc(), from);
    }
}

impl<E: Environment> Platform<'_, E> {
    pub(super) fn memory_access(
        &mut self,
        exit: &Exit,
        violation: &EptViolation,
    ) -> Result<(), End> {
        if violation.nmi_unblocked && exit.idt_vectoring.is_none() {
            self.vcpu.block_nmi()?;
        }
        let host_routed = exit.origin == Origin::HostRouted;
        let gpa = violation.gpa & !self.shared_bit;
        if self.devices.window(gpa).is_none() {
            match self.memory.owner(gpa) {
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
        let mut bus = Bus::<E> {
            devices: &mut self.devices,
            memory: &self.memory,
            processor: &self.processor,
            shared_bit: self.shared_bit,
        };
        let result = mmio::emulate(
            exit,
            violation,
            &mut self.vcpu,
            &self.memory,
            &mut bus,
            &mut self.decoded,
        );
        match result {
            Ok(outcome) => {
                self.stale_hints = 0;
                self.completed(outcome);
                Ok(())
            }
            Err(_) if host_routed && self.stale_hints < STALE_HINTS => {
                self.stale_hints += 1;
                Ok(())
            }
            Err(error) => Err(self.guest_error(error)),
        }
    }
}
