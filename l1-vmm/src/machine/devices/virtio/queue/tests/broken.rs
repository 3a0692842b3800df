//! Drivers that break the rules.

use super::*;

#[test]
fn an_area_that_is_not_l2s_memory_makes_no_queue() {
    let guest = Guest::new();
    let good = Driver::new(&guest, BASE, SIZE).places;
    let new = |places| Queue::new(places, 256, terms(Suppression::Flags), &guest).err();
    assert_eq!(new(good), None);
    for size in [0, 3, 7, 512, 0x8000, 0xFFFF] {
        assert_eq!(new(Places { size, ..good }), Some(Fault::Size(size)));
    }
    for gpa in [
        L1_START,
        L1_START - 16,
        0xFED4_0000,
        0xFEE0_0000,
        1 << 47,
        !0xF_u64,
    ] {
        let rows = [
            (
                Places {
                    descriptors: gpa,
                    ..good
                },
                128,
            ),
            (
                Places {
                    available: gpa,
                    ..good
                },
                22,
            ),
            (Places { used: gpa, ..good }, 70),
        ];
        for (places, length) in rows {
            assert_eq!(new(places), Some(foreign_at(gpa, length)), "{places:x?}");
        }
    }
    for (places, at) in [
        (
            Places {
                descriptors: BASE + 8,
                ..good
            },
            BASE + 8,
        ),
        (
            Places {
                available: BASE + 1,
                ..good
            },
            BASE + 1,
        ),
        (
            Places {
                used: BASE + 2,
                ..good
            },
            BASE + 2,
        ),
    ] {
        assert_eq!(new(places), Some(Fault::Alignment(at)));
    }
    assert!(guest.reads.borrow().is_empty() && guest.writes.borrow().is_empty());
}

#[test]
fn a_chain_without_an_end_breaks_the_queue() {
    let endless = |driver: &Driver| {
        for index in 0..SIZE {
            driver.describe(index, 0x4000, 1, NEXT, (index + 1) % SIZE);
        }
    };
    assert_eq!(fault(endless), Fault::TooLong);
    assert_eq!(
        fault(|driver| driver.describe(0, 0x4000, 1, NEXT, 0)),
        Fault::TooLong
    );
    let beyond = |driver: &Driver| driver.describe(0, 0x4000, 1, NEXT, SIZE);
    assert_eq!(fault(beyond), Fault::Next(SIZE));
}

#[test]
fn a_chain_of_all_descriptors_is_none_too_long() {
    let (guest, mut driver, mut queue) = with(Suppression::Flags);
    for index in 0..SIZE {
        let flags = if index + 1 < SIZE { NEXT } else { 0 };
        driver.describe(index, 0x4000, 1, flags, index + 1);
    }
    driver.offer(0);
    assert_eq!(queue.take(&guest).unwrap().unwrap().readable.length(), 8);
}

#[test]
fn a_table_that_is_none_breaks_the_queue() {
    for length in [0, 17, 16 * (u32::from(SIZE) + 1), u32::MAX] {
        let table = |driver: &Driver| driver.describe(0, 0x8000, length, INDIRECT, 0);
        assert_eq!(fault(table), Fault::Table(length));
    }
    let nested = |driver: &Driver| {
        driver.describe(0, 0x8000, 16, INDIRECT, 0);
        driver
            .guest
            .put(0x8000, &Driver::bytes(0x8000, 16, INDIRECT, 0));
    };
    assert_eq!(fault(nested), Fault::Nested);
    let followed = |driver: &Driver| driver.describe(0, 0x8000, 16, INDIRECT | NEXT, 1);
    assert_eq!(fault(followed), Fault::Nested);
    let leaves = |driver: &Driver| {
        driver.describe(0, 0x8000, 16, INDIRECT, 0);
        driver.guest.put(0x8000, &Driver::bytes(0x4000, 1, NEXT, 1));
    };
    assert_eq!(fault(leaves), Fault::Next(1));
    let endless = |driver: &Driver| {
        driver.describe(0, 0x8000, 16, INDIRECT, 0);
        driver.guest.put(0x8000, &Driver::bytes(0x4000, 1, NEXT, 0));
    };
    assert_eq!(fault(endless), Fault::TooLong);
    for gpa in [L1_START - 8, L1_START, u64::MAX - 7] {
        let table = |driver: &Driver| driver.describe(0, gpa, 16, INDIRECT, 0);
        assert_eq!(fault(table), foreign_at(gpa, 16));
    }
}

#[test]
fn a_table_that_was_not_agreed_on_breaks_the_queue() {
    let guest = Guest::new();
    let mut driver = Driver::new(&guest, BASE, SIZE);
    let terms = Terms {
        indirect: false,
        ..terms(Suppression::Flags)
    };
    let mut queue = Queue::new(driver.places, 256, terms, &guest).unwrap();
    driver.describe(0, 0x8000, 16, INDIRECT, 0);
    guest.put(0x8000, &Driver::bytes(0x4000, 1, 0, 0));
    driver.offer(0);
    assert_eq!(queue.take(&guest), Err(Fault::Nested));
}

#[test]
fn a_buffer_that_is_not_l2s_memory_breaks_the_queue() {
    for (gpa, length) in [
        (L1_START, 1),
        (L1_START - 1, 2),
        (0xFED4_0000, 16),
        (0xFEC0_0000, 4),
        (0xFEE0_0000, 4),
        (1 << 47 | 0x4000, 16),
        (u64::MAX, 1),
        (u64::MAX - 3, 8),
    ] {
        for flags in [0, WRITE] {
            let one = |driver: &Driver| driver.describe(0, gpa, length, flags, 0);
            assert_eq!(fault(one), foreign_at(gpa, length.into()));
        }
    }
}

#[test]
fn a_request_of_too_many_bytes_is_refused_before_any_is_copied() {
    assert_eq!(
        fault(|driver| driver.describe(0, 0x4000, 0, 0, 0)),
        Fault::Empty
    );
    let (guest, mut driver, mut queue) = with(Suppression::Flags);
    for index in 0..SIZE {
        driver.describe(index, 0x4000, 0x1000, NEXT, index + 1);
    }
    driver.offer(0);
    let too_many = Fault::Bytes {
        length: 0x3000,
        most: 0x2000,
    };
    assert_eq!(queue.take(&guest), Err(too_many));
    let bytes: usize = guest.reads.borrow().iter().map(|(_, length)| length).sum();
    assert_eq!(bytes, 2 + 2 + 3 * 16, "index, head, three descriptors");
    let all = |driver: &Driver| driver.describe(0, 0, u32::MAX, WRITE, 0);
    assert_eq!(fault(all), foreign_at(0, u32::MAX.into()));
    let mut buffers = Buffers::default();
    buffers.push(0, u32::MAX, u32::MAX).unwrap();
    let error = buffers.push(0, u32::MAX, u32::MAX);
    let length = 2 * u64::from(u32::MAX);
    assert_eq!(
        error,
        Err(Fault::Bytes {
            length,
            most: u32::MAX
        })
    );
}

#[test]
fn readable_buffers_come_first() {
    let mixed = |driver: &Driver| {
        driver.describe(0, 0x4000, 1, NEXT | WRITE, 1);
        driver.describe(1, 0x5000, 1, 0, 0);
    };
    assert_eq!(fault(mixed), Fault::Order);
}

#[test]
fn an_index_that_jumps_breaks_the_queue() {
    for index in [SIZE + 1, 0x8000, 0xFFFF] {
        let (guest, mut driver, mut queue) = with(Suppression::EventIndex);
        driver.set_available(index);
        assert_eq!(
            queue.take(&guest),
            Err(Fault::AvailableIndex { index, seen: 0 })
        );
    }
}

#[test]
fn a_head_is_given_back_before_it_is_taken_again() {
    let (guest, mut driver, mut queue) = with(Suppression::Flags);
    driver.describe(2, 0x4000, 8, WRITE, 0);
    driver.offer(2);
    let chain = queue.take(&guest).unwrap().unwrap();
    queue.complete(&guest, chain, 0).unwrap();
    driver.offer(2);
    queue.take(&guest).unwrap().unwrap();
    driver.offer(2);
    assert_eq!(queue.take(&guest), Err(Fault::InFlight(2)));
    let (guest, mut driver, mut queue) = with(Suppression::Flags);
    driver.offer(SIZE);
    assert_eq!(queue.take(&guest), Err(Fault::Head(SIZE)));
}

#[test]
fn what_l2_does_to_a_request_that_it_has_handed_over_makes_no_difference() {
    let (guest, mut driver, mut queue) = with(Suppression::Flags);
    driver.describe(0, 0x8000, 16, INDIRECT, 0);
    guest.put(0x8000, &Driver::bytes(0x4000, 4, WRITE, 0));
    driver.offer(0);
    // Everything is read once; as soon as it was, L2 puts L1's memory in its place.
    let mut seen = BTreeMap::new();
    guest.before_read(move |ram, gpa, length| {
        assert_eq!(*seen.entry(gpa).or_insert(0), 0, "{gpa:#x} is read again");
        *seen.get_mut(&gpa).unwrap() += 1;
        for (at, _) in seen.iter().filter(|(at, _)| **at != gpa) {
            let at = *at as usize;
            if (0x8000..0x9000).contains(&at) {
                ram[at..at + 8].copy_from_slice(&L1_START.to_le_bytes());
            }
        }
        assert!(length <= 16);
    });
    let chain = queue.take(&guest).unwrap().unwrap();
    guest.put(0x8000, &[0xFF; 16]);
    chain.writable.writer().write(&guest, b"same").unwrap();
    assert_eq!(guest.get(0x4000, 4), b"same");
    queue.complete(&guest, chain, u32::MAX).unwrap();
    assert_eq!(
        driver.done(),
        Some((0, 4)),
        "no more than there was room for"
    );
}
