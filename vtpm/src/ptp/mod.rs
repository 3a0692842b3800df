//! The TPM's registers (TCG PC Client Platform TPM Profile, PTP).
//!
//! [`Interface`] answers accesses to the five pages of registers at [`tcg_defs::ptp::BASE`]. It follows the PTP
//! where drivers do, and drivers where they differ:
//!
//! * Everything happens within the access that causes it, but for a command that takes longer than a slice of the engine's
//!   time ([`Engine::go_on`]): a granted locality, a ready command, most responses are there at the first poll. A longer
//!   command has a slice at each poll, and when [`Interface::go_on`] is called.
//! * A register takes accesses of any width; each byte of the register acts as in a wide access.
//! * What does not exist, or belongs to another locality, reads as all ones and ignores writes.
//! * A locality that gives up the TPM, or loses it, loses its command and response: the buffers are
//!   cleared, and no other locality ever reads them.
//! * Both interfaces have an interrupt line, whose level is [`Interface::line`].
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
//! | `interrupts` | what has occurred to each locality, and the line |
//! | [`fifo`] | the registers of the FIFO interface (TIS, in PTP's version for TPM 2.0) |
//! | [`crb`] | the registers of the command response buffer interface |
//! | [`data_buffer`] | the memory that the latter's commands and responses lie in |
//! | [`register_pages`] | memory in which the guest reads the latter without exits |

mod buffers;
mod chip;
pub mod crb;
pub mod data_buffer;
pub mod fifo;
mod interrupts;
mod localities;
pub mod register_pages;
mod selection;
mod window;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod driver;

use alloc::boxed::Box;

use tcg_defs::ptp::fifo::INTERFACE_ID;

use crate::service::{Answer, Call, Serve};
use crate::sliced::Sliced;
use crate::{Engine, Locality, Work};

use self::chip::Chip;
use self::crb::Crb;
use self::data_buffer::DataBuffer;
use self::fifo::Fifo;
use self::register_pages::{CHANGING, RegisterPages, Shown};
use self::selection::{CRB_ID, FIFO_ID, InterfaceId, Selection};
use self::window::{PAGE, Place};

// The register that tells the interfaces apart is at one place in both.
const _: () = assert!(INTERFACE_ID == tcg_defs::ptp::crb::INTF_ID);

/// The registers of one interface.
enum Registers {
    Fifo(Fifo),
    Crb(Crb),
}

impl<E: Engine + Serve + Send> Interface<Sliced<E>> {
    /// Answers a call of a service. `None`: not yet, and the guest makes it again. A command of the registers' that runs
    /// comes first, and has a slice.
    pub fn serve(&mut self, call: Call) -> Option<Answer> {
        if self.chip.is_running() {
            self.continue_command(Some(u64::MAX));
            return self.chip.engine.take_answer(&call);
        }
        self.chip.engine.serve(call)
    }
}

/// The registers in front of an engine, of the interface that it was made with.
pub struct Interface<E> {
    chip: Chip<E>,
    selection: Selection,
    registers: Registers,
    shown: Option<Shown>,
}

impl<E: Engine> Interface<E> {
    /// The FIFO interface as after a platform reset. `engine` has had its _TPM_Init.
    pub fn new(engine: E) -> Self {
        Self {
            chip: Chip::new(engine),
            selection: Selection::new(FIFO_ID),
            registers: Registers::Fifo(Fifo::RESET),
            shown: None,
        }
    }

    /// The CRB interface as after a platform reset, with commands and responses in `buffer`. `engine` has had its
    /// _TPM_Init.
    pub fn crb(engine: E, buffer: Box<dyn DataBuffer + Send>) -> Self {
        Self {
            chip: Chip::new(engine),
            selection: Selection::new(CRB_ID),
            registers: Registers::Crb(Crb::new(buffer)),
            shown: None,
        }
    }

    /// The guest reads the registers of a CRB interface in `pages`, too, which get their content now. Those of the FIFO
    /// interface it cannot: a read there takes a byte.
    pub fn show_in(&mut self, pages: Box<dyn RegisterPages + Send>) {
        if matches!(self.registers, Registers::Fifo(_)) {
            return;
        }
        let mut shown = Shown::new(pages);
        let mut bytes = [0; 64];
        for locality in Locality::ALL {
            for at in (0..PAGE).step_by(bytes.len()) {
                self.read(u32::from(locality.number()) * PAGE + at, &mut bytes);
                shown.bytes(locality, at, &bytes);
            }
        }
        shown.active = self.chip.arbitration.active();
        self.shown = Some(shown);
        self.show();
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
        let reset = self.chip.reset();
        self.show();
        reset
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
        self.show();
    }

    /// What the engine has to do besides what the guest's accesses have it do.
    pub fn has_work(&self) -> Work {
        match self.chip.is_running() {
            true => Work::Command,
            false => self.chip.engine.has_work(),
        }
    }

    /// Does some of it, to `until` on the TSC or as long as the engine's slices are: the command that runs goes on, or what
    /// nobody waits for.
    pub fn go_on(&mut self, until: u64) {
        if self.chip.is_running() {
            self.continue_command(Some(until));
        } else {
            self.chip.engine.work(until);
        }
    }

    fn continue_command(&mut self, until: Option<u64>) {
        match &mut self.registers {
            Registers::Fifo(fifo) => fifo.go_on(&mut self.chip, until),
            Registers::Crb(crb) => crb.go_on(&mut self.chip, until),
        }
        if !self.chip.is_running() {
            self.show();
        }
    }

    /// Whether a read of `place` asks whether the command that runs is done.
    fn polls(&self, place: Place) -> bool {
        let asked = match self.registers {
            Registers::Fifo(_) => tcg_defs::ptp::fifo::STS,
            Registers::Crb(_) => crb::START,
        };
        self.chip.is_running()
            && place.register == asked
            && self.chip.arbitration.active() == Some(place.locality)
    }

    /// Whether the interrupt line is asserted.
    pub const fn line(&self) -> bool {
        match &self.registers {
            Registers::Fifo(fifo) => fifo.line(),
            Registers::Crb(crb) => crb.line(),
        }
    }

    /// What the guest reads in its pages is as the registers are.
    fn show(&mut self) {
        let Some(mut shown) = self.shown.take() else {
            return;
        };
        if let Registers::Crb(crb) = &mut self.registers {
            // Nobody finds another locality's data where it has the TPM already.
            crb.show_data(&self.chip, &mut shown);
            for locality in Locality::ALL {
                for register in CHANGING {
                    let value = match register {
                        INTERFACE_ID => self.selection.read().into_bits(),
                        _ => crb.register(&self.chip, locality, register),
                    };
                    shown.register(locality, register, value);
                }
            }
        }
        self.shown = Some(shown);
    }

    fn read_at(&mut self, place: Place, into: &mut [u8]) {
        if self.polls(place) {
            self.continue_command(None);
        }
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
            (_, Registers::Crb(crb)) => {
                // Another processor sees that the command runs.
                if let Some(shown) = self.shown.as_mut()
                    && crb.starts(&self.chip, place, from)
                {
                    shown.register(place.locality, crb::START, crb::STARTED);
                }
                crb.write(&mut self.chip, place, from);
            }
        }
    }
}
