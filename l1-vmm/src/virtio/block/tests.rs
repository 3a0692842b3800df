//! The block device on a model disk that keeps the rules, or lies.

use super::*;
use crate::virtio::model::ModelClock;
use crate::virtio::model::device::{FUNCTION, ModelHost, numbers, window};
use crate::virtio::model::disk::{self, Disk, OFFERED, SECTORS, serve};
use crate::virtio::model::memory::Shared;
use crate::virtio::pci::PciError;
use crate::virtio::ring::Broken;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use proptest::prelude::*;

const BASE: u64 = 0x10_0000;
const LIMITS: Limits = Limits {
    attempt: 10_000_000,
    reset: 1_000_000,
    attempts: 3,
    faults: 100,
};

type Driver = Block<ModelHost, Shared, ModelClock>;

fn open_with(host: &ModelHost, memory: &Shared) -> Result<Driver, BlockError> {
    let device = Device::find(host.clone(), FUNCTION, 2, &mut window())?;
    let required = feature::ACCESS_PLATFORM;
    let clock = ModelClock::default();
    Block::open(device, memory.clone(), clock, "disk", required, LIMITS)
        .map_err(|returned| returned.error)
}

fn open() -> (Driver, ModelHost, Disk) {
    let memory = Shared::new(BASE, 0x8000);
    let (host, disk) = disk::host(&memory);
    (open_with(&host, &memory).unwrap(), host, disk)
}

/// A call fails in the way expected; then the host is honest, all works, and no buffer is missing.
fn lie(change: impl FnOnce(&ModelHost), expected: BlockError) {
    let (mut block, host, disk) = open();
    let all = block.slots.free();
    change(&host);
    let mut sector = [0; 512];
    assert_eq!(block.read(1, &mut sector), Err(expected));
    assert_eq!(block.slots.free(), all);
    let mut model = host.model();
    model.lie = None;
    model.gone = false;
    drop(model);
    disk::honest(&host, &disk);
    disk.borrow_mut()[512..1024].fill(7);
    assert_eq!(block.read(1, &mut sector), Ok(()));
    assert_eq!(sector, [7; 512]);
    assert_eq!(block.slots.free(), all);
}

#[test]
fn what_is_written_is_read_back() {
    let (mut block, host, disk) = open();
    assert_eq!(block.sectors(), SECTORS as u64);
    assert_eq!(block.durability(), Durability::Flush);
    // More than all buffers hold.
    let bytes: Vec<u8> = (0..100 * 512).map(|i| (i % 251) as u8).collect();
    block.write(3, &bytes).unwrap();
    assert_eq!(disk.borrow()[3 * 512..103 * 512], bytes);
    let mut read = vec![0; bytes.len()];
    block.read(3, &mut read).unwrap();
    assert_eq!(read, bytes);
    block.flush().unwrap();
    block.read(0, &mut []).unwrap();
    assert_eq!(host.model().settled, OFFERED & !(1 << 40));
}

#[test]
fn requests_are_in_flight_together_and_end_in_any_order() {
    let (mut block, host, disk) = open();
    for (index, byte) in disk.borrow_mut().iter_mut().enumerate() {
        *byte = (index / 512) as u8;
    }
    // The answers of a burst are kept, and given backwards.
    let kept = Rc::new(RefCell::new(Vec::new()));
    let deepest = Rc::new(Cell::new(0));
    let seen = deepest.clone();
    host.model().answer = Box::new(move |queue, request, length| {
        let mut kept = kept.borrow_mut();
        kept.push((request.head, length));
        seen.set(seen.get().max(kept.len()));
        if kept.len() == 5 {
            for (head, length) in kept.drain(..).rev() {
                queue.push(head.into(), length);
            }
        }
    });
    let mut read = vec![0; 5 * 4096];
    block.read(8, &mut read).unwrap();
    assert_eq!(read, disk.borrow()[8 * 512..48 * 512]);
    assert_eq!(deepest.get(), 5);
}

#[test]
fn calls_have_bounds() {
    let (mut block, host, _) = open();
    let before = host.model().accesses;
    assert_eq!(block.read(0, &mut [0; 100]), Err(BlockError::Length(100)));
    let range = |sector| BlockError::Range { sector, sectors: 1 };
    for sector in [256, u64::MAX] {
        assert_eq!(block.read(sector, &mut [0; 512]), Err(range(sector)));
        assert_eq!(block.write(sector, &[0; 512]), Err(range(sector)));
    }
    assert_eq!(
        host.model().accesses,
        before,
        "the device hears nothing of it"
    );
}

#[test]
fn forged_ids_lengths_and_indices_end_the_attempt() {
    let (id, size) = (300, 16);
    lie(
        |host| host.model().answer = Box::new(move |queue, _, length| queue.push(id, length)),
        Broken::UsedId { id, size }.into(),
    );
    let length = 100_000;
    lie(
        |host| {
            host.model().answer =
                Box::new(move |queue, request, _| queue.push(request.head.into(), length));
        },
        Broken::UsedLength {
            length,
            writable: 513,
        }
        .into(),
    );
    lie(
        |host| host.model().answer = Box::new(|queue, _, _| queue.set_used_index(9)),
        Broken::UsedIndex {
            index: 9,
            seen: 0,
            in_flight: 1,
        }
        .into(),
    );
}

#[test]
fn a_device_that_never_answers_costs_a_bounded_time() {
    lie(
        |host| host.model().work = Box::new(|_, _, _| None),
        BlockError::TimeOut,
    );
    let (mut block, host, _) = open();
    host.model().work = Box::new(|_, _, _| None);
    let start = block.clock.now();
    assert_eq!(block.flush(), Err(BlockError::TimeOut));
    let spent = block.clock.now() - start;
    let most = u64::from(LIMITS.attempts) * (LIMITS.attempt + 3 * LIMITS.reset);
    assert!(spent < most, "{spent}");
}

#[test]
fn a_device_that_does_not_reset_is_given_up_each_time() {
    lie(
        |host| {
            host.model().work = Box::new(|_, _, _| None);
            host.model().lie = Some(Box::new(|offset, v| if offset == 0x14 { 15 } else { v }));
        },
        PciError::Reset.into(),
    );
}

#[test]
fn a_device_that_vanishes_is_an_error() {
    lie(
        |host| host.model().gone = true,
        PciError::Host(tdcall::tdvmcall::VmcallError::InvalidOperand).into(),
    );
}

#[test]
fn ok_without_an_answer_is_no_success() {
    lie(
        |host| host.model().work = Box::new(|_, _, request| Some(request.writable_length())),
        BlockError::Status(0xFF),
    );
    lie(
        |host| {
            host.model().answer =
                Box::new(|queue, request, _| queue.push(request.head.into(), 511));
        },
        BlockError::Short {
            written: 511,
            length: 512,
        },
    );
    for (status, error) in [
        (1, BlockError::Io),
        (2, BlockError::Unsupported),
        (3, BlockError::Status(3)),
    ] {
        lie(
            |host| {
                host.model().work = Box::new(move |memory, _, request| {
                    let mut answer = vec![0; request.writable_length() as usize];
                    *answer.last_mut().unwrap() = status;
                    Some(request.write(memory, &answer))
                });
            },
            error,
        );
    }
}

#[test]
fn an_error_that_passes_is_not_seen() {
    let (mut block, host, disk) = open();
    disk.borrow_mut()[..512].fill(9);
    let mut calls = 0;
    host.model().work = Box::new(move |memory, _, request| {
        calls += 1;
        match calls {
            1 => None,
            2 => Some(request.write(memory, &[1; 513])),
            _ => Some(serve(&mut disk.borrow_mut(), memory, request)),
        }
    });
    let mut sector = [0; 512];
    assert_eq!(block.read(0, &mut sector), Ok(()));
    assert_eq!(sector, [9; 512]);
}

#[test]
fn a_device_that_fails_is_tried_once_a_call_until_it_works() {
    let (mut block, host, disk) = open();
    let requests = Rc::new(Cell::new(0));
    let seen = requests.clone();
    host.model().work = Box::new(move |_, _, _| {
        seen.set(seen.get() + 1);
        None
    });
    for expected in [LIMITS.attempts, LIMITS.attempts + 1, LIMITS.attempts + 2] {
        assert_eq!(block.read(0, &mut [0; 512]), Err(BlockError::TimeOut));
        assert_eq!(requests.get(), expected);
    }
    // Silence is no broken rule, however long it lasts.
    for _ in 0..200 {
        assert_eq!(block.flush(), Err(BlockError::TimeOut));
    }
    assert_eq!((block.faults, block.health), (0, Health::Failing));
    disk::honest(&host, &disk);
    assert_eq!(block.flush(), Ok(()));
    assert_eq!(block.health, Health::Working);
}

#[test]
fn a_device_that_goes_on_breaking_rules_is_given_up() {
    let (mut block, host, disk) = open();
    block.limits.faults = 8;
    host.model().answer = Box::new(|queue, _, _| queue.push(99, 0));
    let broken = BlockError::from(Broken::UsedId { id: 99, size: 16 });
    // Three attempts, and then one a call: the ninth fault is one too many.
    for _ in 0..7 {
        assert_eq!(block.write(0, &[0; 512]), Err(broken));
    }
    assert_eq!(host.model().status, 128, "FAILED");
    let before = host.model().accesses;
    disk::honest(&host, &disk);
    for _ in 0..3 {
        assert_eq!(block.flush(), Err(BlockError::GivenUp));
        assert_eq!(block.read(0, &mut [0; 512]), Err(BlockError::GivenUp));
    }
    assert_eq!(host.model().accesses, before, "it is not asked again");
}

#[test]
fn a_flush_that_failed_is_not_repeated() {
    let (mut block, host, disk) = open();
    let flushes = Rc::new(Cell::new(0));
    let seen = flushes.clone();
    host.model().work = Box::new(move |memory, _, request| {
        match request.read(memory)[0] {
            // What it could not write is dropped, and told once, as by Linux' fsync.
            4 => {
                seen.set(seen.get() + 1);
                Some(request.write(memory, &[u8::from(seen.get() == 1)]))
            }
            _ => Some(serve(&mut disk.borrow_mut(), memory, request)),
        }
    });
    block.write(0, &[1; 512]).unwrap();
    assert_eq!(block.flush(), Err(BlockError::Io));
    assert_eq!(flushes.get(), 1);
    assert_eq!(block.flush(), Ok(()));
}

#[test]
fn the_store_is_told_whether_to_ask_again() {
    use state_store::{Device, DeviceError};
    let (mut block, host, disk) = open();
    assert_eq!(Device::sectors(&block), SECTORS as u64);
    let bytes = [3; 1024];
    Device::write(&mut block, 5, &bytes).unwrap();
    Device::flush(&mut block).unwrap();
    assert_eq!(disk.borrow()[5 * 512..7 * 512], bytes);
    let mut read = [0; 1024];
    Device::read(&mut block, 5, &mut read).unwrap();
    assert_eq!(read, bytes);
    host.model().work = Box::new(|_, _, _| None);
    let failed = Err(DeviceError::Failed);
    assert_eq!(Device::flush(&mut block), failed);
    assert_eq!(Device::read(&mut block, 5, &mut read), failed);
    assert_eq!(Device::write(&mut block, 5, &bytes), failed);
    // Beyond its end nothing will ever be, and yet the device is there.
    assert_eq!(Device::write(&mut block, 300, &bytes), failed);
    host.model().device_config[0] ^= 1;
    let gone = Err(DeviceError::Gone);
    assert_eq!(Device::flush(&mut block), gone);
    assert_eq!(Device::flush(&mut block), gone);
    assert_eq!(Device::read(&mut block, 5, &mut read), gone);
}

#[test]
fn a_device_says_its_name() {
    let (mut block, host, _) = open();
    // The name is what the device writes; of what it does not write nothing is taken for it.
    block.write(0, &[0x77; 65_536]).unwrap();
    host.model().work = Box::new(|memory, _, request| {
        let header = request.read(memory);
        assert_eq!(header[..4], 8_u32.to_le_bytes());
        let [_, status] = request.writable[..] else {
            panic!("a name and a status");
        };
        memory.device_write(status.gpa, &[0]);
        memory.device_write(request.writable[0].gpa, b"name");
        Some(1)
    });
    let mut expected = [0; 20];
    expected[..4].copy_from_slice(b"name");
    assert_eq!(block.identify(), Ok(expected));
    host.model().work = Box::new(|memory, _, request| {
        memory.device_write(request.writable[1].gpa, &[2]);
        Some(1)
    });
    assert_eq!(block.identify(), Err(BlockError::Unsupported));
}

#[test]
fn a_device_that_says_that_it_cannot_go_on_is_not_waited_for() {
    let (mut block, host, _) = open();
    host.model().work = Box::new(|_, _, _| None);
    host.model().lie = Some(Box::new(|offset, value| match value {
        15 if offset == 0x14 => 15 | 64,
        _ => value,
    }));
    let start = block.clock.now();
    let needs_reset = BlockError::from(PciError::NeedsReset);
    assert_eq!(block.flush(), Err(needs_reset));
    assert!(block.clock.now() - start < LIMITS.attempt);
}

#[test]
fn a_device_that_becomes_another_one_is_refused() {
    for change in [
        (|host: &ModelHost| host.model().device_config[0] = 1) as fn(&ModelHost),
        |host| host.model().offered &= !block::FEATURE_FLUSH,
        |host| host.model().offered |= block::FEATURE_RO,
    ] {
        let (mut block, host, _) = open();
        change(&host);
        host.model().work = Box::new(|_, _, _| None);
        let error = block.read(0, &mut [0; 512]).unwrap_err();
        assert_eq!(error, BlockError::Changed);
        assert_eq!(block.flush(), Err(BlockError::GivenUp));
    }
}

#[test]
fn absurd_configurations_are_bounded() {
    let memory = Shared::new(BASE, 0x8000);
    let (all, _) = disk::host(&memory);
    all.model().device_config[..8].fill(0xFF);
    let mut block = open_with(&all, &memory).unwrap();
    assert_eq!(block.sectors(), u64::MAX / 512);
    let far = BlockError::Range {
        sector: u64::MAX / 512,
        sectors: 1,
    };
    assert_eq!(block.read(u64::MAX / 512, &mut [0; 512]), Err(far));
    for (most, chunk) in [
        (0_u32, None),
        (511, None),
        (1500, Some(1024)),
        (u32::MAX, Some(4096)),
    ] {
        let (sized, _) = disk::host(&memory);
        sized.model().offered |= block::FEATURE_SIZE_MAX;
        sized.model().device_config[8..12].copy_from_slice(&most.to_le_bytes());
        let opened = open_with(&sized, &memory);
        match chunk {
            None => assert_eq!(opened.unwrap_err(), BlockError::SizeMax(most)),
            Some(chunk) => {
                let mut block = opened.unwrap();
                assert_eq!(block.geometry.chunk, chunk);
                block.read(0, &mut [1; 8192]).unwrap();
            }
        }
    }
    for (size, works) in [(1, false), (2, false), (4, true), (32768, true)] {
        let (sized, _) = disk::host(&memory);
        sized.model().queues[0].most = size;
        let mut block = open_with(&sized, &memory).unwrap();
        assert_eq!(block.read(0, &mut [1; 65536]).is_ok(), works, "{size}");
    }
    let small = Shared::new(BASE, Driver::MEMORY_MIN - 1);
    let (host, _) = disk::host(&small);
    assert_eq!(
        open_with(&host, &small).unwrap_err(),
        QueueError::Memory.into()
    );
}

#[test]
fn a_device_says_what_it_can_do() {
    let memory = Shared::new(BASE, 0x8000);
    let (host, _) = disk::host(&memory);
    host.model().offered = feature::VERSION_1 | feature::ACCESS_PLATFORM | block::FEATURE_RO;
    let mut block = open_with(&host, &memory).unwrap();
    assert_eq!(block.write(0, &[0; 512]), Err(BlockError::ReadOnly));
    assert_eq!(block.flush(), Err(BlockError::NoFlush));
    host.model().offered = feature::VERSION_1;
    let error = open_with(&host, &memory).unwrap_err();
    assert_eq!(error, PciError::Features(feature::ACCESS_PLATFORM).into());
}

/// A host that answers as it should most of the time, and writes into shared memory before any read.
fn hostile(host: &ModelHost, memory: &Shared, disk: &Disk, seed: u64) {
    let mut number = numbers(seed);
    memory.before_read(move |bytes, offset, length| {
        if number().is_multiple_of(64) {
            let value = number().to_le_bytes();
            let length = length.min(8);
            bytes[offset..offset + length].copy_from_slice(&value[..length]);
        }
        if number().is_multiple_of(64) {
            let at = number() as usize % bytes.len();
            bytes[at] = number() as u8;
        }
    });
    let mut number = numbers(seed.rotate_left(17));
    let disk = disk.clone();
    let mut model = host.model();
    model.work = Box::new(move |memory, _, request| {
        // The model reads descriptors that the host overwrote: those it cannot follow, it does not.
        let fits = |s: &crate::virtio::ring::Segment| {
            s.gpa >= BASE && s.gpa.saturating_add(s.length.into()) <= BASE + 0x8000
        };
        let mut parts = request.readable.iter().chain(&request.writable);
        if !parts.all(fits) || request.writable_length() == 0 {
            return None;
        }
        let bytes = request.read(memory);
        if bytes.len() < 16 || bytes[10..16] != [0; 6] {
            return None;
        }
        let sector = usize::from(u16::from_le_bytes(bytes[8..10].try_into().unwrap()));
        let length = bytes.len().max(request.writable_length() as usize);
        if sector * 512 + length > SECTORS * 512 {
            return None;
        }
        Some(serve(&mut disk.borrow_mut(), memory, request))
    });
    model.answer = Box::new(move |queue, request, length| match number() % 16 {
        0 => {}
        1 => queue.push(number() as u32 % 20, length),
        2 => queue.push(request.head.into(), number() as u32 % 600),
        3 => queue.set_used_index(number() as u16 % 64),
        4 => {
            queue.push(request.head.into(), length);
            queue.push(request.head.into(), length);
        }
        _ => queue.push(request.head.into(), length),
    });
    let mut number = numbers(seed.rotate_left(31));
    model.lie = Some(Box::new(move |offset, value| match number() % 128 {
        0 if offset < 0x1000 => number() & 0xFF,
        _ => value,
    }));
}

/// Calls against such a host: each ends, and all buffers are there after each.
fn run(seed: u64, calls: u32) {
    let memory = Shared::new(BASE, 0x8000);
    let (host, disk) = disk::host(&memory);
    let mut block = open_with(&host, &memory).unwrap();
    block.limits.attempt = 200_000;
    block.limits.reset = 50_000;
    let all = block.slots.free();
    hostile(&host, &memory, &disk, seed);
    let mut number = numbers(!seed);
    for _ in 0..calls {
        let sector = number() % 200;
        let length = (number() % 40) as usize * 512;
        let _ = match number() % 3 {
            0 => block.read(sector, &mut vec![0; length]),
            1 => block.write(sector, &vec![3; length]),
            _ => block.flush(),
        };
        let in_flight = block.link.as_ref().map_or(0, |link| link.ring.in_flight());
        assert_eq!(block.slots.free() + usize::from(in_flight), all);
    }
}

#[test]
fn a_thousand_hostile_hosts_lose_no_buffer() {
    for seed in 0..1_000 {
        run(u64::wrapping_mul(seed, 0x9E37_79B9_7F4A_7C15), 6);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_hostile_host_loses_no_buffer(seed in any::<u64>()) {
        run(seed, 20);
    }
}
