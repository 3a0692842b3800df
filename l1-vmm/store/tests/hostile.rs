//! Disks that lie: each read may give what was there before, what is elsewhere, changed bits, noise or an error, and
//! another answer the next time. Whatever they do: no panic, a bounded number of requests, no state that was not
//! sealed, and none that is older than the ledger says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod model;

use model::{
    Disk, Kept, MACHINE, NV_SIZE, Power, Sector, Witness, below, key, ledger, nonce, parts, rng,
    start_on, state,
};
use proptest::prelude::{Rng, any, prop_assert_eq, proptest};
use proptest::test_runner::TestRng;
use state_store::examine::examine;
use state_store::layout::{SECTOR, SECTORS_MIN};
use state_store::{Commit, Device, DeviceError, OpenError, Opened, Point, Rollback, State, open};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// A machine's life: the disk after each commit, and which state each commit was.
struct Life {
    images: Vec<Disk>,
    /// Every content that a sector ever had.
    ever: Vec<Sector>,
    states: BTreeMap<u64, u64>,
    kept: Kept,
}

/// The engine's bytes of a state.
fn size(number: u64) -> usize {
    100 + usize::try_from(number * 371 % 1500).unwrap()
}

/// Twelve commits in four epochs.
fn life(rollback: Rollback) -> Life {
    let kept = ledger(true).unwrap();
    let mut images = vec![Disk::new()];
    let mut states = BTreeMap::new();
    let mut number = 0;
    for _ in 0..4 {
        let disk = images.last().unwrap();
        let (mut store, _) =
            parts(start_on(disk, Some(&kept), rollback, &Power::default()).unwrap());
        for _ in 0..3 {
            number += 1;
            let commit = store.commit(&state(number, size(number)), nonce(number));
            let (Commit::Stored(point) | Commit::Written(point)) = commit else {
                panic!("{commit:?}");
            };
            states.insert(point.counter, number);
        }
        store.settle().unwrap();
        images.push(store.into_parts().0.durable);
    }
    // And one that is on the disk, and was not acknowledged.
    let disk = images.last().unwrap();
    let (mut store, _) = parts(start_on(disk, Some(&kept), rollback, &Power::default()).unwrap());
    kept.borrow_mut().deaf = true;
    let before = kept.borrow().latest;
    number += 1;
    let _ = store.commit(&state(number, size(number)), nonce(number));
    kept.borrow_mut().deaf = false;
    kept.borrow_mut().latest = before;
    states.insert(before.unwrap().counter + 1, number);
    images.push(store.into_parts().0.durable);
    let ever: BTreeSet<Sector> = images.iter().flat_map(BTreeMap::values).copied().collect();
    let kept = *kept.borrow();
    Life {
        images,
        ever: ever.into_iter().collect(),
        states,
        kept,
    }
}

/// A disk that lies about a sector once in `lies`, fails once in `fails`, and is another image now and then.
struct Liar<'a> {
    life: &'a Life,
    rng: TestRng,
    image: usize,
    lies: u64,
    fails: u64,
    swaps: u64,
    requests: Rc<Cell<u32>>,
}

impl<'a> Liar<'a> {
    fn new(life: &'a Life, seed: u64) -> Self {
        let mut rng = rng(seed);
        let mut one_of = |choices: &[u64]| {
            choices[usize::try_from(below(&mut rng, choices.len() as u64)).unwrap()]
        };
        let lies = one_of(&[u64::MAX, 40, 8, 2]);
        let fails = one_of(&[u64::MAX, u64::MAX, 30, 4]);
        let swaps = one_of(&[u64::MAX, 12, 3]);
        // Most often the last ones.
        let newest = life.images.len() as u64 - 1;
        let image = one_of(&[newest, newest, newest - 1, newest - 2, 1, 0]);
        Self {
            life,
            rng,
            image: usize::try_from(image).unwrap(),
            lies,
            fails,
            swaps,
            requests: Rc::default(),
        }
    }

    fn once_in(&mut self, number: u64) -> bool {
        number != u64::MAX && below(&mut self.rng, number) == 0
    }

    fn pick(&mut self, bound: usize) -> usize {
        usize::try_from(below(&mut self.rng, bound as u64)).unwrap()
    }

    fn request(&mut self) -> Result<(), DeviceError> {
        self.requests.set(self.requests.get() + 1);
        if self.once_in(self.swaps) {
            self.image = self.pick(self.life.images.len());
        }
        if self.once_in(self.fails) {
            return Err(match self.pick(4) {
                0 => DeviceError::Gone,
                _ => DeviceError::Failed,
            });
        }
        Ok(())
    }

    fn lie(&mut self, honest: Sector) -> Sector {
        let mut sector = honest;
        match self.pick(4) {
            0 => sector = self.life.ever[self.pick(self.life.ever.len())],
            1 => sector = [0; SECTOR],
            2 => self.rng.fill_bytes(&mut sector),
            _ => {
                let at = self.pick(SECTOR);
                sector[at] ^= 1 << self.pick(8);
            }
        }
        sector
    }
}

impl Device for Liar<'_> {
    fn sectors(&self) -> u64 {
        SECTORS_MIN
    }

    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        self.request()?;
        for (at, into) in (sector..).zip(into.chunks_mut(SECTOR)) {
            let honest = self.life.images[self.image].get(&at);
            let mut bytes = honest.copied().unwrap_or([0; SECTOR]);
            if self.once_in(self.lies) {
                bytes = self.lie(bytes);
            }
            into.copy_from_slice(&bytes);
        }
        Ok(())
    }

    fn write(&mut self, _sector: u64, _from: &[u8]) -> Result<(), DeviceError> {
        self.request()
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.request()
    }
}

/// Opens a liar's disk.
fn begin<'a>(
    life: &'a Life,
    seed: u64,
    kept: Option<&Rc<RefCell<Kept>>>,
    rollback: Rollback,
) -> Result<Opened<Liar<'a>, Witness>, OpenError> {
    let liar = Liar::new(life, seed);
    let requests = liar.requests.clone();
    let witness = Witness::new(kept, &Power::default());
    let opened = open(liar, witness, &key(), MACHINE, NV_SIZE, rollback);
    // Label, then all of a blank disk in 48 reads, or twice two records and two slots of two reads; three times each.
    assert!(requests.get() <= 3 * 49, "{}", requests.get());
    opened
}

/// A state that was opened is one that was sealed, whole, and as this commit.
fn sealed(life: &Life, found: &State, point: Point) {
    let number = found.journal_epoch;
    assert_eq!(*found, state(number, size(number)));
    assert_eq!(life.states.get(&point.counter), Some(&number));
}

#[test]
fn a_disk_that_lies_gives_the_state_that_counts_or_none() {
    let (mut stored, mut ahead, mut errors) = (0, 0, BTreeMap::new());
    for rollback in [Rollback::Ledger, Rollback::Lazy] {
        let life = life(rollback);
        for blind in [false, true] {
            for seed in 0..4_000 {
                let kept = Rc::new(RefCell::new(Kept { blind, ..life.kept }));
                let latest = life.kept.latest.unwrap();
                let (store, point) = match begin(&life, seed, Some(&kept), rollback) {
                    Ok(Opened::Stored {
                        store,
                        state,
                        point,
                    }) => {
                        assert_eq!(point, latest);
                        sealed(&life, &state, point);
                        stored += 1;
                        (store, point)
                    }
                    Ok(Opened::Unacknowledged {
                        store,
                        state,
                        point,
                    }) => {
                        assert_eq!(rollback, Rollback::Lazy);
                        assert_eq!(point.counter, latest.counter + 1);
                        sealed(&life, &state, point);
                        ahead += 1;
                        (store, point)
                    }
                    Ok(Opened::Fresh(_)) => panic!("the ledger knows of a state"),
                    Err(error) => {
                        // Refused by the ledger or before it: no epoch has ended.
                        if matches!(error, OpenError::Refused { .. }) {
                            assert_eq!(kept.borrow().epoch, life.kept.epoch);
                        }
                        *errors.entry(error.name()).or_insert(0) += 1;
                        continue;
                    }
                };
                // It goes on from there, where its device does.
                let mut store = store;
                let next = state(100, 100);
                let before = kept.borrow().latest;
                match store.commit(&next, nonce(100)) {
                    Commit::Stored(new) => {
                        assert_eq!(kept.borrow().latest, Some(new));
                        assert_eq!(new.counter, latest.counter + 1);
                    }
                    Commit::Written(new) => assert_eq!(store.unacknowledged(), Some(new)),
                    Commit::NotStored { .. } => assert_eq!(kept.borrow().latest, before),
                    Commit::Unchanged(_) => panic!("{point:?} is another"),
                }
            }
        }
    }
    assert!(stored > 1_000 && ahead > 500, "{stored}, {ahead}");
    // Each of these was met.
    for name in [
        "rolled-back",
        "state-missing",
        "newest-damaged",
        "label-damaged",
        "not-a-state-disk",
        "disk-unreadable",
    ] {
        assert!(errors.contains_key(name), "{name}: {errors:?}");
    }
}

/// Without a ledger: what was sealed, and nothing else.
#[test]
fn a_disk_that_lies_gives_what_was_sealed_or_nothing() {
    let life = life(Rollback::Ledger);
    let mut stored = 0;
    for seed in 0..4_000 {
        match begin(&life, seed, None, Rollback::None) {
            Ok(Opened::Stored { state, point, .. }) => {
                sealed(&life, &state, point);
                stored += 1;
            }
            Ok(Opened::Unacknowledged { .. }) => panic!("nobody acknowledges"),
            Ok(Opened::Fresh(_)) | Err(_) => {}
        }
    }
    assert!(stored > 500, "{stored}");
}

/// A tool that looks at such a disk tells something and ends.
#[test]
fn a_disk_that_lies_is_examined() {
    let life = life(Rollback::Ledger);
    for seed in 0..2_000 {
        let mut liar = Liar::new(&life, seed);
        if let Ok(examined) = examine(&mut liar) {
            let _ = (examined.is_blank(), examined.counts());
        }
        assert!(liar.requests.get() <= 3 * 8);
    }
}

proptest! {
    /// Whatever bytes: a state in the one way in which it is written, or an error.
    #[test]
    fn no_records_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(state) = State::decode(&bytes) {
            prop_assert_eq!(&*state.encode().unwrap(), &bytes);
        }
    }

    /// Lengths, names and flags of a whole state, each byte another.
    #[test]
    fn no_change_of_records_is_too_odd(changes in proptest::collection::vec((0..220_usize, any::<u8>()), 1..4)) {
        let mut bytes = state(1, 60).encode().unwrap().to_vec();
        for (at, byte) in changes {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        if let Ok(state) = State::decode(&bytes) {
            prop_assert_eq!(&*state.encode().unwrap(), &bytes);
        }
    }
}
