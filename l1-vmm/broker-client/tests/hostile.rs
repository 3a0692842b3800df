//! The entry points of the fuzz targets with mutated answers, bounded and always the same: nothing panics, and no key is
//! given out.
#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

// Public in the crate of the fuzz targets.
#[allow(unreachable_pub)]
#[path = "../fuzz/src/lib.rs"]
mod entry_points;

use broker_client::http::Client;
use broker_client::kbs::{Bound, Wanted, obtain};
use broker_client::scripted::{Broker, PlainAttester, Script};
use broker_client::{Channel, Deadline};
use entry_points::MACHINE;
use std::cell::RefCell;
use std::rc::Rc;

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled").
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        value as usize % limit.max(1)
    }

    /// Changes bytes as a fuzzer does: bits, runs, ends.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(5) {
                _ if bytes.is_empty() => bytes.push(0),
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = *b"\r\n\0{9"[..].get(self.below(5)).unwrap_or(&0),
                2 => bytes.truncate(at),
                3 => drop(bytes.drain(at..bytes.len().min(at + 1 + self.below(8)))),
                _ => bytes.insert(at, self.below(256) as u8),
            }
        }
    }
}

fn mutated(seed: &[u8], rounds: usize, target: fn(&[u8])) {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    target(seed);
    for _ in 0..rounds {
        let mut bytes = seed.to_vec();
        random.mutate(&mut bytes);
        target(&bytes);
    }
}

/// All that a broker of another identity answers in a session, behind the number of bytes that come at once.
fn answers() -> Vec<u8> {
    let broker = Rc::new(RefCell::new(Broker::new(MACHINE)));
    let recorded = Rc::new(RefCell::new(vec![255]));
    let (served, recorder) = (Rc::clone(&broker), Rc::clone(&recorded));
    let mut client = Client::new(Script::new(move |sent| {
        let answer = served.borrow_mut().serve(sent);
        recorder.borrow_mut().extend_from_slice(&answer);
        answer
    }));
    let identity = broker.borrow().identity();
    let wanted = Wanted {
        init_data: None,
        machine: MACHINE,
        identity: &identity,
        resource: &format!("default/tdp-vtpm/{MACHINE}"),
        bound: Bound::Start,
    };
    let deadline = Deadline(client.channel().now() + 1_000_000_000);
    obtain(
        &mut client,
        &mut PlainAttester::default(),
        &wanted,
        deadline,
    )
    .expect("an honest session");
    recorded.take()
}

#[test]
fn answers_of_http() {
    mutated(&answers(), 4000, entry_points::http_answer);
}

#[test]
fn sessions() {
    mutated(&answers(), 1000, entry_points::session);
}

#[test]
fn answers_of_the_ledger() {
    let forged = b"\x40HTTP/1.1 200 OK\r\ntdp-vtpm-mac: 00\r\nContent-Length: 36\r\n\r\n\
                   {\"sequence\":1,\"answer\":{\"noted\":{}}}";
    mutated(&forged.repeat(2), 2000, entry_points::ledger_answer);
}

#[test]
fn resources() {
    let answers = answers();
    let at = answers
        .windows(4)
        .rposition(|window| window == b"\r\n\r\n")
        .expect("a body");
    mutated(&answers[at + 4..], 500, entry_points::release);
}

#[test]
fn documents() {
    let document =
        b"version = \"0.1.0\"\nalgorithm = \"sha384\"\n\n[data]\n\"tdp-vtpm.toml\" = '''\n\
                     state = \"ephemeral\"\npcr-mirror = \"full\"\n'''\n";
    mutated(document, 20_000, entry_points::init_data);
}

/// A golden disk of the state's format, as the sectors of an input.
fn disk(golden: &str) -> Vec<u8> {
    let places = entry_points::places();
    let mut sectors = vec![0; places.len() * 512];
    for line in golden.lines() {
        let (offset, bytes) = line.split_once(' ').expect("an offset");
        let offset = usize::from_str_radix(offset, 16).expect("hexadecimal");
        let place = places
            .iter()
            .position(|place| *place == offset as u64 / 512);
        let at = place.expect("a place") * 512 + offset % 512;
        for (to, from) in sectors[at..at + 32].iter_mut().zip(0..) {
            let digits = &bytes[from * 2..from * 2 + 2];
            *to = u8::from_str_radix(digits, 16).expect("hexadecimal");
        }
    }
    sectors
}

#[test]
fn state_disks() {
    for golden in [
        include_str!("../../store/tests/golden/v1/third.txt"),
        include_str!("../../store/tests/golden/v2/third.txt"),
        include_str!("../../store/tests/golden/v2/hardware.txt"),
    ] {
        mutated(&disk(golden), 300, entry_points::state_disk);
    }
}

#[test]
fn records() {
    let state = state_store::State {
        engine: vec![1; 40],
        ek_templates: vec![state_store::EkTemplate {
            handle: 1,
            public: vec![2; 20],
            name: vec![3; 10],
        }],
        journal_epoch: 4,
        nv_size: 5,
        policy: "policy".into(),
        others: vec![],
    };
    let records = state.encode().expect("a small one");
    mutated(&records, 20_000, entry_points::state_records);
}

#[test]
fn what_a_broker_signs() {
    let release = br#"{"machine":"0707070707070707070707070707070707070707070707070707070707070707","key":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI","carry":{"key":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI","seal":"own"},"policy":"p","ledger":false}"#;
    mutated(release, 300, entry_points::release_payload);
}
