//! What must hold of the FIFO interface whatever the engine, by the profile (PTP 1.05 revision 14, "FIFO Interface", 6.5.2) and by
//! what the drivers of Linux, EDK2, SeaBIOS and FreeBSD rely on. `docs/conformance.md` has the section or table of each.

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::Interface;
use super::window::PAGE;
use crate::{Engine, EngineFailure, Locality, Progress};
use tcg_defs::ptp::fifo as offset;

mod commands;
mod drivers;
mod establishment;
mod execution;
mod interrupts;
mod localities;
mod registers;
mod robustness;

const REQUEST_USE: u8 = 0x02;
const SEIZE: u8 = 0x08;
const BEEN_SEIZED: u8 = 0x10;
const ACTIVE: u8 = 0x20;

const RETRY: u8 = 0x02;
const EXPECT: u8 = 0x08;
const DATA_AVAIL: u8 = 0x10;
const GO: u8 = 0x20;
const READY: u8 = 0x40;
const VALID: u8 = 0x80;

const CANCEL: u32 = 1 << 24;
const RESET_ESTABLISHMENT: u32 = 1 << 25;

/// An engine that notes what it is asked and answers with the command's own bytes.
#[derive(Default)]
pub(super) struct Echo {
    pub(super) commands: Vec<(Locality, Vec<u8>)>,
    pub(super) resets: usize,
    pub(super) established: bool,
    /// What to answer instead: the bytes written and the length returned.
    pub(super) answer: Option<Result<(Vec<u8>, usize), EngineFailure>>,
    /// So many slices does a command take beside the first.
    pub(super) slices: usize,
    /// The command that is running, and how many slices are left of it.
    pub(super) running: Option<(Locality, Vec<u8>, usize)>,
    pub(super) cancels: usize,
    pub(super) abandons: usize,
}

/// Tag, size and code 0 of a message that carries `data`.
pub(super) fn message(data: &[u8]) -> Vec<u8> {
    let size = 10 + data.len() as u32;
    [&[0x80, 0x01], &size.to_be_bytes()[..], &[0; 4], data].concat()
}

impl Engine for Echo {
    fn execute(
        &mut self,
        locality: Locality,
        command: &[u8],
        response: &mut [u8],
    ) -> Result<usize, EngineFailure> {
        self.commands.push((locality, command.to_vec()));
        let (bytes, length) = match self.answer.clone() {
            Some(answer) => answer?,
            None => (message(command), 10 + command.len()),
        };
        let room = response.len();
        response[..bytes.len().min(room)].copy_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(length)
    }

    fn begin(
        &mut self,
        locality: Locality,
        command: &[u8],
        response: &mut [u8],
    ) -> Result<Progress, EngineFailure> {
        assert_eq!(self.running, None, "one at a time");
        if self.slices == 0 {
            let length = self.execute(locality, command, response)?;
            return Ok(Progress::Done(length));
        }
        self.running = Some((locality, command.to_vec(), self.slices));
        Ok(Progress::Running)
    }

    fn go_on(
        &mut self,
        _until: Option<u64>,
        response: &mut [u8],
    ) -> Result<Progress, EngineFailure> {
        let (locality, command, left) = self.running.take().ok_or(EngineFailure)?;
        match left {
            1 => {
                let length = self.execute(locality, &command, response)?;
                Ok(Progress::Done(length))
            }
            _ => {
                self.running = Some((locality, command, left - 1));
                Ok(Progress::Running)
            }
        }
    }

    fn cancel(&mut self) {
        self.cancels += 1;
    }

    fn abandon(&mut self) {
        self.abandons += 1;
        self.running = None;
    }

    fn reset(&mut self) -> Result<(), EngineFailure> {
        self.resets += 1;
        Ok(())
    }

    fn establishment(&self) -> bool {
        self.established
    }

    fn reset_establishment(&mut self, _locality: Locality) -> Result<(), EngineFailure> {
        self.established = false;
        Ok(())
    }
}

/// A guest's accesses to a locality's page.
pub(super) trait Accesses {
    fn interface(&mut self) -> &mut Interface<Echo>;

    fn read<const N: usize>(&mut self, locality: u32, register: u32) -> [u8; N] {
        let mut bytes = [0xcc; N];
        let at = locality * PAGE + register;
        self.interface().read(at, &mut bytes);
        bytes
    }

    fn read8(&mut self, locality: u32, register: u32) -> u8 {
        self.read::<1>(locality, register)[0]
    }

    fn read32(&mut self, locality: u32, register: u32) -> u32 {
        u32::from_le_bytes(self.read(locality, register))
    }

    fn write(&mut self, locality: u32, register: u32, bytes: &[u8]) {
        let at = locality * PAGE + register;
        self.interface().write(at, bytes);
    }

    fn write32(&mut self, locality: u32, register: u32, value: u32) {
        self.write(locality, register, &value.to_le_bytes());
    }
}

/// A guest at the interface.
struct Guest(Interface<Echo>);

impl Accesses for Guest {
    fn interface(&mut self) -> &mut Interface<Echo> {
        &mut self.0
    }
}

impl Guest {
    fn new() -> Self {
        Self(Interface::new(Echo::default()))
    }

    /// Locality 0 active and ready for a command.
    fn ready() -> Self {
        let mut guest = Self::new();
        guest.set_access(0, REQUEST_USE);
        guest.set_sts(0, READY);
        guest
    }

    /// Locality 0 with the response to a command of 12 bytes: 22 bytes.
    fn answered() -> (Self, Vec<u8>) {
        let mut guest = Self::ready();
        let command = message(&[1, 2]);
        guest.send(0, &command);
        guest.set_sts(0, GO);
        (guest, message(&command))
    }

    fn read16(&mut self, locality: u32, register: u32) -> u16 {
        u16::from_le_bytes(self.read(locality, register))
    }

    fn access(&mut self, locality: u32) -> u8 {
        self.read8(locality, offset::ACCESS)
    }

    fn set_access(&mut self, locality: u32, value: u8) {
        self.write(locality, offset::ACCESS, &[value]);
    }

    /// The low byte of STS, as a byte is read.
    fn sts(&mut self, locality: u32) -> u8 {
        self.read8(locality, offset::STS)
    }

    fn set_sts(&mut self, locality: u32, value: u8) {
        self.write(locality, offset::STS, &[value]);
    }

    fn burst_count(&mut self, locality: u32) -> u16 {
        (self.read32(locality, offset::STS) >> 8) as u16
    }

    fn send(&mut self, locality: u32, bytes: &[u8]) {
        for byte in bytes {
            self.write(locality, offset::DATA_FIFO, &[*byte]);
        }
    }

    fn receive(&mut self, locality: u32, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        for byte in &mut bytes {
            *byte = self.read8(locality, offset::DATA_FIFO);
        }
        bytes
    }

    fn commands(&self) -> &[(Locality, Vec<u8>)] {
        &self.0.engine().commands
    }
}
