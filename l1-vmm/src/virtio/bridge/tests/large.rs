//! Requests as large as a disk is shown to take them.

use super::*;

/// Pieces of data: a MiB.
const PIECES: u16 = 256;
const PAGE: u32 = 0x1000;
/// Descriptors of the queue, fewer than half of which are used.
const SIZE: u16 = 512;
/// Where header and status are, and the table of descriptors.
const OWN: u64 = 0x2_0000;
const TABLE: u64 = 0x3_0000;
const INDIRECT: u16 = 4;

/// Where a piece is: 32 pages in turn, no two in a row.
fn piece(number: u16) -> u64 {
    0x4_0000 + u64::from(PAGE) * u64::from(number % 32 * 5 % 32)
}

fn machine() -> Machine {
    let mut machine = Machine::with(Kind::Block.memory());
    machine.driver.places.size = SIZE;
    machine.set_up();
    machine
}

/// A table of descriptors for a request of `pieces` pages, all of them with `flags`.
fn describe(guest: &Guest, pieces: u16, flags: u16) -> u32 {
    for number in 0..pieces + 2 {
        let (at, length, flags) = match number {
            0 => (OWN, 16, NEXT),
            _ if number == pieces + 1 => (OWN + 0x100, 1, WRITE),
            _ => (piece(number - 1), PAGE, flags | NEXT),
        };
        let bytes = Driver::bytes(at, length, flags, number + 1);
        guest.put(TABLE + 16 * u64::from(number), &bytes);
    }
    16 * u32::from(pieces + 2)
}

/// A request of `pieces` pages.
fn offer(machine: &mut Machine, kind: u32, pieces: u16) {
    let mut header = [0; 16];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    machine.guest.put(OWN, &header);
    machine.guest.put(OWN + 0x100, &[0xFF]);
    let flags = if kind == 0 { WRITE } else { 0 };
    let length = describe(&machine.guest, pieces, flags);
    machine.driver.describe(0, TABLE, length, INDIRECT, 0);
    machine.driver.offer(0);
}

#[test]
fn the_largest_request_is_one_at_the_host_and_each_byte_is_where_it_belongs() {
    let mut machine = machine();
    for page in 0..32_u8 {
        let at = 0x4_0000 + u64::from(PAGE) * u64::from(page);
        machine.guest.put(at, &[page; PAGE as usize]);
    }
    let held = machine.hold();
    offer(&mut machine, 1, PIECES);
    machine.notify();
    let request = held.borrow()[0].clone();
    let length = u32::from(PIECES) * PAGE;
    assert_eq!(request.readable.len(), 1);
    assert_eq!(request.readable[0].length, 16 + length);
    let memory = machine.host.model().memory.clone();
    let given = request.read(&memory);
    for (number, page) in (0..PIECES).zip(given[16..].chunks(PAGE as usize)) {
        let byte = ((piece(number) - 0x4_0000) / u64::from(PAGE)) as u8;
        assert!(page.iter().all(|there| *there == byte), "{number}");
    }
    request.write(&memory, &[0]);
    machine.push(request.head.into(), 1);
    machine.serve();
    assert_eq!(machine.driver.done(), Some((0, 1)));
    assert_eq!(machine.guest.get(OWN + 0x100, 1), [0]);

    held.borrow_mut().clear();
    offer(&mut machine, 0, 32);
    machine.notify();
    let request = held.borrow()[0].clone();
    let bytes: Vec<u8> = (0..32 * PAGE).map(|at| (at / PAGE) as u8 ^ 0x80).collect();
    request.write(&memory, &[&bytes[..], &[0]].concat());
    machine.push(request.head.into(), 32 * PAGE + 1);
    machine.serve();
    assert_eq!(machine.driver.done(), Some((0, 32 * PAGE + 1)));
    for number in 0..32 {
        let page = machine.guest.get(piece(number), PAGE as usize);
        assert_eq!(page, [number as u8 ^ 0x80; PAGE as usize], "{number}");
    }
}

#[test]
fn three_of_the_largest_are_with_the_host_and_more_wait() {
    let (bridge, host, _) = open(&Shared::new(SHARED, Kind::Block.memory()));
    let mut bridge = bridge.unwrap();
    host.model().work = Box::new(|_, _, _| None);
    bridge.start(0).unwrap();
    let guest = Guest::new();
    let mut driver = Driver::new(&guest, 0x1_0000, SIZE);
    let bounds = bridge.queues()[0].bounds;
    assert_eq!(bounds.readable, 16 + u32::from(PIECES) * PAGE);
    let terms = Terms {
        suppression: Suppression::Flags,
        indirect: true,
        bounds,
    };
    let mut queue = Queue::new(driver.places, SIZE, terms, &guest).unwrap();
    // Four requests by one table.
    let length = describe(&guest, PIECES, 0);
    for head in 0..4 {
        driver.describe(head, TABLE, length, INDIRECT, 0);
        driver.offer(head);
    }
    let expected = [Submission::Taken, Submission::Taken, Submission::Taken];
    for expected in expected.into_iter().chain([Submission::Full]) {
        let chain = queue.take(&guest).unwrap().unwrap();
        let request = Request::new(&guest, 0, &chain);
        assert_eq!(bridge.submit(&request), Ok(expected));
    }
    bridge.reset();
    assert!(bridge.buffers.iter().all(Bounce::is_free));
}

#[test]
fn a_request_with_a_byte_more_costs_the_device() {
    let mut machine = machine();
    let held = machine.hold();
    offer(&mut machine, 1, PIECES);
    // Its last piece reaches over a page.
    let last = Driver::bytes(piece(PIECES - 1), PAGE + 1, NEXT, PIECES + 1);
    machine.guest.put(TABLE + 16 * u64::from(PIECES), &last);
    machine.notify();
    assert!(held.borrow().is_empty());
    assert_eq!(machine.status(), 15 | NEEDS_RESET);
}
