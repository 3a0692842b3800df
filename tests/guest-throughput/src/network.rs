//! Bytes through one TCP connection, in each direction.

use crate::plan::{Peer, Plan};
use crate::{Marks, Moved};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};

const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const COUNTERS: &str = "/sys/class/net/eth0/statistics";
/// Ports of RFC 863 and RFC 864.
const DISCARD: u16 = 9;
const CHARGEN: u16 = 19;
/// Bytes of a round, and at least.
const USUAL: u64 = 16 << 20;
const LEAST: u64 = 64 << 10;
/// Bytes that are read or written at once.
const PIECE: usize = 64 << 10;

/// Moves so many bytes.
type Transfer = fn(Peer, u64) -> io::Result<()>;

/// Both directions.
pub(crate) fn measure(marks: &Marks, plan: &Plan, peer: Peer) -> io::Result<()> {
    let bytes = plan.part(USUAL, LEAST);
    let cases: [(u8, &str, Transfer); 2] = [
        (33, "TCP, L2 to host", send),
        (34, "TCP, host to L2", receive),
    ];
    for (mark, name, transfer) in cases {
        marks.measure(mark, name, plan.rounds, &mut || {
            let before = packets()?;
            transfer(peer, bytes)?;
            Ok(Moved {
                units: packets()?.saturating_sub(before),
                bytes,
            })
        })?;
    }
    Ok(())
}

/// Packets that the network has taken and given, both together.
fn packets() -> io::Result<u64> {
    let counter = |name| {
        let text = std::fs::read_to_string(format!("{COUNTERS}/{name}"))?;
        text.trim().parse::<u64>().map_err(io::Error::other)
    };
    Ok(counter("rx_packets")? + counter("tx_packets")?)
}

fn connect(peer: Peer, service: u16, word: &str, bytes: u64) -> io::Result<TcpStream> {
    match peer {
        Peer::Services => TcpStream::connect((HOST, service)),
        Peer::Host(port) => {
            let mut stream = TcpStream::connect((HOST, port))?;
            writeln!(stream, "{word} {bytes}")?;
            Ok(stream)
        }
    }
}

/// Returns when the other end has it all, if it can say so.
fn send(peer: Peer, bytes: u64) -> io::Result<()> {
    let mut stream = connect(peer, DISCARD, "take", bytes)?;
    let piece = [0x5A; PIECE];
    let mut left = bytes;
    while left != 0 {
        let length = left.min(PIECE as u64);
        stream.write_all(piece.get(..length as usize).unwrap_or_default())?;
        left -= length;
    }
    match peer {
        Peer::Services => stream.shutdown(Shutdown::Write),
        Peer::Host(_) => stream.read_exact(&mut [0]),
    }
}

fn receive(peer: Peer, bytes: u64) -> io::Result<()> {
    let mut stream = connect(peer, CHARGEN, "give", bytes)?;
    let mut piece = [0; PIECE];
    let mut left = bytes;
    while left != 0 {
        let room = left.min(PIECE as u64) as usize;
        let read = stream.read(piece.get_mut(..room).unwrap_or_default())?;
        if read == 0 {
            return Err(io::Error::other("the other end closed the connection"));
        }
        left -= read as u64;
    }
    Ok(())
}
