//! The TPM's registers (TCG PC Client Platform TPM Profile, PTP).
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
//!
//! | file | what is there |
//! | --- | --- |
//! | `window` | whose page an offset is in, and what an access of some width is to a register |
//! | `chip` | the engine, its owner and the command under way: what interfaces share |
//! | `localities` | who owns the TPM, by which of its requests |
//! | `selection` | the register that says which interface there is |
//! | `buffers` | command and response |
//! | [`fifo`] | the registers of the FIFO interface (TIS, in PTP's version for TPM 2.0) |
//! | [`crb`] | the registers of the command response buffer interface |
//! | [`data_buffer`] | the memory that the latter's commands and responses lie in |

mod buffers;
mod chip;
pub mod crb;
pub mod data_buffer;
pub mod fifo;
mod localities;
mod selection;
mod window;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod driver;

use alloc::boxed::Box;

use tcg_defs::ptp::fifo::INTERFACE_ID;

use crate::{Engine, Locality};

use self::chip::Chip;
use self::crb::Crb;
use self::data_buffer::DataBuffer;
use self::fifo::Fifo;
use self::selection::{CRB_ID, FIFO_ID, InterfaceId, Selection};
use self::window::Place;

// The register that tells the interfaces apart is at one place in both.
const _: () = assert!(INTERFACE_ID == tcg_defs::ptp::crb::INTF_ID);

/// The registers of one interface.
enum Registers {
    Fifo(Fifo),
    Crb(Crb),
}

/// The registers in front of an engine, of the interface that it was made with.
pub struct Interface<E> {
    chip: Chip<E>,
    selection: Selection,
    registers: Registers,
}

impl<E: Engine> Interface<E> {
    /// The FIFO interface as after a platform reset. `engine` has had its _TPM_Init.
    pub fn new(engine: E) -> Self {
        Self {
            chip: Chip::new(engine),
            selection: Selection::new(FIFO_ID),
            registers: Registers::Fifo(Fifo::RESET),
        }
    }

    /// The CRB interface as after a platform reset, with commands and responses in `buffer`. `engine` has had its
    /// _TPM_Init.
    pub fn crb(engine: E, buffer: Box<dyn DataBuffer + Send>) -> Self {
        Self {
            chip: Chip::new(engine),
            selection: Selection::new(CRB_ID),
            registers: Registers::Crb(Crb::new(buffer)),
        }
    }

    /// What the interface is called: [`fifo::NAME`] or [`crb::NAME`].
    pub const fn name(&self) -> &'static str {
        match self.registers {
            Registers::Fifo(_) => fifo::NAME,
            Registers::Crb(_) => crb::NAME,
        }
    }

    /// The engine, for what is no register interface's business.
    pub const fn engine(&self) -> &E {
        &self.chip.engine
    }

    /// As [`engine`](Self::engine), to change it.
    pub const fn engine_mut(&mut self) -> &mut E {
        &mut self.chip.engine
    }

    /// The platform was reset: every register as at first, no response, _TPM_Init to the engine.
    pub fn reset(&mut self) -> Result<(), crate::EngineFailure> {
        self.selection.reset();
        match &mut self.registers {
            Registers::Fifo(fifo) => *fifo = Fifo::RESET,
            Registers::Crb(crb) => crb.reset(),
        }
        self.chip.reset()
    }

    /// The guest reads `into.len()` bytes at `offset` from [`tcg_defs::ptp::BASE`].
    pub fn read(&mut self, offset: u32, into: &mut [u8]) {
        let parts = window::parts(offset, into.len());
        let mut rest = into;
        for (place, length) in parts {
            let (part, after) = rest.split_at_mut(length);
            match place {
                Some(place) => self.read_at(place, part),
                None => part.fill(0xff),
            }
            rest = after;
        }
    }

    /// The guest writes `from` at `offset` from [`tcg_defs::ptp::BASE`].
    pub fn write(&mut self, offset: u32, from: &[u8]) {
        let mut rest = from;
        for (place, length) in window::parts(offset, from.len()) {
            let (part, after) = rest.split_at(length);
            if let Some(place) = place {
                self.write_at(place, part);
            }
            rest = after;
        }
    }

    fn read_at(&mut self, place: Place, into: &mut [u8]) {
        match (place.register, &mut self.registers) {
            (INTERFACE_ID, _) => place.read(self.selection.read().into_bits(), into),
            (_, Registers::Fifo(fifo)) => fifo.read(&mut self.chip, place, into),
            (_, Registers::Crb(crb)) => crb.read(&self.chip, place, into),
        }
    }

    fn write_at(&mut self, place: Place, from: &[u8]) {
        match (place.register, &mut self.registers) {
            // The platform's.
            _ if place.locality == Locality::Four => {}
            (INTERFACE_ID, _) => {
                let id = InterfaceId::from_bits(place.written(from).value);
                self.selection.write(id);
            }
            (_, Registers::Fifo(fifo)) => fifo.write(&mut self.chip, place, from),
            (_, Registers::Crb(crb)) => crb.write(&mut self.chip, place, from),
        }
    }
}
