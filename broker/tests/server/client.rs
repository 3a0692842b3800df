//! L1's own client and store against the server: what the image links, over a socket in place of its console.

use crate::machine::Enrolled;
use crate::running::{Place, Running};
use broker_client::http::Client;
use broker_client::kbs::{Attester, Bound, Evidence, EvidenceError, KbsError, Wanted, obtain};
use broker_client::ledger::BrokerLedger;
use broker_client::{Channel, ChannelError, Deadline};
use broker_protocol::kbs::resource_path;
use evidence::Boot;
use state_store::{Ledger, LedgerError, Point, Refusal};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

struct Socket {
    address: String,
    stream: TcpStream,
    begun: Instant,
}

impl Socket {
    fn new(address: &str) -> Socket {
        Socket {
            stream: TcpStream::connect(address).unwrap(),
            address: address.into(),
            begun: Instant::now(),
        }
    }
}

impl Channel for Socket {
    fn now(&self) -> u64 {
        self.begun.elapsed().as_nanos().try_into().unwrap()
    }

    fn send(&mut self, bytes: &[u8], _: Deadline) -> Result<(), ChannelError> {
        self.stream
            .write_all(bytes)
            .map_err(|_| ChannelError::Closed)
    }

    fn receive(&mut self, into: &mut [u8], deadline: Deadline) -> Result<usize, ChannelError> {
        let left = deadline.0.checked_sub(self.now()).filter(|left| *left > 0);
        let left = Duration::from_nanos(left.ok_or(ChannelError::TimeOut)?);
        self.stream.set_read_timeout(Some(left)).unwrap();
        match self.stream.read(into) {
            Ok(0) => Err(ChannelError::Closed),
            Ok(length) => Ok(length),
            Err(_) => Err(ChannelError::TimeOut),
        }
    }

    fn restart(&mut self) -> Result<(), ChannelError> {
        self.stream = TcpStream::connect(&self.address).map_err(|_| ChannelError::Closed)?;
        Ok(())
    }
}

struct Td<'a>(&'a Boot);

impl Attester for Td<'_> {
    fn evidence(&mut self, report_data: &[u8; 64], _: Deadline) -> Result<Evidence, EvidenceError> {
        let mut launched = self.0.launch();
        Ok(Evidence {
            quote: launched.quote(report_data),
            log: launched.log(),
        })
    }

    fn random(&mut self, into: &mut [u8]) -> Result<(), EvidenceError> {
        getrandom::fill(into).map_err(|_| EvidenceError::NoRandom)
    }
}

const SECONDS: u64 = 1_000_000_000;

fn ledger(one: &Enrolled, broker: &Running) -> Result<BrokerLedger<Socket>, KbsError> {
    let mut client = Client::new(Socket::new(&broker.machines));
    let path = resource_path(&one.machine);
    let wanted = Wanted {
        init_data: Some(&one.init_data),
        machine: one.machine,
        identity: &one.identity,
        resource: path.strip_prefix("/kbs/v0/resource/").unwrap(),
        bound: Bound::Start,
    };
    let deadline = client.channel().after(60 * SECONDS);
    let release = obtain(&mut client, &mut Td(&one.boot), &wanted, deadline)?;
    let session = release.session.clone().unwrap();
    Ok(BrokerLedger::new(
        client,
        one.machine,
        session,
        10 * SECONDS,
    ))
}

fn point(epoch: u64, counter: u64) -> Point {
    Point {
        epoch,
        counter,
        digest: [counter.try_into().unwrap(); 48],
    }
}

#[test]
fn l1s_client_gets_its_key_and_commits_across_a_restart_of_the_broker() {
    let place = Place::new();
    let one = Enrolled::new(&place, "one");
    let mut broker = place.serve();
    let mut first = ledger(&one, &broker).unwrap();
    assert_eq!(first.open([None, None]).unwrap().epoch, 1);
    first.commit(point(1, 1)).unwrap();
    broker.kill();
    assert_eq!(first.commit(point(1, 2)), Err(LedgerError::Unreachable));
    let broker = place.serve_at(&broker.machines);
    first.commit(point(1, 2)).unwrap();

    let mut second = ledger(&one, &broker).unwrap();
    let refused = |name: &str| LedgerError::Refused(Refusal::named(name));
    assert_eq!(
        second.open([Some(point(1, 1)), None]).unwrap_err(),
        refused("rolled-back")
    );
    second.note("OlderDisk", "commit 1, the ledger knows 2");
    first.commit(point(1, 3)).unwrap();
    let grant = second.open([Some(point(1, 3)), Some(point(1, 2))]).unwrap();
    assert_eq!((grant.epoch, grant.latest), (2, Some(point(1, 3))));
    assert_eq!(first.commit(point(1, 4)), Err(refused("fenced")));
    assert!(
        place
            .ok(&["events"])
            .contains("l1-refused OlderDisk: commit 1, the ledger knows 2")
    );
}

#[test]
fn l1s_client_is_told_why_it_gets_nothing() {
    let place = Place::new();
    let mut one = Enrolled::new(&place, "one");
    let broker = place.serve();
    one.boot.command_line = "init=/bin/sh".into();
    let Err(KbsError::Refused {
        status,
        name,
        detail,
        ..
    }) = ledger(&one, &broker)
    else {
        panic!("it got its key");
    };
    assert_eq!((status, name.as_str()), (401, "AttestationError"));
    assert!(detail.contains("launch-command-line"), "{detail}");
}
