//! The queue against drivers that keep the rules, and drivers that do not.

extern crate std;

mod broken;

use super::*;
use crate::machine::devices::virtio::model::{Driver, Guest, INDIRECT, L1_START, NEXT, Own, WRITE};
use crate::virtio::model::memory::Shared;
use crate::virtio::ring::{Notification, Ring, Segment};
use alloc::collections::BTreeMap;
use proptest::prelude::*;

const BASE: u64 = 0x1_0000;
const SIZE: u16 = 8;
const BOUNDS: Bounds = Bounds {
    readable: 0x2000,
    writable: 0x3000,
};

fn terms(suppression: Suppression) -> Terms {
    Terms {
        suppression,
        indirect: true,
        bounds: BOUNDS,
    }
}

fn with(suppression: Suppression) -> (Guest, Driver, Queue) {
    let guest = Guest::new();
    let driver = Driver::new(&guest, BASE, SIZE);
    let queue = Queue::new(driver.places, 256, terms(suppression), &guest).unwrap();
    (guest, driver, queue)
}

/// What the queue says to one chain, whose descriptors `describe` writes and whose head is 0.
fn fault(describe: impl Fn(&Driver)) -> Fault {
    let (guest, mut driver, mut queue) = with(Suppression::Flags);
    describe(&driver);
    driver.offer(0);
    let fault = queue.take(&guest).unwrap_err();
    assert_eq!(queue.take(&guest), Err(fault), "and nothing after it");
    assert!(
        guest.writes.borrow().is_empty(),
        "{fault}: nothing is written"
    );
    fault
}

fn foreign_at(gpa: u64, length: u64) -> Fault {
    Fault::Foreign { gpa, length }
}

#[test]
fn a_request_goes_there_and_back() {
    let (guest, mut driver, mut queue) = with(Suppression::Flags);
    guest.put(0x4000, b"ques");
    guest.put(0x5000, b"tion");
    driver.describe(3, 0x4000, 4, NEXT, 5);
    driver.describe(5, 0x5000, 4, NEXT, 0);
    driver.describe(0, 0x6000, 3, NEXT | WRITE, 1);
    driver.describe(1, 0x7000, 8, WRITE, 0);
    assert_eq!(queue.take(&guest), Ok(None));
    driver.offer(3);
    let chain = queue.take(&guest).unwrap().unwrap();
    assert_eq!((chain.readable.length(), chain.writable.length()), (8, 11));
    let mut read = [0; 8];
    let mut reader = chain.readable.reader();
    for piece in read.chunks_mut(3) {
        reader.read(&guest, piece).unwrap();
    }
    assert_eq!(&read, b"question");
    let mut writer = chain.writable.writer();
    for bytes in [&b"an"[..], b"swers", b"", b"!"] {
        writer.write(&guest, bytes).unwrap();
    }
    queue.complete(&guest, chain, 8).unwrap();
    assert_eq!(driver.done(), Some((3, 8)));
    assert_eq!(
        (guest.get(0x6000, 4), guest.get(0x7000, 6)),
        (b"ans\0".to_vec(), b"wers!\0".to_vec())
    );
    assert_eq!(queue.interrupts(&guest), Ok(true));
    assert_eq!(queue.interrupts(&guest), Ok(false), "told once");
}

#[test]
fn bytes_go_between_l2_and_memory_that_the_host_sees() {
    let (guest, mut driver, mut queue) = with(Suppression::Flags);
    let bytes: Vec<u8> = (0..1000_u32).map(|byte| byte as u8).collect();
    guest.put(0x4FF0, &bytes);
    driver.describe(0, 0x4FF0, 700, NEXT, 1);
    driver.describe(1, 0x4FF0 + 700, 300, NEXT, 2);
    driver.describe(2, 0x8000, 5, NEXT | WRITE, 3);
    driver.describe(3, 0x9000, 600, WRITE, 0);
    driver.offer(0);
    let chain = queue.take(&guest).unwrap().unwrap();
    let shared = Shared::new(0x50_0000, 2000);
    let mut reader = chain.readable.reader();
    let mut header = [0; 12];
    reader.read(&guest, &mut header).unwrap();
    // By way of L1's memory each byte is copied twice.
    assert_eq!(reader.share(&guest, &shared, 12, 988), Ok(2 * 988));
    assert_eq!(header, bytes[..12]);
    assert_eq!(shared.device_read(0x50_0000 + 12, 988), bytes[12..]);
    assert_eq!(reader.share(&guest, &shared, 12, 988), Ok(0), "the end");
    let again = || chain.readable.reader();
    for (offset, length) in [(1500, 501), (2001, 1), (usize::MAX, 2)] {
        let beyond = again().share(&guest, &shared, offset, length);
        assert!(beyond.is_err(), "{offset}");
    }
    let mut writer = chain.writable.writer();
    let mut part = |offset, length| writer.write_shared(&guest, &shared, offset, length);
    assert_eq!((part(12, 4), part(16, 400)), (Ok(8), Ok(800)));
    assert_eq!(part(416, 400), Ok(2 * 201), "no more than there is room");
    assert_eq!(guest.get(0x8000, 6), [&bytes[12..17], &[0]].concat());
    assert_eq!(guest.get(0x9000, 601), [&bytes[17..617], &[0]].concat());
    let beyond = chain.writable.writer();
    assert!(
        beyond
            .clone()
            .write_shared(&guest, &shared, 1999, 2)
            .is_err()
    );
}

#[test]
fn a_request_has_the_room_of_one_that_came_back() {
    let (guest, mut driver, mut queue) = with(Suppression::Flags);
    driver.describe(0, 0x4000, 8, NEXT, 1);
    driver.describe(1, 0x5000, 4, NEXT, 2);
    driver.describe(2, 0x6000, 11, WRITE, 0);
    for _ in 0..3 {
        driver.offer(0);
        let chain = queue.take(&guest).unwrap().unwrap();
        assert_eq!((chain.readable.length(), chain.writable.length()), (12, 11));
        assert!(queue.spare.is_empty(), "it is the request's");
        queue.complete(&guest, chain, 11).unwrap();
        assert_eq!(queue.spare.len(), 1);
        let (readable, writable) = &queue.spare[0];
        assert_eq!((readable.length(), writable.length()), (0, 0));
    }
}

#[test]
fn buffers_in_a_row_are_one() {
    let mut buffers = Buffers::default();
    for (gpa, length, parts) in [
        (0x5000, 0x1000, 1),
        (0x6000, 0x1000, 1),
        (0x8000, 0x1000, 2),
        (0x7000, 0x1000, 3),
        (0x8000, 0x10, 3),
    ] {
        buffers.push(gpa, length, 0x1_0000).unwrap();
        assert_eq!(buffers.parts(), parts, "{gpa:#x}");
    }
    assert_eq!(buffers.length(), 0x4010);
    // What ends with the last address has nothing behind it.
    buffers.push(u64::MAX - 0xF, 0x10, 0x1_0000).unwrap();
    buffers.push(0, 0x10, 0x1_0000).unwrap();
    assert_eq!(buffers.parts(), 5);
}

#[test]
fn a_table_of_descriptors_is_a_chain() {
    let (guest, mut driver, mut queue) = with(Suppression::Flags);
    // A chain of the queue may end in a table (VIRTIO 2.7.5.3.2), whose own write flag means nothing.
    driver.describe(0, 0x4000, 4, NEXT, 1);
    driver.describe(1, 0x8010, 32, INDIRECT | WRITE, 9);
    guest.put(0x8010, &Driver::bytes(0x5000, 6, NEXT, 1));
    guest.put(0x8020, &Driver::bytes(0x6000, 7, WRITE, 0));
    driver.offer(0);
    let chain = queue.take(&guest).unwrap().unwrap();
    assert_eq!((chain.readable.length(), chain.writable.length()), (10, 7));
    assert_eq!(chain.head(), 0);
}

#[test]
fn event_indices_decide_who_is_told() {
    let (guest, mut driver, mut queue) = with(Suppression::EventIndex);
    driver.describe(0, 0x4000, 8, WRITE, 0);
    for round in 0..70_000_u32 {
        let index = round as u16;
        assert_eq!(queue.ask_for_notification(&guest), Ok(Pending::No));
        assert_eq!(driver.available_event(), index);
        queue.ask_for_none(&guest).unwrap();
        assert_eq!(driver.available_event(), index.wrapping_sub(1));
        driver.offer(0);
        assert_eq!(queue.ask_for_notification(&guest), Ok(Pending::Yes));
        let chain = queue.take(&guest).unwrap().unwrap();
        // The driver wants to hear of every third.
        driver.set_used_event(index / 3 * 3);
        queue.complete(&guest, chain, 1).unwrap();
        assert_eq!(
            queue.interrupts(&guest),
            Ok(index.is_multiple_of(3)),
            "{index}"
        );
        driver.done().unwrap();
        guest.reads.borrow_mut().clear();
        guest.writes.borrow_mut().clear();
    }
}

#[test]
fn flags_decide_where_no_indices_were_agreed_on() {
    let (guest, mut driver, mut queue) = with(Suppression::Flags);
    driver.describe(0, 0x4000, 8, WRITE, 0);
    queue.ask_for_none(&guest).unwrap();
    assert_eq!(guest.get_u16(driver.places.used), 1);
    assert_eq!(queue.ask_for_notification(&guest), Ok(Pending::No));
    assert_eq!(guest.get_u16(driver.places.used), 0);
    for (flags, told) in [(1, false), (0, true)] {
        guest.put(driver.places.available, &[flags, 0]);
        driver.offer(0);
        let chain = queue.take(&guest).unwrap().unwrap();
        queue.complete(&guest, chain, 0).unwrap();
        assert_eq!(queue.interrupts(&guest), Ok(told));
    }
}

proptest! {
    #[test]
    fn l1s_driver_and_l1s_device_understand_each_other(
        steps in proptest::collection::vec((0_u8..4, 1_u32..64, 1_u32..64), 0..300), indices: bool,
    ) {
        let guest = Guest::new();
        let suppression = if indices { Suppression::EventIndex } else { Suppression::Flags };
        let memory = Own { guest: guest.clone(), gpa: BASE, length: 0x4000 };
        let mut ring = Ring::new(memory, 16, suppression).unwrap();
        let areas = ring.areas();
        let places = Places {
            size: 16,
            descriptors: areas.descriptors,
            available: areas.available,
            used: areas.used,
        };
        let mut queue = Queue::new(places, 16, terms(suppression), &guest).unwrap();
        let mut out = BTreeMap::new();
        let mut number = 0;
        for (step, readable, writable) in steps {
            match step {
                0 | 1 => {
                    let out = [Segment { gpa: 0x4000, length: readable }];
                    let into = [Segment { gpa: 0x5000, length: writable }];
                    let pending = queue.ask_for_notification(&guest).unwrap();
                    if ring.post(&out, &into, (number, readable, writable)).is_ok() {
                        number += 1;
                        let told = ring.notification();
                        prop_assert!(pending == Pending::Yes || told == Notification::Needed);
                    }
                }
                2 => if let Some(chain) = queue.take(&guest).unwrap() {
                    out.insert(chain.head(), chain);
                },
                _ => if let Some((_, chain)) = out.pop_first() {
                    let length = chain.writable.length();
                    queue.complete(&guest, chain, length).unwrap();
                    let done = ring.take().unwrap().unwrap();
                    prop_assert_eq!(done.written, done.token.2);
                    prop_assert_eq!(done.written, length);
                },
            }
            prop_assert!(out.len() <= 16);
        }
    }

    /// Whatever a driver writes, and rewrites before each read: no panic, no access outside of L2's memory (the model
    /// would have said so by an error), no more work than the bounds allow.
    #[test]
    fn no_ring_makes_it_panic_or_work_without_a_bound(
        noise in proptest::collection::vec(any::<u8>(), 0x300),
        likely in proptest::collection::vec((0_u16..9, 0_u64..0x12_0000, 0_u32..0x4000, 0_u16..8, 0_u16..9), 0..12),
        heads in proptest::collection::vec(0_u16..9, 0..9),
        changes in proptest::collection::vec((0_usize..0x3000, any::<u8>()), 0..40),
        complete in proptest::collection::vec(any::<u32>(), 0..9),
    ) {
        let (guest, mut driver, mut queue) = with(Suppression::EventIndex);
        guest.put(BASE, &noise[..0x100]);
        guest.put(BASE + 0x1004, &noise[0x100..0x200]);
        guest.put(0x8000, &noise[0x200..]);
        for (index, gpa, length, flags, next) in likely {
            driver.describe(index, gpa, length, flags, next);
            guest.put(0x8000 + 16 * u64::from(index), &Driver::bytes(gpa, length, flags & 3, next));
        }
        for head in heads {
            driver.offer(head);
        }
        let mut changes = changes.into_iter();
        guest.before_read(move |ram, _, _| if let Some((at, byte)) = changes.next() {
            ram[BASE as usize + at] = byte;
        });
        let mut chains = Vec::new();
        for _ in 0..20 {
            let before = guest.reads.borrow().len();
            match queue.take(&guest) {
                Ok(Some(chain)) => chains.push(chain),
                Ok(None) => break,
                Err(fault) => {
                    prop_assert_eq!(queue.take(&guest), Err(fault));
                    break;
                }
            }
            prop_assert!(guest.reads.borrow().len() - before <= 2 + usize::from(SIZE) + 2);
        }
        prop_assert!(chains.len() <= SIZE.into(), "each head once");
        for (chain, written) in chains.into_iter().zip(complete) {
            prop_assert!(chain.readable.length() <= BOUNDS.readable);
            prop_assert!(chain.writable.length() <= BOUNDS.writable);
            let mut bytes = vec![0; chain.readable.length() as usize];
            chain.readable.reader().read(&guest, &mut bytes).unwrap();
            chain.writable.writer().write(&guest, &[7; 0x4000]).unwrap();
            queue.complete(&guest, chain, written).unwrap();
        }
        let _ = queue.interrupts(&guest);
        let _ = queue.ask_for_none(&guest);
    }
}
