//! Sockets, driven by L1's own driver of one connection.

use super::host::{FUNCTION, Host, Ticks, Wire, window};
use l1_vmm::virtio::clock::Deadline;
use l1_vmm::virtio::pci::Device;
use l1_vmm::virtio::stream::StreamError;
use l1_vmm::virtio::vsock::Vsock;
use virtio_defs::vsock;
use virtio_host::Sockets;

type Stream = Vsock<Host, super::host::Shared, Ticks>;

fn connected(host: &Host, clock: &Ticks, port: u32) -> Stream {
    let kind = vsock::DEVICE_TYPE;
    let device = Device::find(host.clone(), FUNCTION, kind, &mut window()).unwrap();
    Vsock::open(device, host.memory.clone(), clock.clone(), port).unwrap()
}

fn deadline(clock: &Ticks) -> Deadline {
    Deadline::after(clock, 10_000_000)
}

#[test]
fn what_is_sent_comes_back() {
    let host = Host::new(Sockets::new(3), &[]);
    let clock = Ticks::default();
    let mut stream = connected(&host, &clock, 7);
    let bytes: Vec<u8> = (0..200_000_u32).map(|at| (at / 3) as u8).collect();
    let mut back = Vec::new();
    for piece in bytes.chunks(3001) {
        stream.send(piece, &deadline(&clock)).unwrap();
        let mut room = [0; 4096];
        let mut came = 0;
        while came < piece.len() {
            let count = stream.receive(&mut room, &deadline(&clock)).unwrap();
            back.extend_from_slice(&room[..count]);
            came += count;
        }
    }
    assert!(back == bytes);
    assert_eq!(host.statistics().violations, 0);
}

#[test]
fn nobody_else_listens() {
    let host = Host::new(Sockets::new(3), &[]);
    let clock = Ticks::default();
    let mut stream = connected(&host, &clock, 8);
    let refused = stream.send(b"anybody?", &deadline(&clock));
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(host.statistics().violations, 0);
}

#[test]
fn every_lie_of_sockets_comes_to_an_end() {
    for lie in [
        "header:0:9",
        "header:8:9",
        "header:16:1",
        "header:20:1",
        "header:24:255",
        "header:27:255",
        "header:28:9",
        "header:30:0",
        "header:30:3",
        "header:30:99",
        "header:36:0",
        "header:40:200",
        "used-len:43@2",
        "used-len:100000@2",
        "used-id:63@2",
        "twice@2",
        "silent@2",
        "used-jump:5@2",
        "rewrite",
        "vanish@2",
    ] {
        let host = Host::new(Sockets::new(3), &[lie]);
        let clock = Ticks::default();
        let mut stream = connected(&host, &clock, 7);
        let _: Result<(), StreamError> = stream.send(b"hello", &deadline(&clock));
        let mut room = [0; 64];
        if let Ok(count) = stream.receive(&mut room, &deadline(&clock)) {
            assert!(count <= room.len(), "{lie}");
        }
    }
}

#[test]
fn a_channel_is_behind_a_port() {
    const PORT: u32 = 7470;
    let wire = Wire::default();
    wire.room.set(1_000_000);
    let host = Host::new(Sockets::new(3).with_channel(PORT, wire.clone()), &[]);
    let clock = Ticks::default();
    let mut stream = connected(&host, &clock, PORT);
    // More than the device holds.
    let sent: Vec<u8> = (0..200_000_u32).map(|at| (at / 3) as u8).collect();
    stream.send(&sent, &deadline(&clock)).unwrap();
    assert!(*wire.from_l1.borrow() == sent);
    wire.to_l1.borrow_mut().extend(&sent);
    let mut received = Vec::new();
    while received.len() < sent.len() {
        let mut part = [0; 700];
        host.poll();
        let count = stream.receive(&mut part, &deadline(&clock)).unwrap();
        received.extend_from_slice(&part[..count]);
    }
    assert!(received == sent);
    // A new connection takes the old one's place.
    stream.restart().unwrap();
    stream.send(b"again", &deadline(&clock)).unwrap();
    assert_eq!(wire.from_l1.borrow()[sent.len()..], *b"again");
    assert_eq!(host.statistics().violations, 0);
}
