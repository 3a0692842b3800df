//! The network: the device with a wire back to the driver, and the computer that answers.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::host::{BUFFERS, FUNCTION, Host, SHARED, Shared, Ticks, VECTOR, segment, window};
use l1_vmm::shared_buffer::Part;
use l1_vmm::virtio::pci::{Device, Doorbell, Message};
use l1_vmm::virtio::ring::{Completion, Ring, Suppression};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};
use virtio_defs::{feature, net};
use virtio_host::{Network, Services, Station};

const ADDRESS: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

/// A wire that leads back.
#[derive(Default)]
struct Back {
    frames: Rc<RefCell<VecDeque<Vec<u8>>>>,
}

impl Station for Back {
    fn is_ready(&self) -> bool {
        self.frames.borrow().len() < 2
    }

    fn take(&mut self, frame: &[u8]) {
        self.frames.borrow_mut().push_back(frame.to_vec());
    }

    fn give(&mut self) -> Option<Vec<u8>> {
        self.frames.borrow_mut().pop_front()
    }
}

/// L1's driver of both queues.
struct Driver {
    host: Host,
    device: Device<Host>,
    rings: Vec<(Ring<Part<Shared>, u32>, Doorbell)>,
}

impl Driver {
    fn start(host: &Host) -> Self {
        let kind = net::DEVICE_TYPE;
        let mut device = Device::find(host.clone(), FUNCTION, kind, &mut window()).unwrap();
        let clock = Ticks::default();
        let wanted = net::FEATURE_MAC | feature::EVENT_IDX;
        device
            .start(feature::ACCESS_PLATFORM, wanted, &clock, 1_000_000)
            .unwrap();
        let message = Message {
            address: 0xFEE0_0000,
            data: VECTOR.into(),
        };
        device.set_messages(&[message]).unwrap();
        let rings = [net::QUEUE_RECEIVE, net::QUEUE_TRANSMIT].map(|queue| {
            let start = usize::from(queue) * 0x1000;
            let part = Part::new(host.memory.clone(), start..start + 0x1000).unwrap();
            let ring = Ring::new(part, 16, Suppression::EventIndex).unwrap();
            let doorbell = device.set_up_queue(queue, &ring.areas(), Some(0)).unwrap();
            (ring, doorbell)
        });
        device.run().unwrap();
        Self {
            host: host.clone(),
            device,
            rings: rings.into(),
        }
    }

    fn offer(&mut self, offset: u64, length: u32, token: u32) {
        let (ring, doorbell) = &mut self.rings[0];
        ring.post(&[], &[segment(offset, length)], token).unwrap();
        let _ = ring.ask_for_interrupt().unwrap();
        let _ = ring.notification();
        self.device.notify(doorbell).unwrap();
    }

    fn send(&mut self, frame: &[u8], token: u32) {
        let mut bytes = vec![0; net::HEADER_LENGTH];
        bytes.extend(frame);
        self.host.memory.put(BUFFERS + 0x4000, &bytes);
        let (ring, doorbell) = &mut self.rings[1];
        let length = bytes.len() as u32;
        ring.post(&[segment(0x4000, length)], &[], token).unwrap();
        let _ = ring.notification();
        self.device.notify(doorbell).unwrap();
    }

    fn done(&mut self, queue: u16) -> Option<Completion<u32>> {
        self.rings[usize::from(queue)].0.take().unwrap()
    }
}

#[test]
fn frames_go_out_and_come_in() {
    let back = Back::default();
    let frames = back.frames.clone();
    let host = Host::new(Network::new(back, ADDRESS), &[]);
    let mut driver = Driver::start(&host);
    assert!(driver.rings[0].0.areas().descriptors == SHARED);
    let mut mac = [0; 6];
    driver.device.read_configuration(0, &mut mac).unwrap();
    assert_eq!(mac, ADDRESS);
    driver.offer(0, 2000, 1);
    driver.send(&[0x77; 60], 2);
    assert_eq!(driver.done(net::QUEUE_TRANSMIT).map(|d| d.token), Some(2));
    let done = driver.done(net::QUEUE_RECEIVE).unwrap();
    assert_eq!((done.token, done.written), (1, 72));
    let mut expected = vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    expected.extend([0x77; 60]);
    assert_eq!(host.memory.get(BUFFERS, 72), expected);
    assert!(host.interrupts().contains(&Some(VECTOR)));
    // Without buffers, frames wait; without room, the driver's wait where they are.
    for token in 3..6 {
        driver.send(&[token as u8; 60], token);
    }
    assert_eq!(frames.borrow().len(), 2);
    assert_eq!(driver.done(net::QUEUE_TRANSMIT).map(|d| d.token), Some(3));
    assert_eq!(driver.done(net::QUEUE_TRANSMIT).map(|d| d.token), Some(4));
    assert!(driver.done(net::QUEUE_TRANSMIT).is_none());
    driver.offer(0, 2000, 7);
    driver.offer(0, 2000, 8);
    assert_eq!(driver.done(net::QUEUE_TRANSMIT).map(|d| d.token), Some(5));
    // A buffer that is too short is used for nothing.
    driver.offer(0, 20, 9);
    let lengths = [(); 3].map(|()| driver.done(net::QUEUE_RECEIVE).unwrap().written);
    assert_eq!(lengths, [72, 72, 0]);
    driver.send(&[1; 1515], 10);
    assert!(frames.borrow().is_empty(), "longer than a frame is");
}

/// The driver's end of the wire to the computer.
struct Link(Services);

struct Received(Vec<u8>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

struct Sent<'a>(&'a mut Services);

impl phy::TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        self.0.take(&frame);
        result
    }
}

impl phy::Device for Link {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sent<'_>)> {
        let frame = self.0.give()?;
        Some((Received(frame), Sent(&mut self.0)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sent<'_>> {
        self.0.is_ready().then_some(Sent(&mut self.0))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// A client of the computer.
struct Client {
    link: Link,
    interface: Interface,
    sockets: SocketSet<'static>,
    now: i64,
}

impl Client {
    fn new() -> Self {
        let mut link = Link(Services::new(|| 0));
        let config = Config::new(EthernetAddress(ADDRESS).into());
        let mut interface = Interface::new(config, &mut link, Instant::from_micros(0));
        interface.update_ip_addrs(|addresses| {
            let address = IpCidr::new(IpAddress::v4(10, 0, 2, 15), 24);
            addresses.push(address).unwrap();
        });
        Self {
            link,
            interface,
            sockets: SocketSet::new(vec![]),
            now: 0,
        }
    }

    fn poll(&mut self) {
        self.now += 1000;
        assert!(self.now < 10_000_000, "it takes too long");
        let now = Instant::from_micros(self.now);
        self.interface.poll(now, &mut self.link, &mut self.sockets);
    }

    fn connect(&mut self, port: u16, from: u16) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 32768]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        let to = (IpAddress::v4(10, 0, 2, 2), port);
        socket.connect(self.interface.context(), to, from).unwrap();
        self.sockets.add(socket)
    }

    fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }
}

#[test]
fn a_connection_is_echoed_and_can_be_made_again() {
    let mut client = Client::new();
    let bytes: Vec<u8> = (0..300_000_u32).map(|at| (at / 3) as u8).collect();
    for round in 0..4 {
        let handle = client.connect(7, 50000 + round);
        let (mut sent, mut came): (usize, Vec<u8>) = (0, Vec::new());
        while came.len() < bytes.len() {
            client.poll();
            let socket = client.tcp(handle);
            if socket.can_send() && sent < bytes.len() {
                sent += socket.send_slice(&bytes[sent..]).unwrap();
            }
            while socket.can_recv() {
                let mut room = [0; 4096];
                let count = socket.recv_slice(&mut room).unwrap();
                came.extend(&room[..count]);
            }
        }
        assert!(came == bytes);
        client.tcp(handle).close();
        while client.tcp(handle).state() != tcp::State::TimeWait {
            client.poll();
        }
        client.sockets.remove(handle);
    }
}

#[test]
fn what_is_discarded_is_gone_and_characters_come_for_ever() {
    let mut client = Client::new();
    let handle = client.connect(9, 50000);
    let mut sent = 0;
    while sent < 500_000 {
        client.poll();
        let socket = client.tcp(handle);
        if socket.can_send() {
            sent += socket.send_slice(&[7; 20_000]).unwrap();
        }
        assert!(!socket.can_recv());
    }
    let handle = client.connect(19, 50001);
    let mut came: Vec<u8> = Vec::new();
    while came.len() < 500_000 {
        client.poll();
        let socket = client.tcp(handle);
        while socket.can_recv() {
            let mut room = [0; 4096];
            let count = socket.recv_slice(&mut room).unwrap();
            came.extend(&room[..count]);
        }
    }
    let pattern = (0..95).map(|place| b' ' + place).cycle();
    assert!(came.iter().copied().zip(pattern).all(|(a, b)| a == b));
}

#[test]
fn datagrams_are_echoed() {
    let mut client = Client::new();
    let packets = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 4096]);
    let mut socket = udp::Socket::new(packets(), packets());
    socket.bind(40000).unwrap();
    let handle = client.sockets.add(socket);
    let to = (IpAddress::v4(10, 0, 2, 2), 7);
    let socket = client.sockets.get_mut::<udp::Socket<'_>>(handle);
    socket.send_slice(b"anybody there?", to).unwrap();
    let answer = loop {
        client.poll();
        let socket = client.sockets.get_mut::<udp::Socket<'_>>(handle);
        if let Ok((bytes, _)) = socket.recv() {
            break bytes.to_vec();
        }
    };
    assert_eq!(answer, b"anybody there?");
}

#[test]
fn a_ping_is_answered() {
    let mut services = Services::new(|| 0);
    // Who has 10.0.2.2? Tell 10.0.2.15.
    let mut arp = vec![0xFF; 6];
    arp.extend(ADDRESS);
    arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend(ADDRESS);
    arp.extend([10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2]);
    services.take(&arp);
    let reply = services.give().unwrap();
    assert_eq!(reply[..6], ADDRESS);
    assert_eq!(reply[20..22], [0, 2]);
    let mut ping = reply[6..12].to_vec();
    ping.extend(ADDRESS);
    ping.extend([8, 0]);
    // 28 bytes of IPv4 with ICMP, TTL 64; both checksums by hand.
    ping.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0x62, 0xD1]);
    ping.extend([10, 0, 2, 15, 10, 0, 2, 2]);
    ping.extend([8, 0, 0xF7, 0xFD, 0, 1, 0, 1]);
    services.take(&ping);
    let reply = services.give().expect("an answer");
    assert_eq!(reply[34], 0, "echo reply");
    assert_eq!(services.give(), None);
}
