//! What the engine asks of its surroundings: entropy, time, a place for its permanent state, the
//! locality of the command it runs. Set by the owner of the [`Tpm`](crate::Tpm), read by the
//! objects that replace libtpms's platform.

use alloc::boxed::Box;
use alloc::vec::Vec;

use spin::Mutex;
use zeroize::Zeroizing;

use crate::state::{self, StateError, StateKind};

/// The source of entropy has none to give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("no entropy")]
pub struct NoEntropy;

/// Fills the whole slice with entropy, or fails; what the slice then holds is not used.
pub type Entropy = fn(&mut [u8]) -> Result<(), NoEntropy>;

/// Nanoseconds since some fixed moment; never goes back.
pub type Clock = fn() -> u64;

/// The store could not load or keep the permanent state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("the permanent state could not be loaded or stored")]
pub struct NvError;

/// Where the engine's permanent state (seeds, hierarchies, NV indices, evicted keys) is kept.
///
/// The state is secret and its digest only finds accidents: who needs it kept from or unchanged by
/// others seals it in the store. This crate erases its own copies when it is done with them; what a
/// store keeps is the store's to erase.
pub trait NvStore: Send {
    /// The state that was stored last, or `None` when there never was one: the engine then
    /// manufactures itself with new seeds. Called once, by [`Tpm::open`](crate::Tpm::open).
    fn load(&mut self) -> Result<Option<Vec<u8>>, NvError>;

    /// Replaces the state. Called within the command that changed it, before its response is out:
    /// a response that says something is permanent is true. A failure ends the TPM's service
    /// ([`Fault::Nv`]).
    fn store(&mut self, state: &[u8]) -> Result<(), NvError>;
}

/// Keeps nothing: each [`Tpm::open`](crate::Tpm::open) is a new TPM. Within one owner the state
/// does survive [`Tpm::reset`](crate::Tpm::reset).
#[derive(Clone, Copy, Debug, Default)]
pub struct Ephemeral;

impl NvStore for Ephemeral {
    fn load(&mut self) -> Result<Option<Vec<u8>>, NvError> {
        Ok(None)
    }

    fn store(&mut self, _state: &[u8]) -> Result<(), NvError> {
        Ok(())
    }
}

/// Why the TPM answers no more commands until it is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The entropy function failed. What the engine made of it is thrown away.
    #[error("the engine asked for entropy and there was none")]
    Entropy,
    /// The permanent state changed and could not be stored.
    #[error("the permanent state could not be stored")]
    Nv,
    /// The engine reached outside its NV memory: it is broken.
    #[error("the engine reached outside its NV memory")]
    NvRange,
    /// The engine could not start from the state it has.
    #[error("the engine could not start from its state")]
    Start,
}

/// The surroundings of the one engine of this process.
pub(crate) struct Host {
    pub(crate) entropy: Entropy,
    pub(crate) clock: Clock,
    pub(crate) store: Box<dyn NvStore>,
    /// The permanent state as the engine last committed it, without envelope.
    pub(crate) permanent: Option<Zeroizing<Vec<u8>>>,
    pub(crate) locality: u8,
    /// Whether the owner can keep what is committed.
    pub(crate) nv_available: bool,
    pub(crate) fault: Option<Fault>,
}

impl Host {
    pub(crate) fn new(
        entropy: Entropy,
        clock: Clock,
        mut store: Box<dyn NvStore>,
    ) -> Result<Self, StateError> {
        let kept = store.load().map_err(|NvError| StateError::Store)?;
        let permanent = match kept.map(Zeroizing::new) {
            Some(kept) => {
                let permanent = state::unwrap(StateKind::Permanent, &kept)?;
                Some(Zeroizing::new(permanent.to_vec()))
            }
            None => None,
        };
        Ok(Self {
            entropy,
            clock,
            store,
            permanent,
            locality: 0,
            nv_available: true,
            fault: None,
        })
    }

    /// Fills `into` or records that there was no entropy. The first fault stays.
    pub(crate) fn draw(&mut self, into: &mut [u8]) -> Result<(), NoEntropy> {
        let result = (self.entropy)(into);
        if result.is_err() {
            into.fill(0);
            self.fail(Fault::Entropy);
        }
        result
    }

    fn committed(&mut self, permanent: Zeroizing<Vec<u8>>, stored: Result<(), NvError>) {
        match stored {
            Ok(()) => self.permanent = Some(permanent),
            Err(NvError) => self.fail(Fault::Nv),
        }
    }

    pub(crate) fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }
}

/// Present while a `Tpm` is open. Only ever locked for the length of one call from the engine or
/// of one assignment by its owner, never across a call into the engine.
static HOST: Mutex<Option<Host>> = Mutex::new(None);

/// Puts the surroundings in place, or with `None` takes them away.
pub(crate) fn set(host: Option<Host>) {
    *HOST.lock() = host;
}

/// Keeps what the engine commits, here and in the store. Made ready and stored without the lock: a command may be left while
/// somebody hashes. `None` when no `Tpm` is open.
pub(crate) fn commit(permanent: &[u8]) -> Option<Result<(), NvError>> {
    let kept = Zeroizing::new(state::wrap(StateKind::Permanent, permanent));
    let permanent = Zeroizing::new(permanent.to_vec());
    let nothing: Box<dyn NvStore> = Box::new(Ephemeral);
    let mut store = with(|host| core::mem::replace(&mut host.store, nothing))?;
    let stored = store.store(&kept);
    with(|host| {
        host.store = store;
        host.committed(permanent, stored);
        stored
    })
}

/// Runs `action` on the surroundings; `None` when no `Tpm` is open.
pub(crate) fn with<T>(action: impl FnOnce(&mut Host) -> T) -> Option<T> {
    HOST.lock().as_mut().map(action)
}
