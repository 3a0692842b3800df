//! The TPM's permanent state, as the journal sees it: a digest of each one that was committed.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use sha2::{Digest, Sha384};
use spin::Mutex;
use tpm2_ref_sys::{NvError, NvStore};

#[derive(Debug, Default)]
struct Digests {
    loaded: Option<[u8; 48]>,
    committed: Option<[u8; 48]>,
}

/// What a [`WatchedStore`] has seen. Clones see the same store.
#[derive(Clone, Debug, Default)]
pub struct Commits(Arc<Mutex<Digests>>);

impl Commits {
    /// SHA-384 of the state that the TPM started from; `None` for one that was manufactured.
    pub fn loaded(&self) -> Option<[u8; 48]> {
        self.0.lock().loaded
    }

    /// SHA-384 of the state that was committed last, if one was since this was last asked.
    pub fn take(&self) -> Option<[u8; 48]> {
        self.0.lock().committed.take()
    }
}

/// A store that notes the digest of what it is given before it passes it on.
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
}

impl NvStore for WatchedStore {
    fn load(&mut self) -> Result<Option<Vec<u8>>, NvError> {
        let state = self.store.load()?;
        self.commits.0.lock().loaded = state.as_deref().map(digest);
        Ok(state)
    }

    fn store(&mut self, state: &[u8]) -> Result<(), NvError> {
        self.commits.0.lock().committed = Some(digest(state));
        self.store.store(state)
    }
}

fn digest(state: &[u8]) -> [u8; 48] {
    Sha384::digest(state).into()
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
}
