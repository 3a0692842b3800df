//! The FIFO interface: its registers, and a command's way through them.

mod access;
pub mod bits;
mod interrupts;
mod transfer;

use attestation::journal::TpmInterface;
use tcg_defs::ptp::fifo as offset;

use self::bits::{Access, Status};
use self::interrupts::{Interrupts, Occurrence};
use self::transfer::{Action, Ended, Event, Readiness, Transfer};
use super::chip::Chip;
use super::localities::Change;
use super::selection::FIFO_ID;
use super::window::Place;
use crate::{Engine, Locality};

/// The byte of TPM_STS_x that burstCount begins in.
const COUNT: u32 = 1;

/// The interface by InterfaceType and InterfaceVersion of TPM_INTERFACE_ID_x: what the journal's `start`
/// calls it.
pub const NAME: &str = TpmInterface::Fifo.name();

// PTP 1.05, "TPM_INTERFACE_ID_x": FIFO interface as defined in PTP, version 0.
const _: () = assert!(FIFO_ID.interface_type() == 0 && FIFO_ID.interface_version() == 0);

/// The state of the registers.
pub(super) struct Fifo {
    transfer: Transfer,
    interrupts: Interrupts,
    /// What each locality finds when it gets the TPM again.
    readiness: [Readiness; Locality::ALL.len()],
}

impl Fifo {
    /// As after a platform reset.
    pub(super) const RESET: Self = Self {
        transfer: Transfer::IDLE,
        interrupts: Interrupts::RESET,
        readiness: [Readiness::Idle; Locality::ALL.len()],
    };

    /// The guest reads at `place`, which `into` does not go beyond.
    pub(super) fn read<E: Engine>(&mut self, chip: &mut Chip<E>, place: Place, into: &mut [u8]) {
        let locality = place.locality;
        let active = chip.arbitration.active() == Some(locality);
        let value = match place.register {
            offset::ACCESS => {
                let access = access::read(&chip.arbitration, locality, chip.established());
                u32::from(access.into_bits())
            }
            offset::INT_ENABLE => self.interrupts.registers.enable(locality),
            offset::INT_VECTOR => self.interrupts.vector().into(),
            offset::INT_STATUS => self.interrupts.registers.status(locality),
            offset::INTF_CAPABILITY => bits::INTF_CAPABILITY.into_bits(),
            offset::STS if active => {
                let status = self.transfer.status(&chip.buffers);
                // A driver that reads the count by the byte takes the low one alone for zero.
                let burst_count = match status.burst_count() {
                    count if place.width == 1 => count.min(0xff),
                    count => count,
                };
                if place.covers(COUNT, into.len()) {
                    self.transfer.count_is_read();
                }
                status.with_burst_count(burst_count).into_bits()
            }
            offset::DATA_FIFO | offset::XDATA_FIFO..offset::XDATA_FIFO_END if active => {
                into.fill_with(|| self.transfer.read(&mut chip.buffers));
                return;
            }
            offset::DID_VID => bits::DID_VID,
            offset::RID => bits::RID.into(),
            _ => u32::MAX,
        };
        place.read(value, into);
    }

    /// The guest writes at `place`, which `from` does not go beyond.
    pub(super) fn write<E: Engine>(&mut self, chip: &mut Chip<E>, place: Place, from: &[u8]) {
        let locality = place.locality;
        let active = chip.arbitration.active() == Some(locality);
        let written = place.written(from);
        match place.register {
            offset::ACCESS => {
                let access = Access::from_bits((written.value & 0xff) as u8);
                if let Some(change) = access::write(&mut chip.arbitration, locality, access) {
                    self.apply(chip, change);
                }
            }
            offset::INT_ENABLE if active => {
                self.interrupts.registers.write_enable(locality, written);
            }
            offset::INT_VECTOR if active => self.interrupts.write_vector(written),
            offset::INT_STATUS if active => {
                self.interrupts.registers.write_status(locality, written);
            }
            offset::STS if active => {
                self.write_status(chip, locality, Status::from_bits(written.value));
            }
            offset::DATA_FIFO | offset::XDATA_FIFO..offset::XDATA_FIFO_END if active => {
                for byte in from {
                    self.handle(chip, locality, Event::Write(*byte));
                }
            }
            _ => {}
        }
    }

    fn write_status<E: Engine>(&mut self, chip: &mut Chip<E>, locality: Locality, status: Status) {
        if status.reset_establishment_bit() && locality >= Locality::Three {
            chip.reset_establishment(locality);
        }
        if status.command_cancel() {
            chip.cancel();
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
        self.handle(chip, locality, event);
    }

    fn handle<E: Engine>(&mut self, chip: &mut Chip<E>, locality: Locality, event: Event) {
        match self.transfer.handle(event, &mut chip.buffers) {
            Action::None => {}
            Action::Ready => self.interrupts.occur(locality, Occurrence::CommandReady),
            Action::Whole => self.interrupts.occur(locality, Occurrence::CommandWhole),
            Action::Execute => {
                if chip.execute(locality) {
                    self.completed(locality, Ended::AtOnce);
                }
            }
            Action::Abandon => {
                chip.abandon();
                self.interrupts.occur(locality, Occurrence::CommandReady);
            }
        }
    }

    /// The command that runs, if one does, has its next slice.
    pub(super) fn go_on<E: Engine>(&mut self, chip: &mut Chip<E>, until: Option<u64>) {
        if chip.go_on(until)
            && let Some(locality) = chip.arbitration.active()
        {
            self.completed(locality, Ended::Later);
        }
    }

    /// The response is there for `locality`, in the access that gave the command or later.
    fn completed(&mut self, locality: Locality, ended: Ended) {
        self.transfer.complete(ended);
        self.interrupts.occur(locality, Occurrence::Response);
    }

    /// Whether the interrupt line is asserted.
    pub(super) const fn line(&self) -> bool {
        self.interrupts.registers.line()
    }

    /// The TPM went from one locality to another.
    fn apply<E: Engine>(&mut self, chip: &mut Chip<E>, change: Change) {
        let Change { from, to, seized } = change;
        chip.abandon();
        let kept = match (self.transfer.leave(&mut chip.buffers), seized) {
            (readiness, false) => readiness,
            (_, true) => Readiness::Idle,
        };
        if let Some(from) = from {
            self.swap_readiness(from, kept);
        }
        if let Some(to) = to {
            match (self.swap_readiness(to, Readiness::Idle), seized) {
                (readiness, false) => self.transfer.enter(readiness),
                (_, true) => self.transfer.enter(Readiness::Idle),
            }
            self.interrupts.occur(to, Occurrence::LocalityChange);
        }
    }

    fn swap_readiness(&mut self, locality: Locality, readiness: Readiness) -> Readiness {
        match self.readiness.get_mut(usize::from(locality.number())) {
            Some(place) => core::mem::replace(place, readiness),
            None => Readiness::Idle,
        }
    }
}
