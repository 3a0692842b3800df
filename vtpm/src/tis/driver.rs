//! The real engine behind the interface, used as Linux's `tpm_tis` driver does (tpm_tis_core.c,
//! tpm-interface.c, version 6.12), register access by register access.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tpm2_ref_sys::{Config, Ephemeral, NoEntropy, Tpm};

use super::Tis;
use super::bits::{BASE, PAGE, offset};
use crate::reference::Reference;

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
    tis: Tis<Reference>,
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
            tis: Tis::new(Reference::new(tpm)),
            accesses: 0,
            waits: 0,
            _turn: turn,
        }
    }

    fn read8(&mut self, register: u32) -> u8 {
        let mut byte = [0];
        self.accesses += 1;
        self.tis.read(register, &mut byte);
        byte[0]
    }

    fn read32(&mut self, register: u32) -> u32 {
        let mut bytes = [0; 4];
        self.accesses += 1;
        self.tis.read(register, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn write8(&mut self, register: u32, value: u8) {
        self.accesses += 1;
        self.tis.write(register, &[value]);
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
        if code(&response) == 0x922 {
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
    u32::from_be_bytes(response[6..10].try_into().unwrap())
}

/// A command without sessions, or, with a handle, with the empty password.
fn command(code: u32, handle: Option<u32>, parameters: &[u8]) -> Vec<u8> {
    let area: &[u8] = match handle {
        Some(_) => &[0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0],
        None => &[],
    };
    let handle = handle.map(u32::to_be_bytes);
    let handle = handle.as_ref().map_or(&[][..], |handle| handle);
    let body = [&code.to_be_bytes(), handle, area, parameters].concat();
    let tag: [u8; 2] = if area.is_empty() {
        [0x80, 1]
    } else {
        [0x80, 2]
    };
    [&tag, &(6 + body.len() as u32).to_be_bytes()[..], &body].concat()
}

fn startup() -> Vec<u8> {
    command(0x144, None, &[0, 0])
}

fn get_random() -> Vec<u8> {
    command(0x17b, None, &[0, 32])
}

fn pcr_extend() -> Vec<u8> {
    let digest = [&[0, 0, 0, 1, 0, 0x0b][..], &[0x5a; 32]].concat();
    command(0x182, Some(16), &digest)
}

/// TPM2_CreatePrimary in the endorsement hierarchy, no sensitive data, this TPMT_PUBLIC.
fn create_primary(public: &[u8]) -> Vec<u8> {
    let parameters = [
        &[0, 4, 0, 0, 0, 0][..],
        &(public.len() as u16).to_be_bytes(),
        public,
        &[0, 0, 0, 0, 0, 0],
    ]
    .concat();
    command(0x131, Some(0x4000_000b), &parameters)
}

/// Restricted P-256 signing key, ECDSA with SHA-256.
const ECC: [u8; 24] = [
    0, 0x23, 0, 0x0b, 0, 5, 0, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10, 0, 0, 0, 0,
];

/// Restricted P-256 storage key, AES-128-CFB: an SRK.
const STORAGE: [u8; 26] = [
    0, 0x23, 0, 0x0b, 0, 3, 0, 0x72, 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10, 0, 0, 0,
    0,
];

#[test]
fn linux_probes_and_starts_the_tpm() {
    let mut driver = Driver::new();
    // tpm_tis_core_init
    assert_eq!(driver.read32(offset::DID_VID), 0x0001_1014);
    assert_ne!(driver.read8(offset::ACCESS) & 0x80, 0);
    let enable = driver.read32(offset::INT_ENABLE);
    assert_eq!(driver.read32(offset::INTF_CAPABILITY) >> 28 & 7, 3);
    driver.request_locality().unwrap();
    driver
        .tis
        .write(offset::INT_ENABLE, &(enable & !(1 << 31)).to_le_bytes());
    driver.relinquish_locality();
    // tpm2_probe looks at the tag alone.
    let probe = command(0x17a, None, &[0, 0, 0, 6, 0, 0, 1, 0x29, 0, 0, 0, 1]);
    let response = driver.transmit(&probe);
    assert_eq!(response[..2], [0x80, 0x01]);
    assert_eq!(code(&response), 0x100);
    assert_eq!(driver.read8(offset::RID), 1);
    // tpm2_auto_startup
    let self_test = command(0x143, None, &[0]);
    assert_eq!(code(&driver.transmit(&self_test)), 0x100);
    driver.ok(&startup());
    driver.ok(&self_test);
    let total = driver.ok(&probe);
    let total = u32::from_be_bytes(total[23..27].try_into().unwrap());
    let list = [&[0, 0, 0, 2, 0, 0, 1, 0x1f][..], &total.to_be_bytes()].concat();
    let list = driver.ok(&command(0x17a, None, &list));
    assert_eq!(list[15..19], total.to_be_bytes());
    assert_eq!(driver.waits, 0, "every poll was answered at once");
}

/// A command's accesses: its bytes and those of its response; three to get the locality, one to
/// give it up; STS before, the burst count and two polls for each of the two parts of the command
/// (the last byte has no burst count); tpmGo and one poll; a poll and a burst count for each of the
/// two parts of the response, two polls at its end, commandReady.
const OVERHEAD: u64 = 3 + 1 + 1 + 3 + 2 + 2 + 4 + 2 + 1;

#[test]
fn commands_cost_no_more_accesses_than_they_must() {
    let mut driver = Driver::new();
    driver.ok(&startup());

    let random = get_random();
    assert_eq!(driver.cost(&random), 12 + 44 + OVERHEAD);
    assert!(driver.cost(&random) <= 77);

    let extend = pcr_extend();
    assert_eq!(driver.cost(&extend), 65 + 19 + OVERHEAD);
    assert!(driver.cost(&extend) <= 105);

    for (name, template) in [("ECC", &ECC[..]), ("storage", &STORAGE)] {
        let create = create_primary(template);
        let cost = driver.cost(&create);
        assert!(cost <= 470, "TPM2_CreatePrimary, {name}: {cost}");
    }

    // The fullest quote: twenty bytes of data, all PCRs.
    let quote = [
        &[0, 20][..],
        &[7; 20],
        &[0, 0x10, 0, 0, 0, 1, 0, 0x0b, 3, 0xff, 0xff, 0xff],
    ]
    .concat();
    let quote = command(0x158, Some(0x8000_0000), &quote);
    driver.ok(&quote);
    let cost = driver.cost(&quote);
    assert!(cost <= 350, "TPM2_Quote: {cost}");
    assert_eq!(driver.waits, 0);

    // The interface counts the same.
    let statistics = driver.tis.statistics().command(0x17b);
    assert_eq!(statistics.commands, 2);
    assert_eq!(statistics.accesses, 2 * (12 + 44 + OVERHEAD));
}

#[test]
fn linux_recovers_from_a_command_that_it_gave_up() {
    let mut driver = Driver::new();
    driver.ok(&startup());
    driver.request_locality().unwrap();
    // Declares less than is sent, so that Expect drops too early.
    let mut wrong = get_random();
    wrong[5] = 11;
    assert_eq!(driver.send(&wrong), Err(Errno::Eio));
    driver.relinquish_locality();
    driver.ok(&get_random());
}

#[test]
fn an_oversize_command_is_answered_with_a_size_error() {
    let mut driver = Driver::new();
    driver.ok(&startup());
    driver.request_locality().unwrap();
    driver.command_ready();
    let mut long = vec![0; 5000];
    long[..10].copy_from_slice(&get_random()[..10]);
    long[2..6].copy_from_slice(&5000u32.to_be_bytes());
    for byte in long {
        driver.write8(offset::DATA_FIFO, byte);
    }
    driver.write8(offset::STS, 0x20);
    assert_eq!(code(&driver.receive().unwrap()), 0x142);
}

#[test]
fn undersize_commands_are_answered_with_an_error() {
    for size in [0u32, 6, 9] {
        let mut driver = Driver::new();
        driver.ok(&startup());
        driver.request_locality().unwrap();
        driver.command_ready();
        let mut short = get_random();
        short[2..6].copy_from_slice(&size.to_be_bytes());
        for byte in short {
            driver.write8(offset::DATA_FIFO, byte);
        }
        driver.write8(offset::STS, 0x20);
        let response = driver.receive().unwrap();
        assert_eq!(response.len(), 10);
        assert_ne!(code(&response), 0, "size {size}");
    }
}

#[test]
fn without_entropy_every_command_fails_until_a_reset() {
    const FAILURE: u32 = 0x101;
    let mut driver = Driver::new();
    DEAD.store(true, Ordering::Relaxed);
    assert_eq!(code(&driver.transmit(&startup())), FAILURE);
    DEAD.store(false, Ordering::Relaxed);
    assert_eq!(code(&driver.transmit(&get_random())), FAILURE);
    driver.tis.reset().unwrap();
    driver.ok(&startup());
    driver.ok(&get_random());
}

#[test]
fn reset_needs_a_new_startup_and_clears_pcrs() {
    let mut driver = Driver::new();
    driver.ok(&startup());
    let read = command(0x17e, None, &[0, 0, 0, 1, 0, 0x0b, 3, 0, 0, 1]);
    let before = driver.ok(&read);
    driver.ok(&pcr_extend());
    assert_ne!(driver.ok(&read), before);
    driver.tis.reset().unwrap();
    assert_eq!(code(&driver.transmit(&get_random())), 0x100);
    driver.ok(&startup());
    // Behind the update counter.
    assert_eq!(driver.ok(&read)[14..], before[14..]);
}

#[test]
fn a_dynamic_launch_reaches_pcr_17() {
    let mut driver = Driver::new();
    driver.ok(&startup());
    let read = command(0x17e, None, &[0, 0, 0, 1, 0, 0x0b, 3, 0, 0, 2]);
    assert_eq!(driver.ok(&read)[30..62], [0xff; 32]);
    for (register, data) in [
        (offset::HASH_START, &[0][..]),
        (offset::DATA_FIFO, b"code"),
        (offset::HASH_END, &[0]),
    ] {
        driver.tis.write_as_platform(4 * PAGE + register, data);
    }
    assert_eq!(driver.read8(offset::ACCESS), 0x80);
    let pcr = driver.ok(&read)[30..62].to_vec();
    assert_ne!(pcr, [0xff; 32]);
    assert_ne!(pcr, [0; 32]);
}

#[test]
fn localities_reach_the_engine() {
    // PCR 20 can be extended from localities 1 to 3, PCR 17 from 2 to 4.
    let extend = |pcr: u32| {
        let digest = [&[0, 0, 0, 1, 0, 0x0b][..], &[1; 32]].concat();
        command(0x182, Some(pcr), &digest)
    };
    let mut driver = Driver::new();
    driver.ok(&startup());
    for (locality, pcr, expected) in [
        (0, 20, 0x907),
        (1, 20, 0),
        (1, 17, 0x907),
        (2, 17, 0),
        (3, 17, 0),
    ] {
        let page = locality * PAGE;
        driver.write8(page + offset::ACCESS, 0x02);
        driver.write8(page + offset::STS, 0x40);
        for byte in extend(pcr) {
            driver.write8(page + offset::DATA_FIFO, byte);
        }
        driver.write8(page + offset::STS, 0x20);
        let response: Vec<u8> = (0..10)
            .map(|_| driver.read8(page + offset::DATA_FIFO))
            .collect();
        assert_eq!(code(&response), expected, "{pcr} from {locality}");
        driver.write8(page + offset::ACCESS, 0x20);
    }
}

#[test]
fn the_interface_is_where_drivers_look_for_it() {
    assert_eq!(BASE, 0xfed4_0000);
    assert_eq!(super::bits::SIZE, 5 * PAGE);
}
