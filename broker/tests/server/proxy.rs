//! The proxy: bytes go through, whatever ends.

use crate::running::Place;
use broker_protocol::kbs::{PATH_AUTH, Request};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) struct Proxy(Child);

impl Proxy {
    pub(crate) fn start(arguments: &[&str], broker: &str) -> Proxy {
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

pub(crate) fn connect(path: &Path) -> UnixStream {
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
pub(crate) fn challenge(channel: &mut UnixStream) -> bool {
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

#[test]
fn it_serves_a_new_channel_while_an_old_one_is_still_there() {
    let place = Place::new();
    let broker = place.serve();
    let socket = place.path("channel");
    let _proxy = Proxy::start(&["--listen", socket.to_str().unwrap()], &broker.machines);
    let mut old = connect(&socket);
    assert!(challenge(&mut old));
    let mut new = connect(&socket);
    assert!(challenge(&mut new));
    assert!(challenge(&mut old));
}

#[test]
fn it_listens_at_a_port_of_vsock_or_says_that_it_cannot() {
    const PORT: &str = "747001";
    let arguments = ["--vsock", PORT, "--broker", "127.0.0.1:1"];
    let start = || {
        let mut proxy = Command::new(env!("CARGO_BIN_EXE_tdp-vtpm-proxy"));
        proxy.args(arguments).stderr(Stdio::piped());
        proxy.spawn().unwrap()
    };
    let mut first = start();
    std::thread::sleep(Duration::from_millis(500));
    // The port is taken, or there is no vsock in this kernel: either is said.
    let second = start().wait_with_output().unwrap();
    let listens = first.try_wait().unwrap().is_none();
    let _ = first.kill();
    let _ = first.wait();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success());
    assert!(said.contains("cannot listen for the channel"), "{said}");
    assert!(listens || !Path::new("/dev/vsock").exists());
}
