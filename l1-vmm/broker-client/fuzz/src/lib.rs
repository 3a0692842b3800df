//! What L1 does with hostile bytes of its host and of who plays its broker: one entry point for each kind of input. None
//! of them may panic, and none may give out a key, whatever the bytes.
//!
//! The fuzz targets beside this file and `tests/hostile.rs` call the same functions.

use broker_client::http::Client;
use broker_client::kbs::{Attester, Bound, Evidence, EvidenceError, Wanted, obtain};
use broker_client::ledger::BrokerLedger;
use broker_client::{Channel, ChannelError, Deadline};
use broker_protocol::jwk::TeeKey;
use broker_protocol::jws::{Identity, IdentityKey, Type, sign};
use broker_protocol::release::{Binding, Release, Secret, Session};
use broker_protocol::{MachineId, jwe};
use state_store::layout::{COMMIT_SECTOR, COMMIT_STRIDE, SECTOR, SECTORS_MIN, Slot};
use state_store::{
    Device, DeviceError, Ledger, NoLedger, Opened, Point, Rollback, State, StateKey, examine,
    key_record, open,
};
use zeroize::Zeroizing;

/// The machine of all inputs.
pub const MACHINE: MachineId = MachineId([7; 32]);
const BODY_MAX: usize = 64 * 1024;
const END: Deadline = Deadline(1_000_000);

/// A channel that gives these bytes, a few at a time, and then no more.
struct Bytes<'a> {
    left: &'a [u8],
    piece: usize,
    now: u64,
}

impl<'a> Bytes<'a> {
    /// The first byte says how many come at once.
    fn new(data: &'a [u8]) -> Self {
        let (piece, left) = data.split_first().unwrap_or((&0, &[]));
        Self {
            left,
            piece: usize::from(*piece) + 1,
            now: 0,
        }
    }
}

impl Channel for Bytes<'_> {
    fn now(&self) -> u64 {
        self.now
    }

    fn send(&mut self, _: &[u8], _: Deadline) -> Result<(), ChannelError> {
        Ok(())
    }

    fn receive(&mut self, into: &mut [u8], _: Deadline) -> Result<usize, ChannelError> {
        self.now += 1;
        let count = self.piece.min(self.left.len()).min(into.len());
        let (given, left) = self.left.split_at(count);
        into[..count].copy_from_slice(given);
        self.left = left;
        match count {
            0 => Err(ChannelError::TimeOut),
            count => Ok(count),
        }
    }

    fn restart(&mut self) -> Result<(), ChannelError> {
        Ok(())
    }
}

/// A TD whose evidence nobody looks at.
struct Anybody;

impl Attester for Anybody {
    fn evidence(&mut self, _: &[u8; 64], _: Deadline) -> Result<Evidence, EvidenceError> {
        Ok(Evidence {
            quote: Vec::new(),
            log: Vec::new(),
        })
    }

    fn random(&mut self, into: &mut [u8]) -> Result<(), EvidenceError> {
        into.fill(3);
        Ok(())
    }
}

fn identity_key() -> IdentityKey {
    let scalar = Zeroizing::new([0x5A; 32]);
    IdentityKey::from_random(&scalar).unwrap_or_else(|| unreachable!())
}

/// An identity whose key nobody has.
fn identity() -> Identity {
    identity_key().identity()
}

fn tee_key() -> TeeKey {
    TeeKey::from_random(&Zeroizing::new([3; 32])).unwrap_or_else(|| unreachable!())
}

/// Answers of HTTP, one after the other.
pub fn http_answer(data: &[u8]) {
    let mut client = Client::new(Bytes::new(data));
    while let Ok(answer) = client.answer(BODY_MAX, END) {
        assert!(answer.body.len() <= BODY_MAX);
        assert!((200..600).contains(&answer.status));
    }
}

/// All answers of a session with a broker that does not have the key.
pub fn session(data: &[u8]) {
    let mut client = Client::new(Bytes::new(data));
    let wanted = Wanted {
        init_data: None,
        machine: MACHINE,
        identity: &identity(),
        resource: "default/tdp-vtpm/machine",
        bound: Bound::Machine,
    };
    let released = obtain(&mut client, &mut Anybody, &wanted, END);
    let error = released.expect_err("nobody can sign");
    assert!(!error.name().is_empty());
}

/// What is said to be a resource of the broker.
pub fn release(data: &[u8]) {
    let key = tee_key();
    let tee = key.public();
    let binding = Binding::Machine {
        nonce: "n",
        tee: &tee,
    };
    for jws in [Ok(Zeroizing::new(data.to_vec())), jwe::decrypt(data, &key)]
        .into_iter()
        .flatten()
    {
        assert!(Release::open(&jws, &identity(), &MACHINE, binding).is_err());
    }
}

/// What is said to be the ledger's, by who does not have the session's key.
pub fn ledger_answer(data: &[u8]) {
    let session = Session {
        id: "session".into(),
        key: Secret([9; 32]),
    };
    let client = Client::new(Bytes::new(data));
    let mut ledger = BrokerLedger::new(client, MACHINE, session, END.0);
    let point = Point {
        epoch: 1,
        counter: 1,
        digest: [1; 48],
    };
    assert!(ledger.open([None, Some(point)]).is_err());
    assert!(ledger.commit(point).is_err());
}

/// An init-data document. What is read is written and read again as the same.
pub fn init_data(data: &[u8]) {
    let Ok(read) = init_data::parse(data) else {
        return;
    };
    let document = read.configuration.to_document();
    let again = init_data::parse(document.as_bytes()).expect("what was written is read");
    assert_eq!(again.configuration, read.configuration);
}

/// What a broker signed, whatever it is: its own nonsense is refused, or is for this machine and this start.
pub fn release_payload(data: &[u8]) {
    let Ok(jws) = sign(&identity_key(), Type::Release, data) else {
        return;
    };
    let tee = tee_key().public();
    let (nonce, tee) = ("n", &tee);
    let opened = |binding| Release::open(jws.as_bytes(), &identity(), &MACHINE, binding);
    if let Ok(release) = opened(Binding::Start { nonce, tee }) {
        assert_eq!(release.machine, MACHINE);
        assert_eq!(release.nonce.as_deref(), Some(nonce));
        assert_eq!(release.ledger, release.session.is_some());
    }
    if let Ok(release) = opened(Binding::Machine { nonce, tee }) {
        assert!(release.nonce.is_some() || (!release.ledger && release.carry.is_none()));
    }
}

/// The machine and the key of the state disks that are seeds.
pub const DISK_MACHINE: state_store::MachineId = state_store::MachineId([0xA5; 32]);
const DISK_KEY: [u8; 32] = [0x11; 32];
const DISK_NV_SIZE: u32 = 176_832;

/// The sectors of a state disk that an input fills, one after the other: label, key record, commit records, the first eight
/// of each slot.
pub fn places() -> Vec<u64> {
    let mut places = vec![0, 1, COMMIT_SECTOR, COMMIT_SECTOR + COMMIT_STRIDE];
    for slot in Slot::BOTH {
        places.extend(slot.sector()..slot.sector() + 8);
    }
    places
}

/// A disk with these sectors, and zero otherwise.
struct Sectors<'a>(&'a [u8]);

impl Device for Sectors<'_> {
    fn sectors(&self) -> u64 {
        SECTORS_MIN
    }

    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        into.fill(0);
        for (sector, into) in (sector..).zip(into.chunks_mut(SECTOR)) {
            let Some(place) = places().into_iter().position(|place| place == sector) else {
                continue;
            };
            let given = self.0.chunks(SECTOR).nth(place).unwrap_or_default();
            into[..given.len()].copy_from_slice(given);
        }
        Ok(())
    }

    fn write(&mut self, _: u64, _: &[u8]) -> Result<(), DeviceError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

/// A state disk, as [`places`] says. What is opened is what the key's owner sealed, and whatever it is nothing panics.
pub fn state_disk(data: &[u8]) {
    let _ = examine::examine(&mut Sectors(data)).map(|examined| examined.counts());
    let tcbs = key_record::sealed_to(&mut Sectors(data), DISK_MACHINE);
    assert!(tcbs.is_ok_and(|tcbs| tcbs.len() <= 2));
    let ring = StateKey::take(&mut DISK_KEY.clone()).into();
    let rollback = Rollback::None;
    let opened = open(
        Sectors(data),
        NoLedger,
        &ring,
        DISK_MACHINE,
        DISK_NV_SIZE,
        rollback,
    );
    if let Ok(Opened::Stored { state, point, .. }) = opened {
        assert_eq!(
            (state.journal_epoch, state.engine.len()),
            (point.counter, 100)
        );
    }
}

/// The records in a slot. What is read has one encoding.
pub fn state_records(data: &[u8]) {
    if let Ok(state) = State::decode(data) {
        let again = state.encode().expect("what was read has room");
        assert_eq!(again.as_slice(), data);
    }
}
