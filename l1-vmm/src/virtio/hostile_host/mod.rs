//! What a hostile host can do to L1's own devices: a test for each row of the table in `docs/threat-model.md`,
//! "Hostile virtio devices", on both drivers.
//!
//! The tests beside ring, transport and drivers go through the rules one by one; here it is what comes out above them.

mod bench;

use super::block::BlockError;
use super::buffers::QueueError;
use super::clock::Clock;
use super::model::device::{CAP_MSIX, Lie};
use super::model::disk;
use super::model::memory::Shared;
use super::model::port;
use super::pci::PciError;
use super::ring::Broken;
use super::stream::StreamError;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec;
use bench::{BASE, LIMITS, disk, open_disk, open_port, port};
use core::cell::{Cell, RefCell};
use virtio_defs::{block, console, feature, pci as virtio};

/// Both drivers, and a device that tells of its completions as `lie` does: the errors are broken rules, and pass.
fn breaks(lie: Lie, is_expected: fn(&Broken) -> bool) {
    let mut disk = disk();
    disk.host.model().answer = Box::new(lie);
    match disk.read() {
        Err(BlockError::Queue(QueueError::Broken(broken))) if is_expected(&broken) => {}
        other => panic!("{other:?}"),
    }
    disk.recovers();
    let mut port = port();
    port.host.model().answer = Box::new(lie);
    match port.send(b"bytes") {
        Err(StreamError::Queue(QueueError::Broken(broken))) if is_expected(&broken) => {}
        other => panic!("{other:?}"),
    }
    port.recovers();
}

/// Row 1.
#[test]
fn forged_used_ids_reach_nothing() {
    let not_there = |broken: &Broken| matches!(broken, Broken::UsedId { .. });
    breaks(|queue, _, _| queue.push(300, 0), not_there);
    breaks(|queue, _, _| queue.push(u32::MAX, 0), not_there);
    breaks(
        |queue, request, _| queue.push(u32::from(request.head) | 0x1_0000, 0),
        not_there,
    );
    let not_in_flight = |broken: &Broken| matches!(broken, Broken::NotInFlight { .. });
    breaks(
        |queue, _, _| queue.push(u32::from(queue.areas.size) - 1, 0),
        not_in_flight,
    );
    // The middle of a chain, and the same head twice: a disk's requests have several descriptors.
    for forged in [
        (|queue, request, _| queue.push(u32::from(request.head) + 1, 0)) as Lie,
        |queue, _, length| queue.push(0, length),
    ] {
        let mut disk = disk();
        disk.host.model().answer = Box::new(forged);
        let error = disk.read().unwrap_err();
        let BlockError::Queue(QueueError::Broken(Broken::NotInFlight { .. })) = error else {
            panic!("{error:?}");
        };
        disk.recovers();
    }
}

/// Row 2.
#[test]
fn used_lengths_are_never_believed() {
    let too_long = |broken: &Broken| matches!(broken, Broken::UsedLength { .. });
    breaks(
        |queue, request, _| queue.push(request.head.into(), 100_000),
        too_long,
    );
    breaks(
        |queue, request, _| queue.push(request.head.into(), u32::MAX),
        too_long,
    );
    // Less than was asked for is no success of a read, and no byte of a stream.
    let mut disk = disk();
    disk.host.model().answer = Box::new(|queue, request, _| queue.push(request.head.into(), 0));
    let short = BlockError::Short {
        written: 0,
        length: 4096,
    };
    assert_eq!(disk.read(), Err(short));
    disk.recovers();
    let mut port = port();
    port.host.model().answer = Box::new(|queue, request, _| queue.push(request.head.into(), 0));
    port.answers(b"nothing of it");
    assert_eq!(port.receive(100), Err(StreamError::TimeOut));
    // All of a buffer, of which the device wrote two bytes, is what was in shared memory.
    port.host.model().answer =
        Box::new(|queue, request, _| queue.push(request.head.into(), request.writable_length()));
    port.answers(b"ab");
    let received = port.receive(10_000).unwrap();
    assert_eq!(received[..2], *b"ab");
    assert_eq!(received.len(), 2048);
    assert!(received[2..].iter().all(|byte| *byte == 0xA5));
}

/// Row 3.
#[test]
fn used_indices_that_jump_or_go_back_break_the_queue() {
    let jumped = |broken: &Broken| matches!(broken, Broken::UsedIndex { .. });
    breaks(|queue, _, _| queue.set_used_index(9), jumped);
    breaks(|queue, _, _| queue.set_used_index(0x8000), jumped);
    breaks(|queue, _, _| queue.set_used_index(u16::MAX), jumped);
    breaks(
        |queue, request, length| {
            queue.push(request.head.into(), length.min(1));
            queue.set_used_index(queue.used.wrapping_sub(2));
        },
        jumped,
    );
}

/// Row 4.
#[test]
fn rewritten_descriptors_change_nothing() {
    /// Overwrites all descriptors and all heads of the queue at `start`, when L1 looks at its used ring: what was
    /// made available the device has read by then.
    fn overwrite(bytes: &mut [u8], start: usize, size: usize, offset: usize) {
        let heads = start + 16 * size + 4;
        let used = (heads + 2 * size + 2).next_multiple_of(4);
        if (used..used + 4 + 8 * size).contains(&offset) {
            bytes[start..start + 16 * size].fill(0xFF);
            bytes[heads..heads + 2 * size].fill(0xFF);
        }
    }
    let mut disk = disk();
    disk.memory
        .before_read(|bytes, offset, _| overwrite(bytes, 0, 16, offset));
    for _ in 0..100 {
        assert_eq!(disk.read(), Ok(()));
        assert_eq!(disk.driver.write(100, &[9; 9 * 512]), Ok(()));
    }
    assert_eq!(disk.disk.borrow()[100 * 512..109 * 512], [9; 9 * 512]);
    // Of what L1 sends; the buffers that it receives into were posted long before.
    let mut port = port();
    port.memory.before_read(|bytes, offset, _| {
        let half = (bytes.len() / 2) & !511;
        overwrite(bytes, half, 8, offset);
    });
    let long = [7; 100_000];
    assert_eq!(port.send(&long), Ok(()));
    assert_eq!(port.port.borrow().received, long);
    port.answers(b"answer");
    assert_eq!(port.receive(100).unwrap(), b"answer");
}

/// Row 5.
#[test]
fn what_the_host_writes_is_read_once() {
    /// How often each byte is read from now on.
    fn count(memory: &Shared) -> Rc<RefCell<BTreeMap<usize, u32>>> {
        let counts = Rc::new(RefCell::new(BTreeMap::new()));
        let theirs = counts.clone();
        memory.before_read(move |_, offset, length| {
            for at in offset..offset + length {
                *theirs.borrow_mut().entry(at).or_default() += 1;
            }
        });
        counts
    }
    let mut disk = disk();
    let counts = count(&disk.memory);
    assert_eq!(disk.read(), Ok(()));
    // Two requests of 4096 bytes: data and a status each.
    let counts = counts.borrow();
    let buffers = counts.range(2048..);
    assert!(buffers.clone().all(|(_, count)| *count == 1));
    assert_eq!(buffers.count(), 2 * (4096 + 1));
    // Of the used ring, behind 16 descriptors and the available ring, each element.
    let used = 16 * 16 + 4 + 2 * 16 + 2;
    let used = usize::next_multiple_of(used, 4);
    let elements = counts.range(used + 4..used + 4 + 8 * 16);
    assert!(elements.clone().all(|(_, count)| *count == 1));
    assert_eq!(elements.count(), 2 * 8);
    assert_eq!(counts.range(..16 * 16 + 4 + 2 * 16).count(), 0);

    let mut port = port();
    port.answers(b"six by");
    let counts = count(&port.memory);
    assert_eq!(port.receive(100).unwrap(), b"six by");
    let counts = counts.borrow();
    let buffers = counts.range(512..);
    assert!(buffers.clone().all(|(_, count)| *count == 1));
    assert_eq!(buffers.count(), 6);
}

/// Row 6.
#[test]
fn completions_that_never_come_or_come_too_late_are_none() {
    let mut silent = disk();
    silent.host.model().work = Box::new(|_, _, _| None);
    assert_eq!(silent.read(), Err(BlockError::TimeOut));
    silent.recovers();
    // An answer to a request of before the reset, when the next one is there: nothing is taken from it.
    let mut late = disk();
    late.host.model().work = Box::new(|_, _, _| None);
    assert_eq!(late.driver.flush(), Err(BlockError::TimeOut));
    late.host.model().answer = Box::new(|queue, request, _| queue.push(request.head.into(), 1));
    late.host.model().work = Box::new(|_, _, _| Some(1));
    assert_eq!(late.read(), Err(BlockError::Status(0xFF)));
    late.recovers();
    let mut port = port();
    port.host.model().work = Box::new(|_, _, _| None);
    assert_eq!(port.receive(1), Err(StreamError::TimeOut));
    assert_eq!(port.send(b"x"), Err(StreamError::TimeOut));
    port.recovers();
}

/// Registers of BAR 4 that lie while a device is started, and what comes of it. Afterwards it is honest.
fn starts(lie: impl FnMut(u64, u64) -> u64 + Clone + 'static, expected: PciError) {
    let memory = Shared::new(BASE, 0x1_1000);
    let (host, _) = disk::host(&memory);
    host.model().lie = Some(Box::new(lie.clone()));
    let error = open_disk(&host, &memory).err();
    assert_eq!(error, Some(BlockError::from(expected)));
    assert!(host.model().accesses < 5_000);
    host.model().lie = None;
    assert!(open_disk(&host, &memory).is_ok());
    let (host, _) = port::host(&memory);
    host.model().lie = Some(Box::new(lie));
    let error = open_port(&host, &memory).err();
    // A console has no configuration that L1 reads.
    match expected {
        PciError::ConfigurationUnstable => assert_eq!(error, None),
        _ => assert_eq!(error, Some(StreamError::from(expected))),
    }
    host.model().lie = None;
    assert!(open_port(&host, &memory).is_ok());
}

/// Row 7.
#[test]
fn a_start_that_does_not_settle_ends() {
    let status = u64::from(virtio::COMMON_STATUS);
    starts(
        move |offset, value| if offset == status { 15 } else { value },
        PciError::Reset,
    );
    starts(
        move |offset, value| match value {
            11 if offset == status => 3,
            _ => value,
        },
        PciError::FeaturesRefused,
    );
    let features = u64::from(virtio::COMMON_DEVICE_FEATURE);
    // The lower half twice: VERSION_1 is missing.
    starts(
        move |offset, value| match offset {
            _ if offset == features => value & !1,
            _ => value,
        },
        PciError::Features(feature::VERSION_1),
    );
    // Other features at each start: it is another device.
    let mut disk = disk();
    disk.host.model().work = Box::new(|_, _, _| None);
    assert_eq!(disk.read(), Err(BlockError::TimeOut));
    disk.host.model().offered &= !block::FEATURE_FLUSH;
    assert_eq!(disk.read(), Err(BlockError::Changed));
}

/// Row 8.
#[test]
fn absurd_configurations_are_refused() {
    fn at(register: u32, value: u64) -> impl FnMut(u64, u64) -> u64 + Clone {
        move |offset, honest| match offset == u64::from(register) {
            true => value,
            false => honest,
        }
    }
    starts(at(virtio::COMMON_NUM_QUEUES, 0), PciError::NoQueue(0));
    starts(at(virtio::COMMON_QUEUE_SIZE, 0), PciError::NoQueue(0));
    for size in [3, 0xFFFF] {
        let expected = PciError::QueueSize {
            queue: 0,
            size: size as u16,
        };
        starts(at(virtio::COMMON_QUEUE_SIZE, size), expected);
    }
    starts(
        at(virtio::COMMON_QUEUE_NOTIFY_OFF, 0xFFFF),
        PciError::NotifyPlace(0),
    );
    starts(at(virtio::COMMON_QUEUE_ENABLE, 1), PciError::QueueEnable(0));
    starts(
        at(virtio::COMMON_QUEUE_VECTOR, 0),
        PciError::Vector(virtio::NO_VECTOR),
    );
    let generation = Rc::new(Cell::new(0));
    starts(
        move |offset, value| match offset == u64::from(virtio::COMMON_GENERATION) {
            true => {
                generation.set(generation.get() + 1);
                generation.get() & 0xFF
            }
            false => value,
        },
        PciError::ConfigurationUnstable,
    );
    // Any number of queues and any capacity will do: L1 uses what it needs.
    let memory = Shared::new(BASE, 0x1_1000);
    let (host, _) = disk::host(&memory);
    host.model().device_config[..8].fill(0xFF);
    host.model().lie = Some(Box::new(at(virtio::COMMON_NUM_QUEUES, 65535)));
    let mut bench = open_disk(&host, &memory).unwrap();
    assert_eq!(bench.driver.sectors(), u64::MAX / 512);
    let beyond = bench.driver.read(u64::MAX / 512, &mut [0; 512]);
    assert!(matches!(beyond, Err(BlockError::Range { .. })));
}

/// Row 10.
#[test]
fn no_interrupt_is_asked_for_or_waited_for() {
    let mut disk = disk();
    assert_eq!(disk.read(), Ok(()));
    let mut port = port();
    assert_eq!(port.send(b"x"), Ok(()));
    for host in [&disk.host, &port.host] {
        let model = host.model();
        assert_eq!(model.config[CAP_MSIX + 3] & 0x80, 0, "MSI-X is off");
        assert!(model.queues.iter().all(|q| q.vector == virtio::NO_VECTOR));
        for queue in &model.queues {
            // The event that is furthest away: none comes for 65,535 completions.
            let side = queue.side.as_ref().unwrap();
            assert_eq!(side.used_event(), u16::MAX);
        }
    }
}

/// Row 11.
#[test]
fn a_device_that_vanishes_at_any_access_is_an_error() {
    let mut opened = 0;
    for last in 0..250 {
        let memory = Shared::new(BASE, 0x1_1000);
        let (host, _) = disk::host(&memory);
        host.model().pulled_after = Some(last);
        let Ok(mut bench) = open_disk(&host, &memory) else {
            continue;
        };
        opened += 1;
        let start = bench.clock.now();
        let calls = (0..250).find(|_| bench.driver.write(0, &[1; 4096]).is_err());
        assert!(calls.is_some() && bench.driver.flush().is_err());
        assert!(bench.clock.now() - start < 3 * LIMITS.attempt);
    }
    for last in 0..250 {
        let memory = Shared::new(BASE, 0x9000);
        let (host, _) = port::host(&memory);
        host.model().pulled_after = Some(last);
        let Ok(mut bench) = open_port(&host, &memory) else {
            continue;
        };
        opened += 1;
        let start = bench.clock.now();
        let calls = (0..250).find(|_| bench.send(b"x").is_err());
        assert!(calls.is_some() && bench.receive(1).is_err());
        assert!(bench.driver.restart().is_err());
        assert!(bench.clock.now() - start < 10_000_000);
    }
    assert!(opened > 100, "{opened}");
    // An error instead of ones.
    let mut disk = disk();
    disk.host.model().gone = true;
    assert!(matches!(
        disk.read(),
        Err(BlockError::Queue(QueueError::Device(_)))
    ));
    disk.host.model().gone = false;
    disk.recovers();
}

/// Row 12.
#[test]
fn done_without_doing_it_shows_only_what_the_host_has_seen() {
    let mut disk = disk();
    disk.driver.write(50, &[0xB7; 4096]).unwrap();
    disk.host.model().work = Box::new(|memory, _, request| {
        let status = request.writable.last()?;
        memory.device_write(status.gpa, &[0]);
        Some(request.writable_length())
    });
    let mut into = [0; 4096];
    assert_eq!(disk.driver.read(4, &mut into), Ok(()));
    // A buffer's old bytes: what was written through it, or what the page had when it became shared. Whoever
    // reads a disk of the host's has to know its bytes again: the state's seal does.
    assert!(into.iter().all(|byte| [0xB7, 0xA5].contains(byte)));
}

/// Row 13.
#[test]
fn a_port_that_floods_gives_no_more_than_was_asked_for() {
    let mut port = port();
    port.host.model().work = Box::new(|memory, queue, request| match queue {
        console::QUEUE_TRANSMIT => Some(0),
        _ => Some(request.write(memory, &[b'a'; 5000])),
    });
    port.host.model().retry(console::QUEUE_RECEIVE);
    for length in [1, 10, 3000, 2048] {
        let received = port.receive(length).unwrap();
        assert_eq!(received, vec![b'a'; received.len()]);
    }
    // It goes on at once when it gets a buffer again: a call takes one at a time, and what is sent gets through.
    assert_eq!(port.send(&[1; 10_000]), Ok(()));
    let before = port.host.model().accesses;
    assert_eq!(port.receive(1).unwrap(), b"a");
    assert!(port.host.model().accesses - before < 4);
}
