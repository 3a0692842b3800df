//! The FIFO interface (TIS, in PTP's version for TPM 2.0).
//!
//! [`Interface`] answers accesses to the five pages of registers at [`tcg_defs::ptp::BASE`]. It follows the PTP
//! where drivers do, and drivers where they differ:
//!
//! * Everything happens within the access that causes it. A granted locality, a ready command, a
//!   whole response are there at the first poll.
//! * A register takes accesses of any width; each byte of the register acts as in a wide access.
//! * What does not exist, or belongs to another locality, reads as all ones and ignores writes.
//! * A locality that gives up the TPM, or loses it, loses its command and response: the buffers are
//!   cleared, and no other locality ever reads them.
//! * No interrupt is connected. The interrupt registers can be written and read back; nothing ever
//!   occurs in them.
//!
//! Locality 4 is the platform's, for dynamic launches. No guest is launched that way here: the page can be
//! read, and ignores what is written.

pub mod fifo;
mod localities;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod driver;

#[cfg(test)]
use tcg_defs::ptp::LOCALITIES;
use tcg_defs::ptp::{LOCALITY_SIZE, fifo as offset};

use crate::{Engine, Locality};

use self::fifo::bits::{self, Access, IntEnable, InterfaceId, Status};
use self::fifo::transfer::{Action, Event, Transfer};
use self::localities::{Arbitration, Change};

/// Length of one locality's page.
pub(crate) const PAGE: u32 = LOCALITY_SIZE as u32;
#[cfg(test)]
pub(crate) const SIZE: u32 = PAGE * LOCALITIES as u32;

/// What each locality has of its own, beside its claim to the TPM.
#[derive(Clone, Copy, Debug)]
struct LocalityRegisters {
    int_enable: IntEnable,
    /// It was ready for a command when it gave up the TPM, and still will be.
    ready: bool,
}

impl LocalityRegisters {
    const RESET: Self = Self {
        int_enable: IntEnable::RESET,
        ready: false,
    };
}

/// A FIFO interface in front of an engine.
pub struct Interface<E> {
    engine: E,
    arbitration: Arbitration,
    localities: [LocalityRegisters; 5],
    transfer: Transfer,
    /// Common to all localities.
    int_vector: u8,
    interface_locked: bool,
    /// The engine's, kept here because every read of ACCESS shows it.
    established: bool,
}

impl<E: Engine> Interface<E> {
    /// The interface as after a platform reset. `engine` has had its _TPM_Init.
    pub fn new(engine: E) -> Self {
        let established = engine.establishment();
        Self {
            engine,
            arbitration: Arbitration::default(),
            localities: [LocalityRegisters::RESET; 5],
            transfer: Transfer::new(),
            int_vector: 0,
            interface_locked: false,
            established,
        }
    }

    /// The engine, for what is no register interface's business.
    pub const fn engine(&self) -> &E {
        &self.engine
    }

    /// As [`engine`](Self::engine), to change it.
    pub const fn engine_mut(&mut self) -> &mut E {
        &mut self.engine
    }

    /// The platform was reset: every register as at first, no response, _TPM_Init to the engine.
    pub fn reset(&mut self) -> Result<(), crate::EngineFailure> {
        self.transfer.leave();
        self.arbitration = Arbitration::default();
        self.localities = [LocalityRegisters::RESET; 5];
        self.int_vector = 0;
        self.interface_locked = false;
        let result = self.engine.reset();
        self.established = self.engine.establishment();
        result
    }

    /// The guest reads `into.len()` bytes at `offset` from [`tcg_defs::ptp::BASE`].
    pub fn read(&mut self, offset: u32, into: &mut [u8]) {
        let narrow = into.len() == 1;
        let mut at = offset;
        let mut rest = into;
        while !rest.is_empty() {
            let (part, after) = rest.split_at_mut(within_dword(at, rest.len()));
            self.read_within_dword(at, part, narrow);
            at = at.saturating_add(part.len() as u32);
            rest = after;
        }
    }

    /// The guest writes `from` at `offset` from [`tcg_defs::ptp::BASE`].
    pub fn write(&mut self, offset: u32, from: &[u8]) {
        let mut at = offset;
        let mut rest = from;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(within_dword(at, rest.len()));
            self.write_within_dword(at, part);
            at = at.saturating_add(part.len() as u32);
            rest = after;
        }
    }

    /// `into` lies within four aligned bytes. `narrow`: all that is read is one byte.
    fn read_within_dword(&mut self, at: u32, into: &mut [u8], narrow: bool) {
        let Some(locality) = Locality::new(at / PAGE) else {
            into.fill(0xff);
            return;
        };
        let register = at % PAGE;
        let active = self.arbitration.active() == Some(locality);
        let value = match register & !3 {
            offset::ACCESS => {
                let access = self.arbitration.access(locality, self.established);
                u32::from(access.into_bits())
            }
            offset::INT_ENABLE => self.registers(locality).int_enable.into_bits(),
            offset::INT_VECTOR => self.int_vector.into(),
            offset::INT_STATUS => 0,
            offset::INTF_CAPABILITY => bits::INTF_CAPABILITY.into_bits(),
            offset::STS if active => {
                let status = self.transfer.status();
                // A driver that reads the count by the byte takes the low one alone for zero.
                let burst_count = match status.burst_count() {
                    count if narrow => count.min(0xff),
                    count => count,
                };
                status.with_burst_count(burst_count).into_bits()
            }
            offset::DATA_FIFO | offset::XDATA_FIFO..offset::XDATA_FIFO_END if active => {
                into.fill_with(|| self.transfer.read());
                return;
            }
            offset::INTERFACE_ID => bits::INTERFACE_ID
                .with_intf_sel_lock(self.interface_locked)
                .into_bits(),
            offset::DID_VID => bits::DID_VID,
            offset::RID => bits::RID.into(),
            _ => u32::MAX,
        };
        let bytes = value.to_le_bytes().into_iter();
        for (place, byte) in into.iter_mut().zip(bytes.skip((at & 3) as usize)) {
            *place = byte;
        }
    }

    /// `from` lies within four aligned bytes.
    fn write_within_dword(&mut self, at: u32, from: &[u8]) {
        let Some(locality) = Locality::new(at / PAGE) else {
            return;
        };
        if locality == Locality::Four {
            return;
        }
        let register = at % PAGE;
        let active = self.arbitration.active() == Some(locality);
        // The bytes in their place, and which bits they are.
        let (mut value, mut mask) = (0u32, 0u32);
        for (position, byte) in ((at & 3)..4).zip(from) {
            value |= u32::from(*byte) << (8 * position);
            mask |= 0xff << (8 * position);
        }
        match register & !3 {
            offset::ACCESS => {
                let access = Access::from_bits((value & 0xff) as u8);
                let change = self.arbitration.write(locality, access);
                self.apply(change);
            }
            offset::INT_ENABLE if active => {
                let kept = self.registers(locality).int_enable.into_bits();
                let written = (kept & !mask) | (value & mask & IntEnable::WRITABLE);
                self.registers_mut(locality, |registers| {
                    registers.int_enable = IntEnable::from_bits(written);
                });
            }
            offset::INT_VECTOR if active && mask & 0xff != 0 => {
                self.int_vector = (value & 0xf) as u8;
            }
            offset::STS if active => self.write_status(locality, Status::from_bits(value)),
            offset::DATA_FIFO | offset::XDATA_FIFO..offset::XDATA_FIFO_END if active => {
                for byte in from {
                    self.handle(locality, Event::Write(*byte));
                }
            }
            // The only interface stays selected.
            offset::INTERFACE_ID => {
                self.interface_locked |= InterfaceId::from_bits(value).intf_sel_lock();
            }
            _ => {}
        }
    }

    /// commandCancel does nothing: no command is running while its driver can write.
    fn write_status(&mut self, locality: Locality, status: Status) {
        if status.reset_establishment_bit() && locality >= Locality::Three {
            // A failure leaves the bit as it is, which the guest can read.
            let _ = self.engine.reset_establishment(locality);
            self.established = self.engine.establishment();
        }
        // Two at once would contradict each other.
        let event = match (
            status.command_ready(),
            status.tpm_go(),
            status.response_retry(),
        ) {
            (true, false, false) => Event::CommandReady,
            (false, true, false) => Event::Go,
            (false, false, true) => Event::ResponseRetry,
            _ => return,
        };
        self.handle(locality, event);
    }

    fn handle(&mut self, locality: Locality, event: Event) {
        match self.transfer.handle(event) {
            Action::None => {}
            Action::Execute => self.execute(locality),
        }
    }

    fn execute(&mut self, locality: Locality) {
        let (command, response) = self.transfer.execution();
        let length = self.engine.execute(locality, command, response).ok();
        self.transfer.complete(length);
    }

    /// The TPM went from one locality to another.
    fn apply(&mut self, change: Option<Change>) {
        let Some(Change { from, to, seized }) = change else {
            return;
        };
        let ready = self.transfer.leave();
        if let Some(from) = from {
            self.registers_mut(from, |registers| registers.ready = ready && !seized);
        }
        if let Some(to) = to {
            self.transfer.enter(self.registers(to).ready && !seized);
            self.registers_mut(to, |registers| registers.ready = false);
        }
    }

    fn registers(&self, locality: Locality) -> LocalityRegisters {
        self.localities
            .get(usize::from(locality.number()))
            .copied()
            .unwrap_or(LocalityRegisters::RESET)
    }

    fn registers_mut(&mut self, locality: Locality, change: impl FnOnce(&mut LocalityRegisters)) {
        if let Some(registers) = self.localities.get_mut(usize::from(locality.number())) {
            change(registers);
        }
    }
}

/// How many of `length` bytes at `offset` lie within the same four aligned bytes.
fn within_dword(offset: u32, length: usize) -> usize {
    length.min(4 - (offset & 3) as usize)
}
