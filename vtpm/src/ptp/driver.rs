//! The real engine behind the interface, used as Linux's `tpm_tis` driver does (tpm_tis_core.c,
//! tpm-interface.c, version 6.12), register access by register access.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use attestation::digest::{Algorithm, Digest};
use attestation::journal::StartupType;
use attestation::tpm::{commands, rc, response_code};
use tpm2_ref_sys::{Config, Ephemeral, NoEntropy, Tpm};

use super::Interface;
use crate::reference::Reference;
use tcg_defs::ptp::fifo as offset;

mod scenarios;

/// The engine is one a process; tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// While set there is no entropy. Reset by [`Driver::new`].
static DEAD: AtomicBool = AtomicBool::new(false);

fn entropy(into: &mut [u8]) -> Result<(), NoEntropy> {
    if DEAD.load(Ordering::Relaxed) {
        return Err(NoEntropy);
    }
    static STATE: Mutex<u64> = Mutex::new(0x9e37_79b9_7f4a_7c15);
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    for byte in into {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *byte = (*state >> 56) as u8;
    }
    Ok(())
}

/// What the driver gives up with.
#[derive(Debug, PartialEq, Eq)]
enum Errno {
    Eio,
    Etime,
}

/// How often a poll is repeated before it counts as a time-out.
const POLLS: usize = 3;

struct Driver {
    interface: Interface<Reference>,
    /// Accesses so far.
    accesses: u64,
    /// Polls that had to be repeated: each would be a sleep of the driver.
    waits: u64,
    _turn: MutexGuard<'static, ()>,
}

impl Driver {
    fn new() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        DEAD.store(false, Ordering::Relaxed);
        let tpm = Tpm::open(Config {
            entropy,
            clock: || 1_000_000_000,
            store: Box::new(Ephemeral),
        })
        .expect("the engine opens");
        Self {
            interface: Interface::new(Reference::new(tpm)),
            accesses: 0,
            waits: 0,
            _turn: turn,
        }
    }

    fn read8(&mut self, register: u32) -> u8 {
        let mut byte = [0];
        self.accesses += 1;
        self.interface.read(register, &mut byte);
        byte[0]
    }

    fn read32(&mut self, register: u32) -> u32 {
        let mut bytes = [0; 4];
        self.accesses += 1;
        self.interface.read(register, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn write8(&mut self, register: u32, value: u8) {
        self.accesses += 1;
        self.interface.write(register, &[value]);
    }

    /// wait_for_tpm_stat and the like: true at the latest in the last poll.
    fn poll(&mut self, mut done: impl FnMut(&mut Self) -> bool) -> Result<(), Errno> {
        for attempt in 0..POLLS {
            if done(self) {
                return Ok(());
            }
            self.waits += u64::from(attempt + 1 < POLLS);
        }
        Err(Errno::Etime)
    }

    /// tpm_tis_status: what must read as zero makes all of it zero.
    fn status(&mut self) -> u8 {
        let status = self.read8(offset::STS);
        assert_eq!(status & 0x23, 0, "invalid TPM_STS.x");
        status
    }

    fn wait_status(&mut self, mask: u8) -> Result<(), Errno> {
        self.poll(|driver| driver.status() & mask == mask)
    }

    /// check_locality
    fn owns(&mut self) -> bool {
        self.read8(offset::ACCESS) & 0xa2 == 0xa0
    }

    fn request_locality(&mut self) -> Result<(), Errno> {
        if self.owns() {
            return Ok(());
        }
        self.write8(offset::ACCESS, 0x02);
        self.poll(Self::owns)
    }

    fn relinquish_locality(&mut self) {
        self.write8(offset::ACCESS, 0x20);
    }

    fn burst_count(&mut self) -> Result<usize, Errno> {
        let mut count = 0;
        self.poll(|driver| {
            count = (driver.read32(offset::STS) >> 8 & 0xffff) as usize;
            count != 0
        })?;
        Ok(count)
    }

    fn command_ready(&mut self) {
        self.write8(offset::STS, 0x40);
    }

    /// tpm_tis_send_main
    fn send(&mut self, command: &[u8]) -> Result<(), Errno> {
        let sent = self.send_data(command);
        if sent.is_err() {
            self.command_ready();
            return sent;
        }
        self.write8(offset::STS, 0x20);
        Ok(())
    }

    /// tpm_tis_send_data: all but the last byte in bursts, Expect looked at before and after it.
    fn send_data(&mut self, command: &[u8]) -> Result<(), Errno> {
        if self.status() & 0x40 == 0 {
            self.command_ready();
            self.wait_status(0x40)?;
        }
        let (last, rest) = command.split_last().expect("a command has bytes");
        let mut sent = 0;
        while sent < rest.len() {
            let burst = self.burst_count()?.min(rest.len() - sent);
            for byte in &rest[sent..sent + burst] {
                self.write8(offset::DATA_FIFO, *byte);
            }
            sent += burst;
            self.wait_status(0x80)?;
            if self.status() & 0x08 == 0 {
                return Err(Errno::Eio);
            }
        }
        self.write8(offset::DATA_FIFO, *last);
        self.wait_status(0x80)?;
        if self.status() & 0x08 != 0 {
            return Err(Errno::Eio);
        }
        Ok(())
    }

    fn receive_data(&mut self, length: usize) -> Result<Vec<u8>, Errno> {
        let mut data = Vec::new();
        while data.len() < length {
            self.wait_status(0x90)?;
            let burst = self.burst_count()?.min(length - data.len());
            for _ in 0..burst {
                data.push(self.read8(offset::DATA_FIFO));
            }
        }
        Ok(data)
    }

    /// tpm_tis_recv: the header, then what it declares, then nothing may be left.
    fn receive(&mut self) -> Result<Vec<u8>, Errno> {
        let response = self.receive_whole();
        self.command_ready();
        response
    }

    fn receive_whole(&mut self) -> Result<Vec<u8>, Errno> {
        let mut response = self.receive_data(10)?;
        let size = u32::from_be_bytes(response[2..6].try_into().unwrap()) as usize;
        if !(10..=4096).contains(&size) {
            return Err(Errno::Eio);
        }
        response.extend(self.receive_data(size - 10)?);
        self.wait_status(0x80)?;
        if self.status() & 0x10 != 0 {
            return Err(Errno::Eio);
        }
        Ok(response)
    }

    /// tpm_try_transmit within tpm_chip_start and tpm_chip_stop.
    fn transmit(&mut self, command: &[u8]) -> Vec<u8> {
        self.request_locality().unwrap();
        self.send(command).unwrap();
        self.poll(|driver| {
            let status = driver.status();
            // tpm_tis_req_canceled
            assert_ne!(status, 0x40, "the driver takes the command for canceled");
            status & 0x90 == 0x90
        })
        .unwrap();
        let response = self.receive().unwrap();
        self.relinquish_locality();
        response
    }

    fn ok(&mut self, command: &[u8]) -> Vec<u8> {
        let mut response = self.transmit(command);
        if code(&response) == rc::RETRY {
            response = self.transmit(command);
        }
        assert_eq!(code(&response), 0, "{:#x}", code(&response));
        response
    }

    /// Accesses that one such command takes.
    fn cost(&mut self, command: &[u8]) -> u64 {
        let before = self.accesses;
        let response = self.transmit(command);
        assert_eq!(code(&response), 0, "{:#x}", code(&response));
        self.accesses - before
    }
}

fn code(response: &[u8]) -> u32 {
    response_code(response).unwrap()
}

fn startup() -> Vec<u8> {
    commands::startup(StartupType::Clear)
}

fn get_random() -> Vec<u8> {
    commands::get_random(32)
}

/// TPM2_PCR_Extend of the SHA-256 bank.
fn pcr_extend(pcr: u32) -> Vec<u8> {
    let digest = Digest::new(Algorithm::Sha256, &[0x5a; 32]).unwrap();
    commands::pcr_extend(pcr, &[digest])
}
