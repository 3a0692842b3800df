//! The host's end of the network: a program on this machine's loopback that takes or gives as many bytes as it is told.

use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// The end; it lives as long as the process does.
pub(super) struct Peer {
    port: u16,
}

impl Peer {
    /// Listens at a port of its own.
    pub(super) fn start() -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port to listen at")?;
        let port = listener.local_addr()?.port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A guest that ends early ends its connection.
                std::thread::spawn(move || serve(&stream));
            }
        });
        Ok(Self { port })
    }

    /// Its port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

/// `take N`: reads so many bytes, and then writes one. `give N`: writes so many.
fn serve(stream: &TcpStream) -> Result<()> {
    let mut reader = BufReader::with_capacity(64 << 10, stream);
    let mut order = String::new();
    reader.read_line(&mut order)?;
    let (word, bytes) = order.trim().split_once(' ').context("no order")?;
    let bytes: u64 = bytes.parse()?;
    let mut writer = stream;
    match word {
        "take" => {
            let taken = std::io::copy(&mut reader.take(bytes), &mut std::io::sink())?;
            anyhow::ensure!(taken == bytes, "{taken} bytes of {bytes}");
            writer.write_all(&[1])?;
        }
        "give" => {
            std::io::copy(&mut std::io::repeat(0x5A).take(bytes), &mut writer)?;
        }
        _ => anyhow::bail!("no such order: {word}"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_and_gives_what_it_is_told() {
        let peer = Peer::start().unwrap();
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, peer.port())).unwrap();
        let mut stream = connect();
        writeln!(stream, "take 100000").unwrap();
        stream.write_all(&[7; 100_000]).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, [1]);
        let mut stream = connect();
        writeln!(stream, "give 100000").unwrap();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer.len(), 100_001);
        let mut stream = connect();
        writeln!(stream, "take 2").unwrap();
        stream.write_all(&[7]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(stream.read_to_end(&mut answer).unwrap(), 0, "not all came");
    }
}
