//! The model: states, steps, invariants.

use broker_ledger::Entry;
use broker_protocol::MachineId;
use broker_protocol::ledger::{Commit, Grant, Slot, SlotDigest};
use std::collections::{BTreeSet, HashSet};

/// How far the search goes.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// Openings, of both L1s together.
    pub(crate) lives: u64,
    /// Writes of a life.
    pub(crate) writes: u8,
}

/// Whether the ledger is told of a slot before its commit.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) enum Prepare {
    /// When it is on the disk: the protocol.
    #[default]
    AfterWrite,
    /// Not at all: allowed.
    Never,
    /// Before it is on the disk: wrong.
    BeforeWrite,
}

/// When the guest may see what was opened.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) enum Settle {
    /// After a first commit under the new epoch: the protocol.
    #[default]
    First,
    /// At once: wrong.
    Later,
}

/// When a command of the guest is answered.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) enum Answer {
    /// When its commit is acknowledged: the protocol.
    #[default]
    AtCommit,
    /// When its slot is prepared: wrong.
    AtPreparation,
}

/// Whether the ledger looks at the epoch of a request.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) enum Fencing {
    /// It does: the protocol.
    #[default]
    On,
    /// It does not: wrong.
    Off,
}

/// When an L1 looks at its disk.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) enum Look {
    /// Before it asks for a lease, and tells the ledger what there is.
    #[default]
    First,
    /// After it has one.
    Later,
}

/// The protocol, or one that is wrong in one place.
#[derive(Clone, Copy, Default)]
pub(crate) struct Rules {
    pub(crate) look: Look,
    pub(crate) prepare: Prepare,
    pub(crate) settle: Settle,
    pub(crate) answer: Answer,
    pub(crate) fencing: Fencing,
}

const MACHINE: MachineId = MachineId([1; 32]);

/// A TPM state: bit `n` is set if the effect of write `n` is in it.
type Content = u32;

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Sealed {
    epoch: u64,
    counter: u64,
    content: Content,
}

impl Sealed {
    fn digest(&self) -> SlotDigest {
        let mut digest = [0; 48];
        digest[..8].copy_from_slice(&self.epoch.to_le_bytes());
        digest[8..16].copy_from_slice(&self.counter.to_le_bytes());
        digest[16..20].copy_from_slice(&self.content.to_le_bytes());
        SlotDigest(digest)
    }

    fn commit(&self) -> Commit {
        Commit {
            epoch: self.epoch,
            counter: self.counter,
            digest: self.digest(),
        }
    }

    fn slot(&self) -> Slot {
        Slot {
            machine: MACHINE,
            epoch: self.epoch,
            counter: self.counter,
            digest: self.digest(),
        }
    }
}

type Disk = [Option<Sealed>; 2];

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Operation {
    Prepare,
    Commit,
}

/// A request, or the answer to exactly this request: the code of a message covers what it answers.
type Message = (Operation, Sealed);

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Phase {
    /// Not running, or given up.
    Off,
    /// It has a lease, and did not read the slot yet.
    Leased(Grant),
    /// It holds a state; `None` for the place if it is of no slot.
    Holding,
    /// A slot is to be written.
    Writing(Sealed),
    /// Waits for an answer to what it sent.
    Waiting(Message),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct L1 {
    phase: Phase,
    epoch: u64,
    next_counter: u64,
    content: Content,
    /// The slot that the state in use is in.
    place: Option<usize>,
    writes: u8,
}

const OFF: L1 = L1 {
    phase: Phase::Off,
    epoch: 0,
    next_counter: 0,
    content: 0,
    place: None,
    writes: 0,
};

#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    l1: [L1; 2],
    disk: Disk,
    /// An image that the host kept.
    kept: Option<Disk>,
    /// Whether it put it in place.
    touched: bool,
    /// Whether it ran two L1s at one disk: they overwrite each other's slots, and what is left may be neither's.
    shared: bool,
    entry: Entry,
    requests: BTreeSet<Message>,
    answers: BTreeSet<Message>,
    /// Effects that a guest was told of.
    acknowledged: Content,
    written: u32,
    opened: u64,
}

/// Every state that can be reached; how many, or what is wrong in one.
pub(crate) fn search(rules: Rules, bounds: Bounds) -> Result<usize, String> {
    let start = World {
        l1: [OFF; 2],
        disk: [None; 2],
        kept: None,
        touched: false,
        shared: false,
        entry: Entry::default(),
        requests: BTreeSet::new(),
        answers: BTreeSet::new(),
        acknowledged: 0,
        written: 0,
        opened: 0,
    };
    let mut seen = HashSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some(world) = open.pop() {
        for next in world.steps(rules, bounds)? {
            next.check()?;
            let next = next.reduced(rules)?;
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    Ok(seen.len())
}

impl World {
    /// The same state without what makes no difference: which L1 is which, answers that nobody waits for or will, and
    /// requests of epochs that are over, which the ledger refuses whenever they arrive: it is asked here, once for all.
    fn reduced(mut self, rules: Rules) -> Result<World, String> {
        if self.l1[0] > self.l1[1] {
            self.l1.swap(0, 1);
        }
        let waits = self.l1.map(|l1| l1.phase);
        self.answers
            .retain(|answer| waits.contains(&Phase::Waiting(*answer)));
        if rules.fencing == Fencing::Off {
            return Ok(self);
        }
        let (over, live) = std::mem::take(&mut self.requests)
            .into_iter()
            .partition(|(_, sealed)| sealed.epoch < self.entry.epoch);
        self.requests = live;
        let over: BTreeSet<Message> = over;
        for (operation, sealed) in over {
            if self.ask(operation, sealed.commit()).is_some() {
                return Err(format!(
                    "a commit of epoch {} counts, which is over",
                    sealed.epoch
                ));
            }
        }
        Ok(self)
    }

    /// The ledger after it did this; `None` if it refuses.
    fn ask(&self, operation: Operation, commit: Commit) -> Option<Entry> {
        let mut entry = self.entry.clone();
        let done = match operation {
            Operation::Prepare => entry.prepare(commit),
            Operation::Commit => entry.commit(commit),
        };
        done.is_ok().then_some(entry)
    }

    fn slots(&self) -> [Option<Slot>; 2] {
        self.disk.map(|slot| slot.as_ref().map(Sealed::slot))
    }

    fn check(&self) -> Result<(), String> {
        let [one, other] = &self.l1;
        if one.epoch != 0 && one.epoch == other.epoch {
            return Err(format!("two L1s have epoch {}", one.epoch));
        }
        if self.touched || self.shared {
            return Ok(());
        }
        let mut entry = self.entry.clone();
        entry
            .open(&MACHINE, Some(&self.slots()))
            .map(drop)
            .map_err(|refusal| format!("an honest host's disk cannot be opened: {refusal}"))
    }

    fn steps(&self, rules: Rules, bounds: Bounds) -> Result<Vec<World>, String> {
        let mut next = Vec::new();
        for index in [0, 1] {
            self.l1_steps(index, rules, bounds, &mut next)?;
            if self.l1[index].phase != Phase::Off {
                next.push(self.with(|world| world.l1[index] = OFF));
            }
        }
        for message in &self.requests {
            next.extend(self.deliver(*message, rules)?);
        }
        if self.kept.is_none() && self.disk != [None; 2] {
            next.push(self.with(|world| world.kept = Some(world.disk)));
        }
        if let (Some(image), false) = (self.kept, self.touched) {
            next.push(self.with(|world| {
                world.disk = image;
                world.touched = true;
            }));
        }
        Ok(next)
    }

    fn with(&self, change: impl FnOnce(&mut World)) -> World {
        let mut world = self.clone();
        change(&mut world);
        world
    }

    /// The broker's transaction. That it is lost before or after is that the step, or that of the answer, is not taken.
    fn deliver(&self, (operation, sealed): Message, rules: Rules) -> Result<Option<World>, String> {
        let mut world = self.clone();
        let mut commit = sealed.commit();
        if rules.fencing == Fencing::Off {
            commit.epoch = world.entry.epoch;
        }
        let Some(entry) = self.ask(operation, commit) else {
            return Ok(None);
        };
        world.entry = entry;
        if sealed.epoch != self.opened {
            return Err(format!(
                "the broker acknowledged epoch {}, and {} is the newest",
                sealed.epoch, self.opened
            ));
        }
        world.answers.insert((operation, sealed));
        Ok(Some(world))
    }

    fn l1_steps(
        &self,
        index: usize,
        rules: Rules,
        bounds: Bounds,
        next: &mut Vec<World>,
    ) -> Result<(), String> {
        let l1 = self.l1[index];
        match l1.phase {
            Phase::Off if self.opened < bounds.lives => {
                let mut world = self.clone();
                let slots = self.slots();
                let told = match rules.look {
                    Look::First => Some(&slots),
                    Look::Later => None,
                };
                if let Ok(grant) = world.entry.open(&MACHINE, told) {
                    world.opened += 1;
                    world.shared |= self.l1[1 - index].phase != Phase::Off;
                    // The answer is lost: the epoch is raised all the same.
                    next.push(world.clone());
                    world.l1[index] = L1 {
                        phase: Phase::Leased(grant),
                        epoch: grant.epoch,
                        next_counter: grant.next_counter().unwrap(),
                        ..OFF
                    };
                    next.push(world);
                }
            }
            Phase::Off => {}
            Phase::Leased(grant) => next.push(self.load(index, grant, rules)?),
            Phase::Holding if l1.writes < bounds.writes => {
                next.push(self.write(index, rules));
            }
            Phase::Holding => {}
            Phase::Writing(sealed) => {
                let place = l1.place.map_or(0, |place| 1 - place);
                // Power is cut with the slot torn.
                next.push(self.with(|world| {
                    world.disk[place] = None;
                    world.l1[index] = OFF;
                }));
                next.push(self.with(|world| {
                    world.disk[place] = Some(sealed);
                    let operation = match rules.prepare {
                        Prepare::AfterWrite => Operation::Prepare,
                        Prepare::Never | Prepare::BeforeWrite => Operation::Commit,
                    };
                    world.send(index, (operation, sealed));
                }));
            }
            Phase::Waiting(message) if self.answers.contains(&message) => {
                next.push(self.with(|world| world.hear(index, message, rules)));
            }
            Phase::Waiting(_) => {}
        }
        Ok(())
    }

    /// Reads what the lease is for, if it is there.
    fn load(&self, index: usize, grant: Grant, rules: Rules) -> Result<World, String> {
        let mut world = self.clone();
        let find = |commit: Commit| {
            self.disk.iter().enumerate().find_map(|(place, slot)| {
                let sealed = slot.filter(|slot| slot.commit() == commit)?;
                Some((Some(place), sealed.content))
            })
        };
        let found = match (grant.pending, grant.latest) {
            (None, None) => Some((None, 0)),
            (pending, latest) => pending.and_then(find).or_else(|| latest.and_then(find)),
        };
        let l1 = &mut world.l1[index];
        let Some((place, content)) = found else {
            *l1 = OFF;
            return Ok(world);
        };
        // Fenced in the meantime: what it holds is older than what the newer life acknowledged, and never shown.
        let missing = self.acknowledged & !content;
        if missing != 0 && l1.epoch == self.opened {
            return Err(format!(
                "epoch {} opens a state without effects {missing:#b}, each of which was acknowledged",
                l1.epoch
            ));
        }
        (l1.phase, l1.place, l1.content) = (Phase::Holding, place, content);
        if rules.settle == Settle::Later {
            world.acknowledged |= content;
        }
        Ok(world)
    }

    /// A command of the guest changes the state; the first write of a life is what was opened, under the new epoch.
    fn write(&self, index: usize, rules: Rules) -> World {
        self.with(|world| {
            let effect = 1 << world.written;
            world.written += 1;
            let l1 = &mut world.l1[index];
            l1.writes += 1;
            l1.content |= effect;
            let sealed = Sealed {
                epoch: l1.epoch,
                counter: l1.next_counter,
                content: l1.content,
            };
            match rules.prepare {
                Prepare::BeforeWrite => world.send(index, (Operation::Prepare, sealed)),
                Prepare::AfterWrite | Prepare::Never => l1.phase = Phase::Writing(sealed),
            }
        })
    }

    fn send(&mut self, index: usize, message: Message) {
        self.requests.insert(message);
        self.l1[index].phase = Phase::Waiting(message);
    }

    fn hear(&mut self, index: usize, (operation, sealed): Message, rules: Rules) {
        match operation {
            Operation::Prepare => {
                if rules.answer == Answer::AtPreparation {
                    self.acknowledged |= sealed.content;
                }
                match rules.prepare {
                    Prepare::BeforeWrite => self.l1[index].phase = Phase::Writing(sealed),
                    _ => self.send(index, (Operation::Commit, sealed)),
                }
            }
            Operation::Commit => {
                self.acknowledged |= sealed.content;
                let l1 = &mut self.l1[index];
                l1.place = Some(l1.place.map_or(0, |place| 1 - place));
                l1.next_counter += 1;
                l1.phase = Phase::Holding;
            }
        }
    }
}
