//! What the vTPM gives each of its states to.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use attestation::tpm::{Name, rh, template};
use state_store::{
    Answer, Collected, Commit, Device, EkTemplate, Ledger, Nonce, NotStored, Opened, State, Store,
};
use vtpm::state::{Keeper, NotKept};
use zeroize::{Zeroize, Zeroizing};

use crate::entropy::EntropyError;

/// Fills the whole slice with random bytes that the host does not know.
pub type Random = fn(&mut [u8]) -> Result<(), EntropyError>;

/// Nanoseconds from a commit that was answered before the ledger acknowledged it to the request to the ledger: the
/// guest takes its response first.
const ASK: u64 = 1_000_000;
/// Nanoseconds from there to the first look for the answer. From each look to the next it is twice as long, so that the
/// window is at most twice as long as the ledger takes.
const LOOK: u64 = 500_000;
/// The most nanoseconds from one look to the next.
const RARELY: u64 = 64_000_000;
/// Nanoseconds until a ledger that does not answer is asked again. It has been waited for before.
const AGAIN: u64 = 1_000_000_000;

/// When the ledger is asked for what was answered before it acknowledged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Not at all: nothing is outstanding.
    Settled,
    /// In a while from now, which nobody has told yet.
    Begun,
    /// At `time`, in nanoseconds, and in `step` after that. It was answered at `since`.
    At { time: u64, step: u64, since: u64 },
}

/// How long commits were answered and not acknowledged.
#[derive(Clone, Copy, Debug, Default)]
struct Windows {
    /// How many were acknowledged as time passed.
    count: u64,
    /// The longest of these times, in nanoseconds.
    longest: u64,
}

/// Keeps the vTPM's states in a store.
pub struct StoreKeeper<D, L> {
    store: Store<D, L>,
    /// What is stored beside the engine's state, whose place is empty between two commits.
    around: State,
    random: Random,
    pace: Pace,
    windows: Windows,
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
            pace: Pace::Settled,
            windows: Windows::default(),
        };
        if !acknowledged {
            keeper.keep(&engine)?;
            log::warn!(
                "state: the last commit was answered and not acknowledged when its life ended: it is acknowledged now"
            );
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
            Commit::Written(_) => {
                self.pace = Pace::Begun;
                Ok(())
            }
            Commit::Stored(_) | Commit::Unchanged(_) => {
                self.pace = Pace::Settled;
                Ok(())
            }
            // What is outstanding stays so.
            Commit::NotStored { why, .. } => Err(not_kept(why)),
        }
    }
}

fn not_kept(why: NotStored) -> NotKept {
    match why.answer() {
        Answer::Failure => NotKept::Never(why.to_string()),
        Answer::Response | Answer::NvUnavailable => NotKept::Unavailable(why.to_string()),
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
    fn due(&self) -> Option<u64> {
        match self.pace {
            Pace::Settled => None,
            Pace::Begun => Some(0),
            Pace::At { time, .. } => Some(time),
        }
    }

    /// A ledger that does not answer is no error: the next state waits for it.
    fn tend(&mut self, now: u64) -> Result<(), NotKept> {
        let (step, since) = match self.pace {
            Pace::Begun => {
                self.pace = Pace::At {
                    time: now.saturating_add(ASK),
                    step: LOOK,
                    since: now,
                };
                return Ok(());
            }
            Pace::At { time, step, since } if time <= now => (step, since),
            Pace::Settled | Pace::At { .. } => return Ok(()),
        };
        let at = |after: u64, step| Pace::At {
            time: now.saturating_add(after),
            step,
            since,
        };
        let (pace, result) = match self.store.collect() {
            Ok(Collected::Acknowledged) => {
                let Windows { count, longest } = &mut self.windows;
                *count = count.saturating_add(1);
                *longest = now.saturating_sub(since).max(*longest);
                (Pace::Settled, Ok(()))
            }
            Ok(Collected::Outstanding) => {
                let next = step.saturating_mul(2).min(RARELY);
                (at(step, next), Ok(()))
            }
            Err(why) => match not_kept(why) {
                NotKept::Unavailable(_) => (at(AGAIN, LOOK), Ok(())),
                never => (Pace::Settled, Err(never)),
            },
        };
        self.pace = pace;
        result
    }

    fn conclude(&mut self) -> Result<(), NotKept> {
        let Windows { count, longest } = self.windows;
        if count != 0 {
            log::info!(
                target: "window",
                count, longest;
                "state: {count} commits were acknowledged after they were answered, each in {longest} ns or less"
            );
        }
        if self.pace == Pace::Settled {
            return Ok(());
        }
        self.pace = Pace::Settled;
        self.store.settle().map_err(not_kept)
    }

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
mod tests;
