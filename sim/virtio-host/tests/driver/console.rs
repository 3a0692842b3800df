//! The console.

use super::host::{BUFFERS, Driver, Host, Ticks, VECTOR, Wire, segment};
use virtio_defs::console::{self, QUEUE_RECEIVE, QUEUE_TRANSMIT};
use virtio_host::Console;

fn console(queue: u16, room: usize) -> (Host, Wire, Driver) {
    let wire = Wire::default();
    wire.room.set(room);
    let host = Host::new(Console::new(wire.clone()), &[]);
    let driver = Driver::start(&host, console::DEVICE_TYPE, queue).unwrap();
    (host, wire, driver)
}

#[test]
fn what_the_driver_sends_comes_out() {
    let (host, wire, mut driver) = console(QUEUE_TRANSMIT, 100);
    host.memory.put(BUFFERS, b"hello, world");
    driver.post(&[segment(0, 5), segment(5, 7)], &[], 1);
    assert_eq!(*wire.from_l1.borrow(), b"hello, world");
    let done = driver.done().unwrap();
    assert_eq!((done.token, done.written), (1, 0));
    assert_eq!(host.interrupts(), [Some(VECTOR)]);
}

#[test]
fn a_request_that_finds_no_room_waits_where_it_is() {
    let (host, wire, mut driver) = console(QUEUE_TRANSMIT, 7);
    host.memory.put(BUFFERS, b"hello, world");
    driver.post(&[segment(0, 12)], &[], 1);
    assert!(driver.done().is_none());
    assert_eq!(*wire.from_l1.borrow(), b"hello, ");
    host.poll();
    assert!(driver.done().is_none());
    wire.room.set(100);
    host.poll();
    assert_eq!(driver.done().map(|done| done.token), Some(1));
    assert_eq!(*wire.from_l1.borrow(), b"hello, world");
}

#[test]
fn input_waits_outside_until_there_is_a_buffer() {
    let (host, wire, mut driver) = console(QUEUE_RECEIVE, 0);
    wire.to_l1.borrow_mut().extend(b"to be or not to be");
    host.poll();
    assert_eq!(wire.to_l1.borrow().len(), 18);
    driver.post(&[], &[segment(0, 4), segment(4, 4)], 1);
    driver.post(&[], &[segment(8, 100)], 2);
    let first = driver.done().unwrap();
    assert_eq!((first.token, first.written), (1, 8));
    let second = driver.done().unwrap();
    assert_eq!((second.token, second.written), (2, 10));
    assert_eq!(host.memory.get(BUFFERS, 18), b"to be or not to be");
    let _ = host.interrupts();
    driver.post(&[], &[segment(0, 100)], 3);
    assert!(driver.done().is_none());
    assert!(host.bus.borrow().hears_the_outside());
    wire.to_l1.borrow_mut().extend(b"!");
    host.poll();
    assert_eq!(host.interrupts(), [Some(VECTOR)]);
    assert_eq!(driver.done().map(|done| done.written), Some(1));
}

#[test]
fn a_reset_forgets_what_was_in_flight() {
    let (host, wire, mut driver) = console(QUEUE_RECEIVE, 0);
    driver.post(&[], &[segment(0, 100)], 1);
    let clock = Ticks::default();
    driver.device.reset(&clock, 1_000_000).unwrap();
    let before = host.memory.all();
    wire.to_l1.borrow_mut().extend(b"late");
    host.poll();
    assert_eq!(host.memory.all(), before);
    assert_eq!(wire.to_l1.borrow().len(), 4);
    assert!(!host.bus.borrow().hears_the_outside());
}
