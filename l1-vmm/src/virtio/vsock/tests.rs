//! The socket on a model device that keeps the rules, or lies.

use super::*;
use crate::virtio::buffers::QueueError;
use crate::virtio::clock::Deadline;
use crate::virtio::model::ModelClock;
use crate::virtio::model::device::{FUNCTION, ModelHost, numbers, window};
use crate::virtio::model::memory::Shared;
use crate::virtio::model::socket::{self, Packet, honest};
use crate::virtio::stream::bench as stream;
use alloc::boxed::Box;
use alloc::vec;
use proptest::prelude::*;

const BASE: u64 = 0x10_0000;
const CID: u64 = 42;
const PORT: u32 = 7_000;
type Driver = Vsock<ModelHost, Shared, ModelClock>;

type Machine = stream::Bench<Socket, socket::Socket>;

fn open_as(cid: u64, length: usize) -> Result<Machine, StreamError> {
    let memory = Shared::new(BASE, length);
    let (host, peer) = socket::host(&memory, cid);
    let clock = ModelClock::default();
    let device = Device::find(host.clone(), FUNCTION, vsock::DEVICE_TYPE, &mut window()).unwrap();
    let socket = Vsock::open(device, memory.clone(), clock.clone(), PORT);
    Ok(Machine {
        stream: socket.map_err(|returned| returned.error)?,
        host,
        memory,
        peer,
        clock,
    })
}

fn open() -> Machine {
    open_as(CID, Driver::MEMORY_MAX).unwrap()
}

impl Machine {
    /// All that comes until nothing does.
    fn receive_all(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            match self.receive(700) {
                Ok(bytes) => all.extend(bytes),
                Err(error) => {
                    assert_eq!(error, StreamError::TimeOut);
                    return all;
                }
            }
        }
    }

    /// The far end sends a packet.
    fn comes(&self, packet: &[u8]) {
        self.peer.borrow_mut().to_send.push_back(packet.to_vec());
        self.host.model().retry(vsock::QUEUE_RECEIVE);
    }

    fn packet(&self, operation: u16, data: &[u8]) -> Packet {
        self.peer.borrow().packet(operation, data)
    }

    /// A connection that was made.
    fn connected() -> Self {
        let mut machine = open();
        machine.send(b"x").unwrap();
        machine
    }
}

fn numbered(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i % 251) as u8).collect()
}

#[test]
fn bytes_go_both_ways() {
    let mut machine = open();
    assert!(
        machine.peer.borrow().packets.is_empty(),
        "nothing was to send"
    );
    // More than the far end holds and all buffers do.
    let long = numbered(100_000);
    machine.send(&long).unwrap();
    machine.send(&[]).unwrap();
    machine.send(b"end").unwrap();
    assert_eq!(machine.peer.borrow().received, [&long[..], b"end"].concat());
    {
        let peer = machine.peer.borrow();
        let request = &peer.packets[0];
        assert_eq!(request.operation, vsock::OPERATION_REQUEST);
        assert_eq!(request.source.0, CID);
        assert_eq!(request.destination, (vsock::HOST_CID, PORT));
        assert_eq!(request.allocated, connection::ALLOCATED);
        let requests = peer.packets.iter();
        let requests = requests.filter(|packet| packet.operation == vsock::OPERATION_REQUEST);
        assert_eq!(requests.count(), 1);
    }
    // More than this end holds.
    machine.peer.borrow_mut().to_stream = long.clone();
    machine.host.model().retry(vsock::QUEUE_RECEIVE);
    assert_eq!(machine.receive_all(), long);
    assert_eq!(machine.receive(0).unwrap(), b"");
    assert_eq!(
        machine.host.model().settled & vsock::FEATURE_SEQPACKET,
        0,
        "streams only"
    );
}

#[test]
fn what_the_far_end_has_no_room_for_waits() {
    let mut machine = Machine::connected();
    let peer = machine.peer.clone();
    // It takes what comes and says nothing of having read it.
    machine.host.model().work = Box::new(move |memory, queue, request| match queue {
        vsock::QUEUE_TRANSMIT => {
            let packet = Packet::from_bytes(&request.read(memory));
            peer.borrow_mut().received.extend(&packet.data);
            Some(0)
        }
        _ => None,
    });
    assert_eq!(machine.send(&numbered(9_000)), Err(StreamError::TimeOut));
    assert_eq!(machine.peer.borrow().received.len(), 5_000 + 1);
}

#[test]
fn a_connection_is_asked_for_until_there_is_a_far_end() {
    let mut machine = open();
    machine.peer.borrow_mut().refuses = 3;
    let begin = machine.clock.now();
    let deadline = Deadline::after(&machine.clock, 1_000_000_000);
    machine.stream.send(b"late", &deadline).unwrap();
    let took = machine.clock.now() - begin;
    assert!((600_000_000..700_000_000).contains(&took), "{took}");
    assert_eq!(machine.peer.borrow().received, b"late");
    let mut ports: Vec<u32> = machine
        .peer
        .borrow()
        .packets
        .iter()
        .filter(|packet| packet.operation == vsock::OPERATION_REQUEST)
        .map(|packet| packet.source.1)
        .collect();
    assert_eq!(ports.len(), 4);
    ports.dedup();
    assert_eq!(ports.len(), 4, "each connection has a port of its own");
}

#[test]
fn a_connection_that_ended_is_closed_until_a_restart() {
    let mut machine = Machine::connected();
    machine.comes(&machine.packet(vsock::OPERATION_DATA, b"last").to_bytes());
    let mut end = machine.packet(vsock::OPERATION_SHUTDOWN, &[]);
    end.flags = vsock::SHUTDOWN_SEND | vsock::SHUTDOWN_RECEIVE;
    machine.comes(&end.to_bytes());
    // What came before the end is not lost by it.
    assert_eq!(machine.receive(100).unwrap(), b"last");
    assert_eq!(machine.receive(100), Err(StreamError::Closed));
    assert_eq!(machine.send(b"y"), Err(StreamError::Closed));
    let last = machine.peer.borrow().packets.last().unwrap().operation;
    assert_eq!(last, vsock::OPERATION_RESET, "both ends have ended");
    machine.stream.restart().unwrap();
    assert_eq!(machine.receive(1), Err(StreamError::Closed));
    machine.stream.restart().unwrap();
    machine.send(b"again").unwrap();
    assert_eq!(machine.peer.borrow().received, b"again");
}

#[test]
fn half_of_a_message_is_not_begun_anew_on_another_connection() {
    let mut machine = Machine::connected();
    machine.comes(&machine.packet(vsock::OPERATION_RESET, &[]).to_bytes());
    assert_eq!(machine.send(b"second half"), Err(StreamError::Closed));
}

#[test]
fn an_event_ends_the_connection() {
    let mut machine = Machine::connected();
    machine.host.model().work = Box::new(|memory, queue, request| match queue {
        vsock::QUEUE_EVENT => Some(request.write(memory, &[0; 4])),
        _ => None,
    });
    machine.host.model().retry(vsock::QUEUE_EVENT);
    assert_eq!(machine.receive(1), Err(StreamError::Closed));
}

#[test]
fn waiting_has_an_end_and_loses_nothing() {
    let mut machine = Machine::connected();
    let start = machine.clock.now();
    assert_eq!(machine.receive(1), Err(StreamError::TimeOut));
    let spent = machine.clock.now() - start;
    assert!((10_000_000..11_000_000).contains(&spent), "{spent}");
    machine.comes(&machine.packet(vsock::OPERATION_DATA, b"late").to_bytes());
    assert_eq!(machine.receive(100).unwrap(), b"late");
    // A far end that does not answer at all.
    let mut machine = open();
    machine.host.model().work = Box::new(|_, _, _| None);
    assert_eq!(machine.send(b"x"), Err(StreamError::TimeOut));
    assert_eq!(machine.send(b"x"), Err(StreamError::Closed));
    assert_eq!(machine.receive(1), Err(StreamError::Closed));
}

#[test]
fn packets_of_others_are_passed_over() {
    let mut machine = Machine::connected();
    let mine = machine.packet(vsock::OPERATION_DATA, b"mine");
    let changes: [fn(&mut Packet); 5] = [
        |packet| packet.source.0 = 3,
        |packet| packet.source.1 += 1,
        |packet| packet.destination.0 += 1,
        |packet| packet.destination.1 -= 1,
        |packet| packet.operation = vsock::OPERATION_CREDIT_UPDATE,
    ];
    for change in changes {
        let mut other = mine.clone();
        change(&mut other);
        machine.comes(&other.to_bytes());
    }
    let mut other = mine.to_bytes();
    other[vsock::HEADER_TYPE] = 2;
    machine.comes(&other);
    machine.comes(&mine.to_bytes());
    assert_eq!(machine.receive(100).unwrap(), b"mine");
    assert_eq!(machine.receive(100), Err(StreamError::TimeOut));
}

#[test]
fn credit_that_is_asked_for_is_told() {
    let mut machine = Machine::connected();
    let asks = machine.packet(vsock::OPERATION_CREDIT_REQUEST, &[]);
    machine.comes(&asks.to_bytes());
    assert_eq!(machine.receive(1), Err(StreamError::TimeOut));
    let last = machine.peer.borrow().packets.last().unwrap().clone();
    assert_eq!(last.operation, vsock::OPERATION_CREDIT_UPDATE);
    assert_eq!(last.allocated, connection::ALLOCATED);
}

#[test]
fn rules_of_a_connection() {
    type Change = fn(&mut Vec<u8>);
    let cases: [(u16, usize, Change, ConnectionError); 7] = [
        (
            vsock::OPERATION_DATA,
            5,
            |packet| packet.truncate(43),
            ConnectionError::Short(43),
        ),
        (
            vsock::OPERATION_DATA,
            5,
            |packet| packet[vsock::HEADER_DATA_LENGTH] = 6,
            ConnectionError::Length { said: 6, there: 5 },
        ),
        (
            vsock::OPERATION_DATA,
            5,
            |packet| packet[vsock::HEADER_DATA_LENGTH + 3] = 0x80,
            ConnectionError::Length {
                said: 0x8000_0005,
                there: 5,
            },
        ),
        (
            vsock::OPERATION_CREDIT_UPDATE,
            0,
            // One byte was sent.
            |packet| packet[vsock::HEADER_FORWARDED] = 2,
            ConnectionError::Forwarded { taken: 2, sent: 1 },
        ),
        (
            vsock::OPERATION_CREDIT_UPDATE,
            0,
            // It said 1 before.
            |packet| packet[vsock::HEADER_FORWARDED] = 0,
            ConnectionError::Forwarded { taken: 0, sent: 1 },
        ),
        (
            vsock::OPERATION_RESPONSE,
            0,
            |_| {},
            ConnectionError::Operation(vsock::OPERATION_RESPONSE),
        ),
        (0x1234, 0, |_| {}, ConnectionError::Operation(0x1234)),
    ];
    for (operation, length, change, expected) in cases {
        let mut machine = Machine::connected();
        let mut packet = machine.packet(operation, &numbered(length)).to_bytes();
        change(&mut packet);
        machine.comes(&packet);
        assert_eq!(machine.receive(1), Err(expected.into()), "{operation}");
        assert_eq!(machine.receive(1), Err(StreamError::Closed));
        machine.stream.restart().unwrap();
        machine.send(b"after").unwrap();
    }
}

#[test]
fn the_far_end_decides_on_no_memory() {
    let mut machine = Machine::connected();
    let full = machine.packet(vsock::OPERATION_DATA, &numbered(1024));
    for _ in 0..16 {
        machine.comes(&full.to_bytes());
    }
    machine.comes(&machine.packet(vsock::OPERATION_DATA, b"!").to_bytes());
    // A round of a call takes a packet, and nobody reads what is in them.
    let refused = (0..100).find_map(|_| machine.send(&[]).err());
    assert_eq!(refused, Some(ConnectionError::Credit(1).into()));
}

#[test]
fn an_address_that_is_none_is_refused() {
    for cid in [0, 1, 2, 0xFFFF_FFFF, 0x1_0000_0003, u64::MAX] {
        assert_eq!(
            open_as(cid, Driver::MEMORY_MAX).err(),
            Some(StreamError::GuestCid(cid))
        );
    }
    assert!(open_as(3, Driver::MEMORY_MAX).is_ok());
    assert!(open_as(0xFFFF_FFFE, Driver::MEMORY_MAX).is_ok());
}

#[test]
fn it_starts_again_a_bounded_number_of_times() {
    open().starts_a_bounded_number_of_times(|machine| honest(&machine.host, &machine.peer));
}

#[test]
fn a_device_that_breaks_the_rules_closes_the_stream() {
    for (lie, expected) in stream::LIES {
        let mut machine = open();
        machine.host.model().answer = Box::new(lie);
        let error = machine.send(b"x").unwrap_err();
        assert_eq!(error, QueueError::from(expected).into());
        assert_eq!(machine.send(b"x"), Err(StreamError::Closed));
        honest(&machine.host, &machine.peer);
        machine.stream.restart().unwrap();
        machine.send(b"after").unwrap();
        assert_eq!(machine.peer.borrow().received, b"after");
    }
}

#[test]
fn small_memory_does() {
    for (length, works) in [
        (Driver::MEMORY_MIN - 1, false),
        (Driver::MEMORY_MIN, true),
        (0, false),
    ] {
        let machine = open_as(CID, length);
        assert_eq!(machine.is_ok(), works, "{length}");
        let Ok(mut machine) = machine else { continue };
        machine.send(&numbered(10_000)).unwrap();
        assert_eq!(machine.peer.borrow().received, numbered(10_000));
        machine.peer.borrow_mut().to_stream = numbered(50_000);
        machine.host.model().retry(vsock::QUEUE_RECEIVE);
        assert_eq!(machine.receive_all(), numbered(50_000));
    }
}

/// A host whose packets have bytes and fields of any value, whose queues lie, and that writes into shared memory before
/// any read.
fn hostile(machine: &Machine, seed: u64) {
    let mut number = numbers(seed);
    machine.memory.before_read(move |bytes, offset, length| {
        if number().is_multiple_of(32) {
            let value = number().to_le_bytes();
            let length = length.min(8);
            bytes[offset..offset + length].copy_from_slice(&value[..length]);
        }
    });
    let mut number = numbers(seed.rotate_left(17));
    let mut ends = [(CID, FIRST_PORT + 1), (vsock::HOST_CID, PORT)];
    let mut model = machine.host.model();
    model.work = Box::new(move |memory, queue, request| {
        if queue == vsock::QUEUE_TRANSMIT {
            let bytes = request.read(memory);
            if let Some(port) = bytes.get(16..20) {
                ends[0].1 = u32::from_le_bytes(port.try_into().unwrap());
            }
            return Some(0);
        }
        let [destination, source] = ends;
        let packet = Packet {
            source,
            destination,
            operation: [2, 5, 5, 5, 6, 7, 3, 4, number() as u16][number() as usize % 9],
            flags: number() as u32,
            allocated: [0, 100, 5_000, u32::MAX][number() as usize % 4],
            forwarded: [0, 0, 0, number() as u32 % 5_000][number() as usize % 4],
            data: vec![1; number() as usize % 3_000],
        };
        let mut bytes = packet.to_bytes();
        if number().is_multiple_of(8) {
            let at = number() as usize % bytes.len();
            bytes[at] = number() as u8;
        }
        Some(request.write(memory, &bytes))
    });
    let mut number = numbers(seed.rotate_left(31));
    model.answer = Box::new(move |queue, request, length| match number() % 64 {
        0 => {}
        1 => queue.push(number() as u32 % 20, length),
        2 => queue.push(request.head.into(), number() as u32),
        3 => queue.set_used_index(number() as u16 % 64),
        _ => queue.push(request.head.into(), length),
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_hostile_host_makes_every_call_end(seed in any::<u64>()) {
        let mut machine = open();
        hostile(&machine, seed);
        machine.every_call_ends(seed, |link| {
            link.receive.holds_all() && link.transmit.holds_all() && link.events.holds_all()
        });
    }
}
