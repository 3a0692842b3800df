//! A computer on the driver's network that answers, as smoltcp has it.
//!
//! It is 10.0.2.2, answers ARP and pings, and has the services that every computer once had: echo at port 7 by UDP and TCP,
//! discard at 9 and characters at 19 by TCP. It loses nothing, so what it does follows from what it is sent and when.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

use crate::net::{FRAME, Station};

/// Its addresses: Ethernet's is a locally administered one.
const ETHERNET: EthernetAddress = EthernetAddress([0x52, 0x55, 10, 0, 2, 2]);
const ADDRESS: [u8; 4] = [10, 0, 2, 2];
const PREFIX: u8 = 24;
/// Ports (RFC 862, 863, 864).
const ECHO: u16 = 7;
const DISCARD: u16 = 9;
const CHARACTERS: u16 = 19;
/// Connections to one port at a time.
const CONNECTIONS: usize = 2;
/// Bytes of a connection's buffers.
const BUFFER: usize = 64 << 10;
/// Frames for the driver that wait at most.
const FRAMES: usize = 64;

/// Frames on the way.
#[derive(Debug, Default)]
struct Wire {
    to_station: VecDeque<Vec<u8>>,
    to_driver: VecDeque<Vec<u8>>,
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

struct Sender<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sender<'_>)> {
        // What is received may be answered.
        if self.to_driver.len() >= FRAMES {
            return None;
        }
        let frame = self.to_station.pop_front()?;
        Some((Received(frame), Sender(&mut self.to_driver)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sender<'_>> {
        (self.to_driver.len() < FRAMES).then_some(Sender(&mut self.to_driver))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities
    }
}

/// The computer.
pub struct Services {
    /// Nanoseconds.
    now: Box<dyn Fn() -> u64>,
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    echo: SocketHandle,
    connections: Vec<(SocketHandle, u16)>,
    /// Where the next character is in the pattern.
    character: u8,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "services")
    }
}

impl Services {
    /// A computer whose clock, in nanoseconds, is this.
    pub fn new(now: impl Fn() -> u64 + 'static) -> Self {
        let mut wire = Wire::default();
        let config = Config::new(ETHERNET.into());
        let mut interface = Interface::new(config, &mut wire, Instant::from_micros(0));
        interface.update_ip_addrs(|addresses| {
            // There is room for at least one.
            let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(ADDRESS.into()), PREFIX));
        });
        let mut sockets = SocketSet::new(Vec::new());
        let packets =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 16], vec![0; BUFFER]);
        let mut echo = udp::Socket::new(packets(), packets());
        // A port that is not 0 of a socket that is not bound.
        let _ = echo.bind(ECHO);
        let echo = sockets.add(echo);
        let ports = [ECHO, DISCARD, CHARACTERS];
        let connections = ports
            .into_iter()
            .flat_map(|port| [port; CONNECTIONS])
            .map(|port| {
                let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
                let mut socket = tcp::Socket::new(buffer(), buffer());
                socket.set_ack_delay(None);
                socket.set_nagle_enabled(false);
                (sockets.add(socket), port)
            })
            .collect();
        Self {
            now: Box::new(now),
            wire,
            interface,
            sockets,
            echo,
            connections,
            character: 0,
        }
    }

    /// Does all that can be done now.
    fn work(&mut self) {
        loop {
            let now = Instant::from_micros(((self.now)() / 1000) as i64);
            let before = (self.wire.to_station.len(), self.wire.to_driver.len());
            self.interface.poll(now, &mut self.wire, &mut self.sockets);
            self.serve();
            self.interface.poll(now, &mut self.wire, &mut self.sockets);
            if before == (self.wire.to_station.len(), self.wire.to_driver.len()) {
                return;
            }
        }
    }

    fn serve(&mut self) {
        let echo = self.sockets.get_mut::<udp::Socket<'_>>(self.echo);
        while echo.can_send()
            && let Ok((bytes, from)) = echo.recv()
        {
            let bytes = bytes.to_vec();
            // There is room.
            let _ = echo.send_slice(&bytes, from);
        }
        for (handle, port) in &self.connections {
            let socket = self.sockets.get_mut::<tcp::Socket<'_>>(*handle);
            if !socket.is_open() {
                // The port is not 0, and the socket is not open.
                let _ = socket.listen(*port);
            }
            match *port {
                ECHO => {
                    let room = socket.send_capacity() - socket.send_queue();
                    let mut bytes = vec![0; room];
                    if room != 0
                        && let Ok(count) = socket.recv_slice(&mut bytes)
                    {
                        // There is room.
                        let _ = socket.send_slice(bytes.get(..count).unwrap_or_default());
                    }
                }
                DISCARD => {
                    let _ = socket.recv(|bytes| (bytes.len(), ()));
                }
                _ if socket.can_send() => {
                    let character = &mut self.character;
                    let _ = socket.send(|room| {
                        for place in &mut *room {
                            *place = b' ' + *character;
                            *character = (*character + 1) % 95;
                        }
                        (room.len(), ())
                    });
                }
                _ => {}
            }
            if socket.state() == tcp::State::CloseWait && !socket.can_recv() {
                socket.close();
            }
        }
    }
}

impl Station for Services {
    fn is_ready(&self) -> bool {
        self.wire.to_driver.len() < FRAMES
    }

    fn take(&mut self, frame: &[u8]) {
        self.wire.to_station.push_back(frame.to_vec());
        self.work();
    }

    fn give(&mut self) -> Option<Vec<u8>> {
        if self.wire.to_driver.len() <= FRAMES / 2 {
            self.work();
        }
        self.wire.to_driver.pop_front()
    }
}
