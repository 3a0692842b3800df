//! Opening a state: which slot counts, or why none does.
//!
//! With a ledger it names the commit that counts. It is told what the disk holds before it begins a new epoch, so that
//! it can refuse without ending the epoch of the machine that has the state; what counts is read again afterwards,
//! when no older epoch can commit any more. Without a ledger the newest commit record says what counts; the record is
//! written after its slot was flushed, so that one that is torn tells that its slot is whole.

mod contents;
mod error;
mod label;

pub use error::{OpenError, Seen, SeenCommit};

use crate::commit::{Found, Labelled, Store};
use crate::device::Device;
use crate::key::{Keys, MachineId, StateKey};
use crate::ledger::{self, Grant, Ledger, LedgerError, Point, Rollback};
use crate::record::{RecordError, State, name};
use crate::seal::Sealed;
use contents::{Choice, Contents};
use core::fmt;

/// A state that was opened, or the place for a first one.
pub enum Opened<D, L> {
    /// There is a state.
    Stored {
        /// Where the next ones go.
        store: Store<D, L>,
        /// The state.
        state: State,
        /// Which commit it is.
        point: Point,
    },
    /// There is one that the ledger has not acknowledged ([`Rollback::Lazy`]): it is newer than the one that the
    /// ledger knows, if it knows one. **It has to be committed before anything else happens**; that commit waits for
    /// its acknowledgement.
    Unacknowledged {
        /// Where it goes, and the next ones.
        store: Store<D, L>,
        /// The state.
        state: State,
        /// Which commit it is.
        point: Point,
    },
    /// Nothing was committed yet, neither by the disk nor by the ledger.
    Fresh(Store<D, L>),
}

impl<D, L> fmt::Debug for Opened<D, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, store, state) = match self {
            Self::Stored { store, state, .. } => ("Stored", store, Some(state)),
            Self::Unacknowledged { store, state, .. } => ("Unacknowledged", store, Some(state)),
            Self::Fresh(store) => ("Fresh", store, None),
        };
        f.debug_tuple(name).field(store).field(&state).finish()
    }
}

/// Opens the state of `machine` whose engine has `nv_size` bytes of NV memory.
///
/// # Errors
/// See [`OpenError`]. Nothing was written. A new epoch may have begun, unless it is [`OpenError::Refused`] or names
/// the disk or its label.
pub fn open<D: Device, L: Ledger>(
    mut device: D,
    mut ledger: L,
    key: &StateKey,
    machine: MachineId,
    nv_size: u32,
    rollback: Rollback,
) -> Result<Opened<D, L>, OpenError> {
    let keys = Keys::new(key, machine);
    let label = label::read(&mut device, machine, &keys)?;
    let mut contents = || match label {
        Labelled::Yes => Contents::read(&mut device, machine, &keys).map(Some),
        Labelled::NotYet => Ok(None),
    };
    let grant = match rollback {
        Rollback::None => None,
        Rollback::Ledger | Rollback::Lazy => {
            let before = contents()?;
            Some(lease(&mut ledger, before.as_ref())?)
        }
    };
    // From here on no older epoch can commit.
    let contents = contents()?;
    let last_epoch = contents.as_ref().and_then(Contents::newest_epoch);
    let choice = match (contents, grant) {
        (Some(contents), Some(grant)) => contents.of_ledger(grant)?,
        (Some(contents), None) => contents.of_commit_records()?,
        (None, Some(Grant { latest, .. })) => match latest {
            Some(Point { counter, .. }) => {
                return Err(OpenError::OlderDisk {
                    disk: None,
                    ledger: counter,
                });
            }
            None => Choice::Nothing,
        },
        (None, None) => Choice::Nothing,
    };
    let epoch = match grant {
        Some(grant) => grant.epoch,
        None => last_epoch
            .unwrap_or(0)
            .checked_add(1)
            .ok_or(OpenError::EpochsEnd)?,
    };
    let found = Found {
        label,
        rollback,
        machine,
        nv_size,
    };
    let store = Store::new(device, ledger, keys, found, epoch);
    let chosen = match choice {
        Choice::Nothing => return Ok(Opened::Fresh(store)),
        Choice::First(sealed) => {
            return match rollback {
                Rollback::Lazy => ahead(store, &sealed, nv_size),
                Rollback::Ledger | Rollback::None => Ok(Opened::Fresh(store)),
            };
        }
        Choice::Chosen(chosen) => chosen,
    };
    let point = chosen.sealed.point;
    let store = store.after((point, chosen.sealed.state_digest), chosen.recorded);
    match (rollback, chosen.ahead) {
        (Rollback::Lazy, Some(sealed)) => ahead(store, &sealed, nv_size),
        _ => Ok(Opened::Stored {
            store,
            state: state(&chosen.sealed, nv_size)?,
            point,
        }),
    }
}

/// A new epoch of the ledger's, for a disk with these contents, or a blank one.
fn lease<L: Ledger>(ledger: &mut L, disk: Option<&Contents>) -> Result<Grant, OpenError> {
    let whole = disk.map_or([None; 2], Contents::whole);
    ledger::again(|| ledger.open(whole)).map_err(|why| match why {
        LedgerError::Unreachable => OpenError::LedgerUnreachable,
        LedgerError::Refused(refusal) => OpenError::Refused {
            refusal,
            disk: disk.map_or(Seen::BLANK, Contents::seen),
        },
    })
}

/// A state that was not acknowledged.
fn ahead<D: Device, L: Ledger>(
    store: Store<D, L>,
    sealed: &Sealed,
    nv_size: u32,
) -> Result<Opened<D, L>, OpenError> {
    Ok(Opened::Unacknowledged {
        store: store.ahead(),
        state: state(sealed, nv_size)?,
        point: sealed.point,
    })
}

/// The state in a slot, if it is of such an engine.
fn state(sealed: &Sealed, nv_size: u32) -> Result<State, OpenError> {
    let stored = sealed.nv_size;
    if stored != nv_size {
        let engine = nv_size;
        return Err(OpenError::OtherNvSize { stored, engine });
    }
    let state = State::decode(&sealed.records)?;
    if state.nv_size != stored {
        let name = name::NV_SIZE;
        return Err(RecordError::Malformed { name }.into());
    }
    Ok(state)
}
