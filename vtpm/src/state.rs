//! The TPM's permanent state: a digest of each one that was committed for the journal, and what keeps it beyond the
//! TD's life.
//!
//! The engine commits as often as it likes while one command of the guest's runs, L1's own commands before and after
//! it included. A [`Keeper`] is given the last of these states, once, before the response is out: see
//! [`attested`](crate::attested).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use attestation::tpm::Name;
use sha2::{Digest, Sha384};
use spin::Mutex;
use tpm2_ref_sys::{NvError, NvStore};
use zeroize::Zeroizing;

/// Where the TPM's permanent state is kept beyond the TD's life.
///
/// The state is secret: what leaves the TD is the keeper's to seal.
pub trait Keeper {
    /// Keeps `state`. When this returns `Ok`, the state is the one that the TPM is next started from; on an error the
    /// former is, or this one if its acknowledgement was lost.
    ///
    /// # Errors
    /// See [`NotKept`].
    fn keep(&mut self, state: &[u8]) -> Result<(), NotKept>;

    /// As [`keep`](Self::keep), and writes it even if it is the one that is kept already: so it shows that states can be
    /// kept again.
    ///
    /// # Errors
    /// See [`NotKept`].
    fn keep_anew(&mut self, state: &[u8]) -> Result<(), NotKept>;

    /// When [`tend`](Self::tend) is of use next, in nanoseconds of the clock that it is told; none if nothing is left to do.
    fn due(&self) -> Option<u64> {
        None
    }

    /// It is `now`: does what is left to do of the states that were kept, and waits for nobody.
    ///
    /// # Errors
    /// [`NotKept::Never`].
    fn tend(&mut self, now: u64) -> Result<(), NotKept> {
        let _ = now;
        Ok(())
    }

    /// Does what is left to do, and waits for it: there is nobody left who could be kept waiting.
    ///
    /// # Errors
    /// See [`NotKept`]; what was kept stays so.
    fn conclude(&mut self) -> Result<(), NotKept> {
        Ok(())
    }

    /// Is told the Names of the TPM's endorsement keys, RSA-2048, P-256 and P-384, when they are known, and remembers them
    /// with the states from then on. An engine that makes other keys of the same seeds, as a later version may, must not go on
    /// as if it were the same TPM.
    ///
    /// # Errors
    /// [`NotKept::Never`]: the state's are others.
    fn endorsed_as(&mut self, names: &[Name; 3]) -> Result<(), NotKept> {
        let _ = names;
        Ok(())
    }
}

/// Why a state was not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// It may be kept later: the guest is told TPM_RC_NV_UNAVAILABLE.
    #[error("{0}")]
    Unavailable(String),
    /// It never will be: another machine has the state, or it has no room. The vTPM goes into failure mode.
    #[error("{0}")]
    Never(String),
}

#[derive(Default)]
struct Seen {
    loaded: Option<[u8; 48]>,
    committed: Option<[u8; 48]>,
    /// The last state that was committed and not yet kept.
    unkept: Option<Zeroizing<Vec<u8>>>,
    /// How many were committed.
    count: u64,
    /// Whether what was not kept is nobody's to know.
    withheld: bool,
    /// Whether there is a keeper to take it.
    kept_elsewhere: bool,
}

/// What a [`WatchedStore`] has seen. Clones see the same store.
#[derive(Clone, Default)]
pub struct Commits(Arc<Mutex<Seen>>);

impl core::fmt::Debug for Commits {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let seen = self.0.lock();
        f.debug_struct("Commits")
            .field("loaded", &seen.loaded)
            .field("committed", &seen.committed)
            .field("unkept", &seen.unkept.is_some())
            .finish()
    }
}

impl Commits {
    /// SHA-384 of the state that the TPM started from; `None` for one that was manufactured.
    pub fn loaded(&self) -> Option<[u8; 48]> {
        self.0.lock().loaded
    }

    /// SHA-384 of the state that was committed last, if one was since this was last asked.
    pub fn take(&self) -> Option<[u8; 48]> {
        let mut seen = self.0.lock();
        match seen.withheld {
            true => None,
            false => seen.committed.take(),
        }
    }

    /// Whether [`take`](Self::take) has one to give.
    pub(crate) fn is_noted(&self) -> bool {
        self.0.lock().committed.is_some()
    }

    /// The last state that was committed, if it was not yet kept. It stays one that was not until
    /// [`kept`](Self::kept).
    pub(crate) fn unkept(&self) -> Option<Zeroizing<Vec<u8>>> {
        self.0.lock().unkept.clone()
    }

    /// Whether nothing is left to be kept.
    pub(crate) fn all_kept(&self) -> bool {
        self.0.lock().unkept.is_none()
    }

    /// What was and will be committed is not told until it is kept, neither that there is something nor what.
    pub(crate) fn withhold(&self) {
        self.0.lock().withheld = true;
    }

    /// What was withheld is kept, and told.
    pub(crate) fn tell_withheld(&self) {
        self.0.lock().withheld = false;
    }

    /// How many states were committed so far.
    pub(crate) fn count(&self) -> u64 {
        self.0.lock().count
    }

    /// Nothing is left to be kept any more.
    pub(crate) fn kept(&self) {
        self.0.lock().unkept = None;
    }
}

/// A store that notes what it is given before it passes it on.
pub struct WatchedStore {
    store: Box<dyn NvStore>,
    commits: Commits,
}

impl WatchedStore {
    /// `store`, watched.
    pub fn new(store: Box<dyn NvStore>) -> (Self, Commits) {
        let commits = Commits::default();
        let watched = Self {
            store,
            commits: commits.clone(),
        };
        (watched, commits)
    }

    /// For a TPM with a [`Keeper`]: begins with `state`, or with a new TPM without one, and holds each state that is
    /// committed for the keeper.
    pub fn kept_elsewhere(state: Option<Zeroizing<Vec<u8>>>) -> (Self, Commits) {
        let (watched, commits) = Self::new(Box::new(Restored(state)));
        commits.0.lock().kept_elsewhere = true;
        (watched, commits)
    }
}

impl NvStore for WatchedStore {
    fn load(&mut self) -> Result<Option<Vec<u8>>, NvError> {
        let state = self.store.load()?;
        self.commits.0.lock().loaded = state.as_deref().map(digest);
        Ok(state)
    }

    fn store(&mut self, state: &[u8]) -> Result<(), NvError> {
        let digest = digest(state);
        let mut seen = self.commits.0.lock();
        seen.committed = Some(digest);
        seen.count = seen.count.wrapping_add(1);
        if seen.kept_elsewhere {
            seen.unkept = Some(Zeroizing::new(state.to_vec()));
        }
        self.store.store(state)
    }
}

/// Begins with a state, and keeps none.
struct Restored(Option<Zeroizing<Vec<u8>>>);

impl NvStore for Restored {
    fn load(&mut self) -> Result<Option<Vec<u8>>, NvError> {
        Ok(self.0.take().map(|state| state.to_vec()))
    }

    fn store(&mut self, _state: &[u8]) -> Result<(), NvError> {
        Ok(())
    }
}

/// As much as is hashed between two places at which a command may be left.
const PIECE: usize = 16 << 10;

fn digest(state: &[u8]) -> [u8; 48] {
    let mut hash = Sha384::new();
    for piece in state.chunks(PIECE) {
        tpm2_ref_sys::yield_now();
        hash.update(piece);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    struct Kept(Vec<u8>);

    impl NvStore for Kept {
        fn load(&mut self) -> Result<Option<Vec<u8>>, NvError> {
            Ok(Some(self.0.clone()))
        }

        fn store(&mut self, _state: &[u8]) -> Result<(), NvError> {
            Err(NvError)
        }
    }

    #[test]
    fn each_state_is_noted_once_even_when_the_store_fails() {
        let (mut store, commits) = WatchedStore::new(Box::new(Kept(vec![1, 2])));
        assert_eq!((commits.loaded(), commits.take()), (None, None));
        store.load().unwrap();
        assert_eq!(commits.loaded(), Some(digest(&[1, 2])));
        assert!(store.store(&[3]).is_err());
        assert_eq!(commits.take(), Some(digest(&[3])));
        assert_eq!(commits.take(), None);
    }

    #[test]
    fn the_last_state_is_held_until_it_is_kept() {
        let (mut store, commits) = WatchedStore::kept_elsewhere(Some(Zeroizing::new(vec![1, 2])));
        assert_eq!(store.load().unwrap(), Some(vec![1, 2]));
        assert!(commits.unkept().is_none());
        store.store(&[3]).unwrap();
        store.store(&[4]).unwrap();
        for _ in 0..2 {
            assert_eq!(commits.unkept().unwrap().as_slice(), [4]);
        }
        commits.kept();
        assert!(commits.unkept().is_none());
        assert_eq!(commits.take(), Some(digest(&[4])));
    }

    #[test]
    fn what_is_not_shown_is_the_state() {
        let (mut store, commits) = WatchedStore::kept_elsewhere(None);
        assert_eq!(store.load().unwrap(), None);
        store.store(&[0xAB; 8]).unwrap();
        let shown = std::format!("{commits:?}");
        assert!(
            shown.contains("unkept: true") && !shown.contains("171"),
            "{shown}"
        );
    }

    #[test]
    fn nothing_is_held_without_a_keeper() {
        let (mut store, commits) = WatchedStore::new(Box::new(Kept(vec![])));
        assert!(store.store(&[3]).is_err());
        assert!(commits.unkept().is_none());
    }
}
