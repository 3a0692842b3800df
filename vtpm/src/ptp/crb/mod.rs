//! The command response buffer (CRB) interface: its registers, and a command's way through them.
//!
//! Commands and responses are not moved through a register: they lie in a [`DataBuffer`], which a guest that can reach
//! it without exits finds at the address that the registers give. The same bytes are behind the registers, in the
//! active locality's page, for firmware that does not look at the address (EDK2). At START the command is copied once,
//! and only then looked at.

pub mod bits;
mod command;
mod interrupts;

#[cfg(test)]
mod conformance;

use alloc::boxed::Box;
use core::ops::Range;

use attestation::journal::TpmInterface;
use tcg_defs::ptp::crb as offset;
use tcg_defs::ptp::{BASE, LOCALITY_SIZE};

use self::bits::{CtrlReq, IntEnable, LocCtrl, LocState, LocSts};
use self::command::{Action, Command, Event};
use self::interrupts::Occurrence;
use super::chip::Chip;
use super::data_buffer::{self, DataBuffer};
use super::interrupts::Interrupts;
use super::localities::{Asked, Change};
use super::register_pages::Shown;
use super::selection::CRB_ID;
use super::window::Place;
use crate::{Engine, Locality};

/// The interface by InterfaceType and InterfaceVersion of TPM_CRB_INTF_ID_x: what the journal's `start` calls it.
pub const NAME: &str = TpmInterface::Crb.name();

// PTP 1.05, "TPM_CRB_INTF_ID_x": CRB interface, version 1.
const _: () = assert!(CRB_ID.interface_type() == 1 && CRB_ID.interface_version() == 1);

/// CANCEL and START: bit 0, whatever the other bits are.
const SET: u32 = 1;

/// TPM_CRB_CTRL_START_x, and what it is while a command is executed.
pub(super) const START: u32 = offset::CTRL_START;
pub(super) const STARTED: u32 = SET;

/// Nothing enabled, nothing occurred.
const INTERRUPTS: Interrupts = Interrupts::new(0, IntEnable::WRITABLE);

/// Bytes that are shown at once.
const CHUNK: usize = 256;

/// The state of the registers.
pub(super) struct Crb {
    command: Command,
    buffer: Box<dyn DataBuffer + Send>,
    /// Bytes of the buffer that a command or response has had in it.
    used: usize,
    /// Who wrote into it last.
    owner: Option<Locality>,
    /// TPM_CRB_CTRL_CANCEL_x, as it was written.
    cancel: u32,
    interrupts: Interrupts,
    /// What of the buffer is other than when [`show_data`](Self::show_data) was called.
    changed: Range<usize>,
}

impl Crb {
    /// As after a platform reset.
    pub(super) fn new(buffer: Box<dyn DataBuffer + Send>) -> Self {
        let mut crb = Self {
            command: Command::IDLE,
            buffer,
            used: data_buffer::SIZE,
            owner: None,
            cancel: 0,
            interrupts: INTERRUPTS,
            changed: 0..0,
        };
        crb.clear();
        crb
    }

    /// The platform was reset.
    pub(super) fn reset(&mut self) {
        // What the guest wrote into it besides commands is not the next one's either.
        self.used = data_buffer::SIZE;
        self.clear();
        self.command = Command::IDLE;
        self.owner = None;
        self.cancel = 0;
        self.interrupts = INTERRUPTS;
    }

    /// The guest reads at `place`, which `into` does not go beyond.
    pub(super) fn read<E: Engine>(&mut self, chip: &Chip<E>, place: Place, into: &mut [u8]) {
        if place.register >= offset::DATA_BUFFER {
            match chip.arbitration.active() == Some(place.locality) {
                true => self.buffer.read(data_offset(place), into),
                false => into.fill(0xff),
            }
            return;
        }
        place.read(self.register(chip, place.locality, place.register), into);
    }

    /// What the register reads as; the data buffer is none.
    pub(super) fn register<E: Engine>(
        &self,
        chip: &Chip<E>,
        locality: Locality,
        register: u32,
    ) -> u32 {
        let active = chip.arbitration.active() == Some(locality);
        let address = self.address(locality);
        match register {
            offset::LOC_STATE => LocState::new()
                .with_tpm_reg_valid_sts(true)
                .with_tpm_established(!chip.established())
                .with_loc_assigned(chip.arbitration.active().is_some())
                .with_active_locality(chip.arbitration.active().map_or(0, Locality::number))
                .into_bits(),
            offset::LOC_STS => LocSts::new()
                .with_granted(active)
                .with_been_seized(chip.arbitration.was_seized(locality))
                .into_bits(),
            offset::INTF_ID_VENDOR => super::fifo::bits::DID_VID,
            offset::CTRL_STS => self.command.status().into_bits(),
            offset::CTRL_CANCEL => self.cancel,
            offset::CTRL_START => u32::from(self.command.is_executed()) * STARTED,
            offset::INT_ENABLE => self.interrupts.enable(locality),
            offset::INT_STS => self.interrupts.status(locality),
            offset::CTRL_CMD_SIZE | offset::CTRL_RSP_SIZE => offset::DATA_BUFFER_SIZE,
            offset::CTRL_CMD_LADDR | offset::CTRL_RSP_LADDR => address as u32,
            offset::CTRL_CMD_HADDR | offset::CTRL_RSP_HADDR => (address >> 32) as u32,
            // LOC_CTRL and CTRL_REQ: whatever is written there is over by the time of a read.
            _ => 0,
        }
    }

    /// Whether this write starts a command.
    pub(super) fn starts<E: Engine>(&self, chip: &Chip<E>, place: Place, from: &[u8]) -> bool {
        place.register == offset::CTRL_START
            && chip.arbitration.active() == Some(place.locality)
            && !self.command.is_executed()
            && place.written(from).value & SET != 0
    }

    /// The buffer is behind the registers of who has the TPM, and all ones are there for the others. What the guest writes
    /// to the buffer's address is not seen behind the registers before the command has been executed.
    pub(super) fn show_data<E: Engine>(&mut self, chip: &Chip<E>, shown: &mut Shown) {
        let active = chip.arbitration.active();
        if shown.active != active {
            if let Some(former) = shown.active {
                show_each(0..data_buffer::SIZE, shown, former, |_, bytes| {
                    bytes.fill(0xff)
                });
            }
            shown.active = active;
            self.changed = 0..data_buffer::SIZE;
        }
        if let Some(active) = active {
            show_each(self.changed.clone(), shown, active, |at, bytes| {
                self.buffer.read(at, bytes);
            });
        }
        self.changed = 0..0;
    }

    /// These bytes of the buffer may be others now.
    fn change(&mut self, bytes: Range<usize>) {
        let end = bytes.end.min(data_buffer::SIZE);
        self.changed = match self.changed.is_empty() {
            true => bytes.start..end,
            false => self.changed.start.min(bytes.start)..self.changed.end.max(end),
        };
    }

    /// The guest writes at `place`, which `from` does not go beyond.
    pub(super) fn write<E: Engine>(&mut self, chip: &mut Chip<E>, place: Place, from: &[u8]) {
        let locality = place.locality;
        let active = chip.arbitration.active() == Some(locality);
        let written = place.written(from);
        match place.register {
            offset::LOC_CTRL => {
                self.write_locality(chip, locality, LocCtrl::from_bits(written.value));
            }
            offset::CTRL_REQ if active => {
                let request = CtrlReq::from_bits(written.value);
                match (request.cmd_ready(), request.go_idle()) {
                    (true, false) => self.handle(chip, locality, Event::CommandReady),
                    (false, true) => self.handle(chip, locality, Event::GoIdle),
                    // Two at once would contradict each other.
                    _ => {}
                }
            }
            // What is started later is not cancelled.
            offset::CTRL_CANCEL if active => {
                self.cancel = written.over(self.cancel) & SET;
                if written.value & SET != 0 {
                    chip.cancel();
                }
            }
            offset::CTRL_START if self.starts(chip, place, from) => {
                self.handle(chip, locality, Event::Start);
            }
            offset::INT_ENABLE if active => self.interrupts.write_enable(locality, written),
            offset::INT_STS if active => self.interrupts.write_status(locality, written),
            offset::DATA_BUFFER.. if active => {
                let at = data_offset(place);
                self.buffer.write(at, from);
                self.change(at..at + from.len());
            }
            _ => {}
        }
    }

    /// Who asks for the TPM knows that it was taken from it.
    fn write_locality<E: Engine>(
        &mut self,
        chip: &mut Chip<E>,
        locality: Locality,
        control: LocCtrl,
    ) {
        if control.reset_establishment_bit() && locality >= Locality::Three {
            let established = chip.established();
            chip.reset_establishment(locality);
            if established && !chip.established() {
                self.occur(locality, Occurrence::EstablishmentClear);
            }
        }
        let asked = Asked {
            relinquish: control.relinquish(),
            seize: control.seize(),
            request: control.request_access(),
        };
        if asked.request && !asked.seize {
            chip.arbitration.forget_seizure(locality);
        }
        if let Some(change) = chip.arbitration.ask(locality, asked) {
            chip.abandon();
            chip.buffers.clear();
            self.apply(change);
        }
    }

    /// The TPM went from one locality to another.
    fn apply(&mut self, change: Change) {
        self.command.leave();
        if change.to.is_some() && change.to != self.owner {
            // What another locality wrote there, executed or not.
            self.used = data_buffer::SIZE;
            self.owner = change.to;
        }
        self.clear();
        if let Some(to) = change.to {
            self.occur(to, Occurrence::LocalityChange);
        }
    }

    fn handle<E: Engine>(&mut self, chip: &mut Chip<E>, locality: Locality, event: Event) {
        let action = self.command.handle(event);
        if event == Event::CommandReady {
            self.occur(locality, Occurrence::CommandReady);
        }
        match action {
            Action::None => {}
            Action::Clear => self.clear(),
            Action::Execute => {
                let length = chip
                    .buffers
                    .load(data_buffer::SIZE, |at, into| self.buffer.read(at, into));
                self.used = self.used.max(length);
                // The guest may have written it where no exit is.
                self.change(0..length);
                if chip.execute(locality) {
                    self.completed(chip);
                }
            }
            Action::Abandon => {
                chip.abandon();
                chip.buffers.clear();
                self.clear();
            }
        }
    }

    /// The command that runs, if one does, has its next slice.
    pub(super) fn go_on<E: Engine>(&mut self, chip: &mut Chip<E>, until: Option<u64>) {
        if chip.go_on(until) {
            self.completed(chip);
        }
    }

    /// The response is there, in the access that gave the command or later.
    fn completed<E: Engine>(&mut self, chip: &mut Chip<E>) {
        self.answer(chip.buffers.response(data_buffer::SIZE));
        chip.buffers.clear();
        self.command.complete();
        if let Some(locality) = chip.arbitration.active() {
            self.occur(locality, Occurrence::Start);
        }
    }

    fn occur(&mut self, locality: Locality, occurrence: Occurrence) {
        self.interrupts.occur(locality, occurrence.bits());
    }

    /// Whether the interrupt line is asserted.
    pub(super) const fn line(&self) -> bool {
        self.interrupts.line()
    }

    /// The response is in the buffer, and nothing of what was longer.
    fn answer(&mut self, response: &[u8]) {
        self.buffer.write(0, response);
        let rest = self.used.saturating_sub(response.len());
        self.buffer.zero(response.len(), rest);
        self.change(0..self.used.max(response.len()));
        self.used = response.len();
    }

    /// Nothing of command and response stays.
    fn clear(&mut self) {
        self.buffer.zero(0, self.used);
        self.change(0..self.used);
        self.used = 0;
    }

    /// Where `locality` finds the buffer.
    fn address(&self, locality: Locality) -> u64 {
        self.buffer.address().unwrap_or_else(|| {
            let page = BASE + LOCALITY_SIZE * u64::from(locality.number());
            page + u64::from(offset::DATA_BUFFER)
        })
    }
}

/// Shows `bytes` of what is behind the registers in this locality's page; `get` gives those at an offset.
fn show_each(
    bytes: Range<usize>,
    shown: &mut Shown,
    locality: Locality,
    get: impl Fn(usize, &mut [u8]),
) {
    let mut chunk = [0; CHUNK];
    for at in bytes.clone().step_by(CHUNK) {
        let length = (bytes.end - at).min(CHUNK);
        if let Some(part) = chunk.get_mut(..length) {
            get(at, part);
            shown.bytes(locality, offset::DATA_BUFFER + at as u32, part);
        }
    }
}

/// Where in the buffer an access at `place` begins.
fn data_offset(place: Place) -> usize {
    (place.offset() - offset::DATA_BUFFER) as usize
}
