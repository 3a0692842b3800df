//! The proxy: bytes go through, whatever ends.

use crate::running::Place;
use broker_protocol::kbs::{PATH_AUTH, Request};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Proxy(Child);

impl Proxy {
    fn start(arguments: &[&str], broker: &str) -> Proxy {
        let child = Command::new(env!("CARGO_BIN_EXE_tdp-vtpm-proxy"))
            .args(arguments)
            .args(["--broker", broker])
            .stderr(Stdio::null())
            .spawn();
        Proxy(child.unwrap())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn connect(path: &Path) -> UnixStream {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return stream,
            Err(error) if Instant::now() > until => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Asks for a challenge through the channel; whether one comes in time.
fn challenge(channel: &mut UnixStream) -> bool {
    let body = Request::to_json();
    let request = format!(
        "POST {PATH_AUTH} HTTP/1.1\r\nhost: b\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    channel
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    channel
        .write_all(&[request.as_bytes(), &body].concat())
        .unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.ends_with(b"\"extra-params\":\"\"}") {
        match channel.read(&mut buffer) {
            Ok(length) if length > 0 => answer.extend_from_slice(&buffer[..length]),
            _ => return false,
        }
    }
    answer.starts_with(b"HTTP/1.1 200 ")
}

#[test]
fn it_listens_and_outlives_the_broker_and_the_machine() {
    let place = Place::new();
    let socket = place.path("channel");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let _proxy = Proxy::start(&["--listen", socket.to_str().unwrap()], &address);
    let mut channel = connect(&socket);
    // The broker is not there yet: what L1 sends waits.
    let mut asking = channel.try_clone().unwrap();
    let asked = std::thread::spawn(move || challenge(&mut asking));
    let mut broker = place.serve_at(&address);
    let answered = asked.join().unwrap();
    assert!(answered || challenge(&mut channel));
    assert!(challenge(&mut channel));
    broker.kill();
    // The broker restarts; what was asked in between is asked again.
    let _broker = place.serve_at(&address);
    assert!((0..3).any(|_| challenge(&mut channel)));
    // The machine restarts.
    drop(channel);
    assert!(challenge(&mut connect(&socket)));
}

#[test]
fn it_connects_to_a_machine_that_listens_and_again() {
    let place = Place::new();
    let broker = place.serve();
    let socket = place.path("channel");
    let listener = UnixListener::bind(&socket).unwrap();
    let _proxy = Proxy::start(&["--connect", socket.to_str().unwrap()], &broker.machines);
    for _ in 0..2 {
        let (mut channel, _) = listener.accept().unwrap();
        assert!(challenge(&mut channel));
    }
}
