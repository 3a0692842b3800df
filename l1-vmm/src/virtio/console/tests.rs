//! The console on a model port that keeps the rules, or lies.

use super::*;
use crate::virtio::buffers::QueueError;
use crate::virtio::model::ModelClock;
use crate::virtio::model::device::{FUNCTION, ModelHost, numbers, window};
use crate::virtio::model::memory::Shared;
use crate::virtio::model::port::{self, honest};
use crate::virtio::restarts::IN_A_ROW;
use crate::virtio::stream::bench as stream;
use alloc::boxed::Box;
use alloc::vec;
use proptest::prelude::*;

const BASE: u64 = 0x10_0000;
type Driver = Console<ModelHost, Shared, ModelClock>;

type Bench = stream::Bench<Port, port::Port>;

fn open_with(length: usize) -> Result<Bench, StreamError> {
    let memory = Shared::new(BASE, length);
    let (host, peer) = port::host(&memory);
    let clock = ModelClock::default();
    let device = Device::find(host.clone(), FUNCTION, 3, &mut window())?;
    let console = Console::open(device, memory.clone(), clock.clone(), "console");
    Ok(Bench {
        stream: console.map_err(|returned| returned.error)?,
        host,
        memory,
        peer,
        clock,
    })
}

fn open() -> Bench {
    open_with(Driver::MEMORY_MAX).unwrap()
}

impl Bench {
    /// The far end sends messages, each into a buffer that L1 gave it.
    fn answers(&self, messages: &[&[u8]]) {
        let messages = messages.iter().map(|message| message.to_vec());
        self.peer.borrow_mut().to_send.extend(messages);
        self.host.model().retry(console::QUEUE_RECEIVE);
    }
}

#[test]
fn bytes_go_both_ways() {
    let mut port = open();
    // More than all buffers hold.
    let long: Vec<u8> = (0..100_000).map(|i| (i % 251) as u8).collect();
    port.send(&long).unwrap();
    port.send(&[]).unwrap();
    port.send(b"end").unwrap();
    let expected = [&long[..], b"end"].concat();
    assert_eq!(port.peer.borrow().received, expected);
    port.answers(&[b"one", b"", b"three"]);
    assert_eq!(port.receive(2).unwrap(), b"on");
    assert_eq!(port.receive(0).unwrap(), b"");
    assert_eq!(port.receive(100).unwrap(), b"e");
    assert_eq!(port.receive(100).unwrap(), b"three");
    assert_eq!(port.host.model().settled & console::FEATURE_MULTIPORT, 0);
}

#[test]
fn more_comes_than_there_are_buffers() {
    let mut port = open();
    let message: Vec<u8> = (0..BUFFER).map(|i| i as u8).collect();
    port.answers(&[&message[..]; 30]);
    for _ in 0..30 {
        assert_eq!(port.receive(4096).unwrap(), message);
    }
    assert_eq!(port.receive(1), Err(StreamError::TimeOut));
}

#[test]
fn waiting_has_an_end_and_loses_nothing() {
    let mut port = open();
    let start = port.clock.now();
    assert_eq!(port.receive(1), Err(StreamError::TimeOut));
    let spent = port.clock.now() - start;
    assert!((10_000_000..11_000_000).contains(&spent), "{spent}");
    port.answers(&[b"late"]);
    assert_eq!(port.receive(100).unwrap(), b"late");
    // A far end that takes nothing.
    port.host.model().work = Box::new(|_, _, _| None);
    assert_eq!(port.send(b"x"), Err(StreamError::TimeOut));
    // How much of it was taken nobody knows.
    assert_eq!(port.send(b"x"), Err(StreamError::Closed));
    assert_eq!(port.receive(1), Err(StreamError::Closed));
}

#[test]
fn empty_buffers_for_ever_are_a_time_out() {
    let mut port = open();
    port.host.model().work = Box::new(|_, _, _| Some(0));
    port.host.model().retry(console::QUEUE_RECEIVE);
    let start = port.clock.now();
    assert_eq!(port.receive(1), Err(StreamError::TimeOut));
    assert!(port.clock.now() - start < 11_000_000);
}

#[test]
fn a_stream_starts_again_a_bounded_number_of_times() {
    let mut port = open();
    port.answers(&[b"of the first stream"]);
    port.starts_a_bounded_number_of_times(|port| honest(&port.host, &port.peer));
    assert_eq!(
        port.peer.borrow().received,
        [b'y'].repeat(IN_A_ROW as usize)
    );
}

#[test]
fn a_device_that_breaks_the_rules_closes_the_stream() {
    for (lie, expected) in stream::LIES {
        let mut port = open();
        port.host.model().answer = Box::new(lie);
        assert_eq!(port.send(b"x"), Err(QueueError::from(expected).into()));
        assert_eq!(port.send(b"x"), Err(StreamError::Closed));
        honest(&port.host, &port.peer);
        port.stream.restart().unwrap();
        port.send(b"after").unwrap();
        assert_eq!(port.peer.borrow().received, b"xafter");
    }
}

#[test]
fn small_memory_and_small_queues_do() {
    for (length, works) in [
        (Driver::MEMORY_MIN - 1, false),
        (Driver::MEMORY_MIN, true),
        (0, false),
    ] {
        let port = open_with(length);
        assert_eq!(port.is_ok(), works, "{length}");
        let Ok(mut port) = port else { continue };
        port.send(&[5; 10_000]).unwrap();
        port.answers(&[&[6; 2048], &[7; 2048]]);
        assert_eq!(port.receive(4096).unwrap(), [6; 2048]);
        assert_eq!(port.receive(4096).unwrap(), [7; 2048]);
    }
}

/// A host that answers as it should most of the time, and writes into shared memory before any read.
fn hostile(port: &Bench, seed: u64) {
    let mut number = numbers(seed);
    port.memory.before_read(move |bytes, offset, length| {
        if number().is_multiple_of(32) {
            let value = number().to_le_bytes();
            let length = length.min(8);
            bytes[offset..offset + length].copy_from_slice(&value[..length]);
        }
        if number().is_multiple_of(32) {
            let at = number() as usize % bytes.len();
            bytes[at] = number() as u8;
        }
    });
    let mut number = numbers(seed.rotate_left(17));
    let mut model = port.host.model();
    model.work = Box::new(move |memory, queue, request| match queue {
        console::QUEUE_TRANSMIT => Some(0),
        _ => Some(request.write(memory, &vec![1; number() as usize % 3000])),
    });
    let mut number = numbers(seed.rotate_left(31));
    model.answer = Box::new(move |queue, request, length| match number() % 16 {
        0 => {}
        1 => queue.push(number() as u32 % 20, length),
        2 => queue.push(request.head.into(), number() as u32),
        3 => queue.set_used_index(number() as u16 % 64),
        4 => {
            queue.push(request.head.into(), length);
            queue.push(request.head.into(), length);
        }
        _ => queue.push(request.head.into(), length),
    });
    let mut number = numbers(seed.rotate_left(43));
    model.lie = Some(Box::new(move |offset, value| match number() % 128 {
        0 if offset < 0x1000 => number() & 0xFF,
        _ => value,
    }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_hostile_host_makes_every_call_end(seed in any::<u64>()) {
        let mut port = open();
        hostile(&port, seed);
        port.every_call_ends(seed, |link| link.receive.holds_all() && link.transmit.holds_all());
    }
}
