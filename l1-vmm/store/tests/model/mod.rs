//! A disk that loses power, tears and reorders, and the broker's ledger, whose messages are lost. One
//! power switch for both.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part")]

use broker_ledger::Entry;
use broker_protocol::ledger as protocol;
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use state_store::layout::{SECTOR, SECTORS_MIN};
use state_store::{
    Collected, Device, DeviceError, EkTemplate, Grant, KeyRing, Ledger, LedgerError, MachineId,
    Nonce, OpenError, Opened, Point, Refusal, Rollback, State, StateKey, Store, open,
};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

pub const MACHINE: MachineId = MachineId([0xA5; 32]);
pub const NV_SIZE: u32 = 176_832;

pub type Sector = [u8; SECTOR];

/// What survives a power cut.
pub type Disk = BTreeMap<u64, Sector>;

pub fn key() -> KeyRing {
    StateKey::take(&mut [0x11; 32]).into()
}

pub fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    Nonce(nonce)
}

/// A state that is told from every other number's, of about `size` bytes.
pub fn state(number: u64, size: usize) -> State {
    State {
        engine: number
            .to_le_bytes()
            .into_iter()
            .cycle()
            .take(size)
            .collect(),
        ek_templates: vec![EkTemplate {
            handle: 0x8101_0001,
            public: vec![1, 2, 3],
            name: vec![0, 11, 4],
        }],
        journal_epoch: number,
        nv_size: NV_SIZE,
        policy: "require".into(),
        others: vec![],
    }
}

pub fn rng(seed: u64) -> TestRng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

/// A number below `bound`.
pub fn below(rng: &mut TestRng, bound: u64) -> u64 {
    rng.next_u64() % bound
}

/// The power, shared by what it feeds: so many steps until it is cut.
#[derive(Clone, Default)]
pub struct Power {
    left: Rc<Cell<Option<u64>>>,
    pub steps: Rc<Cell<u64>>,
}

impl Power {
    pub fn cut_after(steps: Option<u64>) -> Self {
        let power = Self::default();
        power.left.set(steps);
        power
    }

    /// One step; false when the power is off.
    fn step(&self) -> bool {
        self.steps.set(self.steps.get() + 1);
        match self.left.get() {
            None => true,
            Some(0) => false,
            Some(left) => {
                self.left.set(Some(left - 1));
                true
            }
        }
    }

    pub fn is_off(&self) -> bool {
        self.left.get() == Some(0)
    }
}

/// Failures that are no power cut: one in so many operations.
#[derive(Clone)]
pub struct Flaky(Rc<RefCell<TestRng>>, u64);

impl Flaky {
    pub fn new(seed: u64, one_in: u64) -> Self {
        Self(Rc::new(RefCell::new(rng(seed))), one_in)
    }

    fn fails(&self) -> bool {
        below(&mut self.0.borrow_mut(), self.1) == 0
    }
}

/// A device over a disk. Writes are kept back until they are flushed.
pub struct Model {
    pub durable: Disk,
    kept_back: Vec<(u64, Sector)>,
    power: Power,
    flaky: Option<Flaky>,
    pub sectors: u64,
    /// Sectors written and flushes.
    pub written: u64,
    pub flushes: u64,
}

impl Model {
    pub fn new(durable: Disk, power: &Power) -> Self {
        Self {
            durable,
            kept_back: vec![],
            power: power.clone(),
            flaky: None,
            sectors: SECTORS_MIN,
            written: 0,
            flushes: 0,
        }
    }

    pub fn flaky(mut self, flaky: &Flaky) -> Self {
        self.flaky = Some(flaky.clone());
        self
    }

    fn fails(&self) -> bool {
        self.flaky.as_ref().is_some_and(Flaky::fails)
    }

    /// The power was cut: of what was not flushed, any part is on the disk, of the last ones sectors a part.
    pub fn crash(mut self, tear: Tear) -> Disk {
        let mut rng = rng(match tear {
            Tear::Random(seed) => seed,
            _ => 0,
        });
        for (at, bytes) in self.kept_back.drain(..) {
            let old = self.durable.get(&at).copied().unwrap_or([0; SECTOR]);
            let now = match tear {
                Tear::Nothing => old,
                Tear::Everything => bytes,
                Tear::Random(_) => match below(&mut rng, 4) {
                    0 => old,
                    1 => bytes,
                    torn => {
                        let at = usize::try_from(below(&mut rng, SECTOR as u64)).unwrap();
                        let (front, back) = if torn == 2 {
                            (bytes, old)
                        } else {
                            (old, bytes)
                        };
                        let mut sector = back;
                        sector[..at].copy_from_slice(&front[..at]);
                        sector
                    }
                },
            };
            self.durable.insert(at, now);
        }
        self.durable
    }
}

/// What a power cut leaves of writes that were not flushed.
#[derive(Clone, Copy, Debug)]
pub enum Tear {
    Nothing,
    Everything,
    Random(u64),
}

impl Device for Model {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        if self.power.is_off() {
            return Err(DeviceError::Gone);
        }
        if self.fails() {
            return Err(DeviceError::Failed);
        }
        let end = sector + (into.len() / SECTOR) as u64;
        assert!(into.len().is_multiple_of(SECTOR) && end <= self.sectors);
        into.fill(0);
        let durable = self.durable.range(sector..end);
        let kept_back = self.kept_back.iter().map(|(at, bytes)| (at, bytes));
        for (at, bytes) in durable.chain(kept_back) {
            if (sector..end).contains(at) {
                let from = usize::try_from(at - sector).unwrap() * SECTOR;
                into[from..][..SECTOR].copy_from_slice(bytes);
            }
        }
        Ok(())
    }

    fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), DeviceError> {
        assert_eq!(from.len() % SECTOR, 0);
        for (at, from) in (sector..).zip(from.chunks(SECTOR)) {
            assert!(at < self.sectors);
            if !self.power.step() {
                return Err(DeviceError::Gone);
            }
            if self.fails() {
                return Err(DeviceError::Failed);
            }
            self.kept_back.push((at, from.try_into().unwrap()));
            self.written += 1;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        if !self.power.step() {
            return Err(DeviceError::Gone);
        }
        if self.fails() {
            // A flush that failed has dropped some of it, for good.
            let mut at = 0;
            self.kept_back.retain(|_| {
                at += 1;
                at % 2 == 0
            });
            return Err(DeviceError::Failed);
        }
        self.durable.extend(self.kept_back.drain(..));
        self.flushes += 1;
        Ok(())
    }
}

/// What the ledger keeps, whatever happens to the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub epoch: u64,
    pub latest: Option<Point>,
    /// Its acknowledgements are lost.
    pub deaf: bool,
    /// How often it is looked for an answer before it is there.
    pub late: u32,
    /// It grants without looking at what the disk holds.
    pub blind: bool,
}

impl Kept {
    /// The broker's ledger, as far as it goes.
    fn entry(&self) -> Entry {
        Entry {
            epoch: self.epoch,
            latest: self.latest.map(commit),
            ..Entry::default()
        }
    }
}

fn commit(point: Point) -> protocol::Commit {
    protocol::Commit {
        epoch: point.epoch,
        counter: point.counter,
        digest: protocol::SlotDigest(point.digest),
    }
}

fn slot(point: Point) -> protocol::Slot {
    protocol::Slot {
        machine: broker_protocol::MachineId(MACHINE.0),
        epoch: point.epoch,
        counter: point.counter,
        digest: protocol::SlotDigest(point.digest),
    }
}

fn refused(refusal: broker_ledger::Refusal) -> LedgerError {
    LedgerError::Refused(Refusal::named(refusal.name()))
}

/// The ledger of one machine, or none.
#[derive(Clone)]
pub struct Witness {
    pub kept: Option<Rc<RefCell<Kept>>>,
    power: Power,
    flaky: Option<Flaky>,
}

impl Witness {
    pub fn new(kept: Option<&Rc<RefCell<Kept>>>, power: &Power) -> Self {
        Self {
            kept: kept.cloned(),
            power: power.clone(),
            flaky: None,
        }
    }

    pub fn flaky(mut self, flaky: &Flaky) -> Self {
        self.flaky = Some(flaky.clone());
        self
    }

    /// One message under way: lost if the power is off or by chance.
    fn arrives(&self) -> Result<(), LedgerError> {
        let lost = self.flaky.as_ref().is_some_and(Flaky::fails);
        (self.power.step() && !lost)
            .then_some(())
            .ok_or(LedgerError::Unreachable)
    }
}

impl Ledger for Witness {
    fn open(&mut self, disk: [Option<Point>; 2]) -> Result<Grant, LedgerError> {
        let kept = self.kept.clone().expect("asked without a ledger");
        self.arrives()?;
        let mut kept = kept.borrow_mut();
        let told = disk.map(|point| point.map(slot));
        let told = Some(&told).filter(|_| !kept.blind);
        let mut entry = kept.entry();
        entry
            .open(&broker_protocol::MachineId(MACHINE.0), told)
            .map_err(refused)?;
        kept.epoch = entry.epoch;
        self.arrives()?;
        Ok(Grant {
            epoch: kept.epoch,
            latest: kept.latest,
        })
    }

    fn commit(&mut self, point: Point) -> Result<(), LedgerError> {
        let kept = self.kept.clone().expect("asked without a ledger");
        self.arrives()?;
        let mut kept = kept.borrow_mut();
        kept.entry().commit(commit(point)).map_err(refused)?;
        kept.latest = Some(point);
        // The acknowledgement.
        if kept.deaf {
            return Err(LedgerError::Unreachable);
        }
        self.arrives()
    }

    fn collect(&mut self, point: Point) -> Result<Collected, LedgerError> {
        if let Some(kept) = &self.kept {
            let left = kept.borrow().late.checked_sub(1);
            if let Some(left) = left {
                kept.borrow_mut().late = left;
                return Ok(Collected::Outstanding);
            }
        }
        self.commit(point).map(|()| Collected::Acknowledged)
    }
}

/// A ledger that knows nothing yet, if there is to be one.
pub fn ledger(wanted: bool) -> Option<Rc<RefCell<Kept>>> {
    wanted.then(Rc::default)
}

/// The policy of a machine with this ledger, or none.
pub fn policy(kept: Option<&Rc<RefCell<Kept>>>) -> Rollback {
    match kept {
        Some(_) => Rollback::Ledger,
        None => Rollback::None,
    }
}

pub type Started = Opened<Model, Witness>;

/// Opens a disk with power that is not cut.
pub fn start(disk: &Disk, kept: Option<&Rc<RefCell<Kept>>>) -> Result<Started, OpenError> {
    start_on(disk, kept, policy(kept), &Power::default())
}

pub fn start_on(
    disk: &Disk,
    kept: Option<&Rc<RefCell<Kept>>>,
    rollback: Rollback,
    power: &Power,
) -> Result<Started, OpenError> {
    start_with(disk, kept, rollback, power, &key())
}

pub fn start_with(
    disk: &Disk,
    kept: Option<&Rc<RefCell<Kept>>>,
    rollback: Rollback,
    power: &Power,
    ring: &KeyRing,
) -> Result<Started, OpenError> {
    let device = Model::new(disk.clone(), power);
    let witness = Witness::new(kept, power);
    open(device, witness, ring, MACHINE, NV_SIZE, rollback)
}

/// The store of an opening, and the state's number if there is one.
pub fn parts(opened: Started) -> (Store<Model, Witness>, Option<u64>) {
    match opened {
        Opened::Stored { store, state, .. } | Opened::Unacknowledged { store, state, .. } => {
            (store, Some(state.journal_epoch))
        }
        Opened::Fresh(store) => (store, None),
    }
}

/// A disk with the states 1 to `last`.
pub fn disk(last: u64, size: usize, kept: Option<&Rc<RefCell<Kept>>>) -> Disk {
    let (mut store, _) = parts(start(&Disk::new(), kept).unwrap());
    for number in 1..=last {
        let commit = store.commit(&state(number, size), nonce(number));
        assert!(
            matches!(commit, state_store::Commit::Stored(_)),
            "{commit:?}"
        );
    }
    store.into_parts().0.durable
}
