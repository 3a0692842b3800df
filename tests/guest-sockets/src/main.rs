//! Tries inside the guest what AF_VSOCK makes of a host that sends back what it is sent at port 7.
//!
//! It ends with 0 if every byte of several streams came back in its order, and a port at which nobody listens was refused.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::process::ExitCode;
use std::thread;

use vsock::{VMADDR_CID_HOST, VsockStream};

/// Port of the echo, and one at which nobody listens.
const ECHO: u32 = 7;
const NOBODY: u32 = 8;
/// Bytes of a stream: many times what either side holds.
const LENGTH: usize = 1 << 20;
/// Streams at a time.
const STREAMS: u32 = 3;

fn main() -> ExitCode {
    match streams() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn streams() -> io::Result<()> {
    let cid = vsock::get_local_cid()?;
    println!("the guest's CID is {cid}");
    let all: Vec<_> = (0..STREAMS)
        .map(|number| thread::spawn(move || stream(number)))
        .collect();
    for one in all {
        one.join()
            .map_err(|_| io::Error::other("a stream's thread ended early"))??;
    }
    match VsockStream::connect_with_cid_port(VMADDR_CID_HOST, NOBODY) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::other("somebody listens at a port of nobody's")),
    }
}

/// Sends a pattern of its own from one thread, and reads it back.
fn stream(number: u32) -> io::Result<()> {
    let mut stream = VsockStream::connect_with_cid_port(VMADDR_CID_HOST, ECHO)?;
    let pattern: Vec<u8> = (number..)
        .map(|at| (at.wrapping_mul(0x9E37_79B1) >> 24) as u8)
        .take(LENGTH)
        .collect();
    let sent = pattern.clone();
    let mut sender = stream.try_clone()?;
    let sending = thread::spawn(move || {
        // In pieces of all sizes.
        let mut rest = &sent[..];
        let mut size = 1;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(size.min(rest.len()));
            sender.write_all(now)?;
            rest = later;
            size = size * 3 % 100_003;
        }
        sender.shutdown(Shutdown::Write)
    });
    let mut came = Vec::new();
    stream.read_to_end(&mut came)?;
    sending
        .join()
        .map_err(|_| io::Error::other("a sender's thread ended early"))??;
    if came == pattern {
        Ok(())
    } else {
        let length = came.len();
        Err(io::Error::other(format!(
            "stream {number}: {length} bytes came back, or others"
        )))
    }
}
