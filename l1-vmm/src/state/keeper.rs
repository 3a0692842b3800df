//! What the vTPM gives each of its states to.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use attestation::tpm::{Name, rh, template};
use state_store::{Answer, Commit, Device, EkTemplate, Ledger, Nonce, Opened, State, Store};
use vtpm::state::{Keeper, NotKept};
use zeroize::{Zeroize, Zeroizing};

use crate::entropy::EntropyError;

/// Fills the whole slice with random bytes that the host does not know.
pub type Random = fn(&mut [u8]) -> Result<(), EntropyError>;

/// Keeps the vTPM's states in a store.
pub struct StoreKeeper<D, L> {
    store: Store<D, L>,
    /// What is stored beside the engine's state, whose place is empty between two commits.
    around: State,
    random: Random,
}

/// The keeper of a state that was opened, and what its TPM starts from.
pub struct Kept<D, L> {
    /// What the vTPM gives its states to.
    pub keeper: StoreKeeper<D, L>,
    /// The engine's permanent state; none for a new TPM.
    pub engine: Option<Zeroizing<Vec<u8>>>,
}

/// What is told of a state beside the engine's part, where there is none yet.
#[derive(Clone, Copy, Debug)]
pub struct Fresh<'a> {
    /// Bytes of the engine's NV memory.
    pub nv_size: u32,
    /// The policy that the state is stored under, as its text.
    pub policy: &'a str,
}

impl<D: Device, L: Ledger> StoreKeeper<D, L> {
    /// Goes on behind the state that was opened, or begins with a new TPM.
    ///
    /// # Errors
    /// A state that the ledger had not acknowledged is committed first, and was not stored.
    pub fn begin(
        opened: Opened<D, L>,
        fresh: &Fresh<'_>,
        random: Random,
    ) -> Result<Kept<D, L>, NotKept> {
        let (store, state, acknowledged) = match opened {
            Opened::Stored { store, state, .. } => (store, Some(state), true),
            Opened::Unacknowledged { store, state, .. } => (store, Some(state), false),
            Opened::Fresh(store) => (store, None, true),
        };
        let mut around = state.unwrap_or_else(|| State {
            engine: Vec::new(),
            ek_templates: ek_templates().into(),
            journal_epoch: 0,
            nv_size: fresh.nv_size,
            policy: fresh.policy.into(),
            others: Vec::new(),
        });
        let engine = Zeroizing::new(core::mem::take(&mut around.engine));
        let mut keeper = Self {
            store,
            around,
            random,
        };
        if !acknowledged {
            keeper.keep(&engine)?;
        }
        keeper.around.journal_epoch = keeper.around.journal_epoch.saturating_add(1);
        let engine = (!engine.is_empty()).then_some(engine);
        Ok(Kept { keeper, engine })
    }

    /// Which opening of the state this is.
    pub fn epoch(&self) -> u64 {
        self.store.epoch()
    }

    /// The counter of the commit that counts; 0 if there is none.
    pub fn counter(&self) -> u64 {
        self.store.point().map_or(0, |point| point.counter)
    }

    /// Commits the state that was committed once more, where the other slot is still sealed with a former key. What was
    /// acknowledged is stored whatever comes of it.
    fn reseal(&mut self, state: &[u8]) {
        while self.store.is_resealing() {
            if let Err(error) = self.give(state, Store::commit_anew) {
                log::warn!("a slot is still sealed with a former key: {error}");
                return;
            }
        }
    }

    /// Gives a state to the store by `commit`.
    fn give(
        &mut self,
        state: &[u8],
        commit: fn(&mut Store<D, L>, &State, Nonce) -> Commit,
    ) -> Result<(), NotKept> {
        let mut nonce = [0; 12];
        (self.random)(&mut nonce).map_err(|error| NotKept::Unavailable(error.to_string()))?;
        self.around.engine = state.to_vec();
        let commit = commit(&mut self.store, &self.around, Nonce(nonce));
        self.around.engine.zeroize();
        match commit {
            Commit::NotStored { why, .. } => Err(match why.answer() {
                Answer::Failure => NotKept::Never(why.to_string()),
                Answer::Response | Answer::NvUnavailable => NotKept::Unavailable(why.to_string()),
            }),
            Commit::Stored(_) | Commit::Written(_) | Commit::Unchanged(_) => Ok(()),
        }
    }
}

/// The templates that a TPM's endorsement keys are made of, by the NV indices of their certificates.
pub fn ek_templates() -> [EkTemplate; 3] {
    [
        (rh::NV_EK_RSA_2048, template::ek_rsa_2048()),
        (rh::NV_EK_P256, template::ek_p256()),
        (rh::NV_EK_P384, template::ek_p384()),
    ]
    .map(|(handle, public)| EkTemplate {
        handle,
        public: public.to_bytes(),
        name: Vec::new(),
    })
}

impl<D: Device, L: Ledger> Keeper for StoreKeeper<D, L> {
    /// A state of an earlier L1 has none yet, and gets them.
    fn endorsed_as(&mut self, names: &[Name; 3]) -> Result<(), NotKept> {
        for (template, name) in ek_templates().into_iter().zip(names) {
            let handle = template.handle;
            let mut known = self.around.ek_templates.iter_mut();
            match known.find(|known| known.handle == handle) {
                Some(known) if known.name.is_empty() => known.name = name.as_bytes().to_vec(),
                Some(known) if known.name == name.as_bytes() && known.public == template.public => {
                }
                Some(_) => {
                    return Err(NotKept::Never(format!(
                        "the endorsement key of index {handle:#x} is another than the state has: start the L1 that wrote it"
                    )));
                }
                None => self.around.ek_templates.push(EkTemplate {
                    handle,
                    public: template.public.clone(),
                    name: name.as_bytes().to_vec(),
                }),
            }
        }
        Ok(())
    }

    fn keep(&mut self, state: &[u8]) -> Result<(), NotKept> {
        self.give(state, Store::commit)?;
        self.reseal(state);
        Ok(())
    }

    fn keep_anew(&mut self, state: &[u8]) -> Result<(), NotKept> {
        self.give(state, Store::commit_anew)?;
        self.reseal(state);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::rc::Rc;
    use alloc::vec;
    use attestation::digest::Algorithm;
    use core::cell::{Cell, RefCell};
    use state_store::{
        DeviceError, Grant, LedgerError, MachineId, NoLedger, Point, Refusal, Rollback, StateKey,
        open,
    };

    const NV_SIZE: u32 = 0x2_b2c0;

    /// A disk in memory, that can be away.
    #[derive(Clone)]
    struct Disk {
        bytes: Rc<RefCell<Vec<u8>>>,
        away: Rc<Cell<bool>>,
    }

    impl Disk {
        fn new() -> Self {
            Self {
                bytes: Rc::new(RefCell::new(vec![0; 4 << 20])),
                away: Rc::default(),
            }
        }

        fn answer(&self) -> Result<(), DeviceError> {
            match self.away.get() {
                true => Err(DeviceError::Failed),
                false => Ok(()),
            }
        }
    }

    impl Device for Disk {
        fn sectors(&self) -> u64 {
            self.bytes.borrow().len() as u64 / 512
        }

        fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), DeviceError> {
            self.answer()?;
            let at = sector as usize * 512;
            into.copy_from_slice(&self.bytes.borrow()[at..at + into.len()]);
            Ok(())
        }

        fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), DeviceError> {
            self.answer()?;
            let at = sector as usize * 512;
            self.bytes.borrow_mut()[at..at + from.len()].copy_from_slice(from);
            Ok(())
        }

        fn flush(&mut self) -> Result<(), DeviceError> {
            self.answer()
        }
    }

    /// Counts up: not random at all.
    fn random(into: &mut [u8]) -> Result<(), EntropyError> {
        for (byte, value) in into.iter_mut().zip(1..) {
            *byte = value;
        }
        Ok(())
    }

    fn kept<L: Ledger>(disk: &Disk, ledger: L, rollback: Rollback) -> Kept<Disk, L> {
        let key = StateKey::take(&mut [7; 32]).into();
        let machine = MachineId([1; 32]);
        let opened = open(disk.clone(), ledger, &key, machine, NV_SIZE, rollback).unwrap();
        let fresh = Fresh {
            nv_size: NV_SIZE,
            policy: "policy",
        };
        StoreKeeper::begin(opened, &fresh, random).ok().unwrap()
    }

    fn alone(disk: &Disk) -> Kept<Disk, NoLedger> {
        kept(disk, NoLedger, Rollback::None)
    }

    #[test]
    fn a_state_that_was_kept_is_the_next_start() {
        let disk = Disk::new();
        let Kept { mut keeper, engine } = alone(&disk);
        assert!(engine.is_none());
        assert_eq!(keeper.counter(), 0);
        keeper.keep(b"first").unwrap();
        keeper.keep(b"second").unwrap();
        keeper.keep(b"second").unwrap();
        assert_eq!(keeper.counter(), 2);
        keeper.keep_anew(b"second").unwrap();
        assert!(keeper.around.engine.is_empty());
        drop(keeper);
        let Kept { keeper, engine } = alone(&disk);
        assert_eq!(engine.unwrap().as_slice(), b"second");
        assert_eq!((keeper.epoch(), keeper.counter()), (2, 3));
        assert_eq!(keeper.around.journal_epoch, 2);
        assert_eq!(keeper.around.ek_templates, ek_templates());
        assert_eq!(keeper.around.policy, "policy");
    }

    #[test]
    fn a_disk_that_is_away_may_come_back() {
        let disk = Disk::new();
        let mut keeper = alone(&disk).keeper;
        disk.away.set(true);
        let error = keeper.keep_anew(b"state").unwrap_err();
        let NotKept::Unavailable(why) = &error else {
            panic!("{error:?}");
        };
        assert!(why.contains("cannot be written"), "{why}");
        disk.away.set(false);
        keeper.keep(b"state").unwrap();
    }

    /// A ledger that forgets nothing, and has the state taken by another machine after so many commits.
    #[derive(Clone, Default)]
    struct Fencing {
        latest: Rc<Cell<Option<Point>>>,
        epoch: Rc<Cell<u64>>,
        silent: Rc<Cell<bool>>,
        commits: Rc<Cell<u32>>,
    }

    impl Ledger for Fencing {
        fn open(&mut self, _disk: [Option<Point>; 2]) -> Result<Grant, LedgerError> {
            self.epoch.update(|epoch| epoch + 1);
            Ok(Grant {
                epoch: self.epoch.get(),
                latest: self.latest.get(),
            })
        }

        fn commit(&mut self, point: Point) -> Result<(), LedgerError> {
            if self.silent.get() {
                return Err(LedgerError::Unreachable);
            }
            self.commits.update(|commits| commits + 1);
            match self.commits.get() {
                1 => {
                    self.latest.set(Some(point));
                    Ok(())
                }
                _ => Err(LedgerError::Refused(Refusal::Fenced)),
            }
        }
    }

    #[test]
    fn a_state_that_was_not_acknowledged_is_committed_before_it_is_used() {
        let disk = Disk::new();
        let ledger = Fencing::default();
        ledger.silent.set(true);
        let mut keeper = kept(&disk, ledger.clone(), Rollback::Lazy).keeper;
        keeper.keep(b"lazy").unwrap();
        drop(keeper);
        ledger.silent.set(false);
        let Kept { keeper, engine } = kept(&disk, ledger.clone(), Rollback::Lazy);
        assert_eq!(engine.unwrap().as_slice(), b"lazy");
        let latest = ledger.latest.get().unwrap();
        assert_eq!(latest.counter, keeper.counter());
    }

    #[test]
    fn a_state_that_another_machine_has_is_never_kept() {
        let disk = Disk::new();
        let mut keeper = kept(&disk, Fencing::default(), Rollback::Ledger).keeper;
        keeper.keep(b"first").unwrap();
        for _ in 0..2 {
            let error = keeper.keep(b"second").unwrap_err();
            let NotKept::Never(why) = &error else {
                panic!("{error:?}");
            };
            assert!(why.contains("fenced"), "{why}");
        }
    }

    #[test]
    fn the_endorsement_keys_stay_what_they_were() {
        let name = |byte| Name::of(Algorithm::Sha256, &[byte]);
        let names = [name(1), name(2), name(3)];
        let disk = Disk::new();
        let mut keeper = alone(&disk).keeper;
        keeper.endorsed_as(&names).unwrap();
        keeper.keep(b"state").unwrap();
        drop(keeper);
        let mut keeper = alone(&disk).keeper;
        for (known, name) in keeper.around.ek_templates.iter().zip(&names) {
            assert_eq!(known.name, name.as_bytes());
        }
        keeper.endorsed_as(&names).unwrap();
        let others = [name(1), name(4), name(3)];
        let error = keeper.endorsed_as(&others).unwrap_err();
        let NotKept::Never(why) = &error else {
            panic!("{error:?}");
        };
        assert!(why.contains("0x1c0000a is another"), "{why}");
    }

    #[test]
    fn without_random_numbers_nothing_is_sealed() {
        let disk = Disk::new();
        let mut keeper = alone(&disk).keeper;
        keeper.random = |_| Err(EntropyError::Exhausted);
        let before = disk.bytes.borrow().clone();
        assert!(matches!(
            keeper.keep(b"state"),
            Err(NotKept::Unavailable(_))
        ));
        assert!(before == *disk.bytes.borrow());
    }
}
