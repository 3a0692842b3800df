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
use crate::key::{KeyRing, MachineId, Ring};
use crate::layout::Sha;
use crate::ledger::{self, Grant, Ledger, LedgerError, Point, Rollback};
use crate::record::{RecordError, State, name};
use crate::seal::Sealed;
use alloc::string::ToString;
use contents::{Choice, Chosen, Contents};
use core::fmt;
use label::OurLabel;

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
    ring: &KeyRing,
    machine: MachineId,
    nv_size: u32,
    rollback: Rollback,
) -> Result<Opened<D, L>, OpenError> {
    let ring = Ring::new(ring, machine);
    let decided = match decide(&mut device, &mut ledger, &ring, machine, nv_size, rollback) {
        Ok(decided) => decided,
        Err(error) => {
            tell(&mut ledger, rollback, &error);
            return Err(error);
        }
    };
    let found = Found {
        label: decided.label,
        rollback,
        machine,
        nv_size,
        former: decided.former,
    };
    let store = Store::new(device, ledger, ring, found, decided.epoch);
    Ok(match decided.state {
        Decided::Nothing => Opened::Fresh(store),
        Decided::First(state, point) => Opened::Unacknowledged {
            store: store.ahead(),
            state,
            point,
        },
        Decided::Stored {
            chosen,
            digest,
            recorded,
            state,
            ahead,
        } => {
            let store = store.after((chosen, digest), recorded);
            match ahead {
                Some(point) => Opened::Unacknowledged {
                    store: store.ahead(),
                    state,
                    point,
                },
                None => Opened::Stored {
                    store,
                    state,
                    point: chosen,
                },
            }
        }
    })
}

/// Tells the ledger why its state was refused, unless it was the ledger that did.
fn tell<L: Ledger>(ledger: &mut L, rollback: Rollback, error: &OpenError) {
    match (rollback, error) {
        (Rollback::None, _) | (_, OpenError::LedgerUnreachable | OpenError::Refused { .. }) => {}
        _ => ledger.note(error.name(), &error.to_string()),
    }
}

/// What is opened, and as what.
struct Decision {
    label: Labelled,
    epoch: u64,
    /// Slots that are sealed with another key than that of now.
    former: usize,
    state: Decided,
}

enum Decided {
    /// There is no state.
    Nothing,
    /// The first state, which the ledger has not acknowledged.
    First(State, Point),
    Stored {
        /// The commit that counts.
        chosen: Point,
        /// The keyed digest of its state.
        digest: Sha,
        recorded: Option<Point>,
        /// What is opened.
        state: State,
        /// Of which commit it is, if that was not acknowledged.
        ahead: Option<Point>,
    },
}

/// Looks at the disk, takes the lease, and reads what counts.
fn decide<D: Device, L: Ledger>(
    device: &mut D,
    ledger: &mut L,
    ring: &Ring,
    machine: MachineId,
    nv_size: u32,
    rollback: Rollback,
) -> Result<Decision, OpenError> {
    let (label, known_key) = match label::read(device, machine, ring)? {
        OurLabel::There { known_key } => (Labelled::Yes, known_key),
        OurLabel::NotYet => (Labelled::NotYet, true),
    };
    let mut contents = || match label {
        Labelled::Yes => {
            let contents = Contents::read(device, machine, ring)?;
            // Nobody is asked for what cannot be opened, and no epoch ends for it.
            match !known_key && contents.of_another_key() {
                true => Err(OpenError::OtherKey),
                false => Ok(Some(contents)),
            }
        }
        Labelled::NotYet => Ok(None),
    };
    let grant = match rollback {
        Rollback::None => None,
        Rollback::Ledger | Rollback::Lazy => {
            let before = contents()?;
            Some(lease(ledger, before.as_ref())?)
        }
    };
    // From here on no older epoch can commit.
    let contents = contents()?;
    let last_epoch = contents.as_ref().and_then(Contents::newest_epoch);
    let former = contents.as_ref().map_or(0, Contents::of_former_keys);
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
    let state = match choice {
        Choice::Nothing => Decided::Nothing,
        Choice::First(sealed) if rollback == Rollback::Lazy => {
            Decided::First(state(&sealed, nv_size)?, sealed.point)
        }
        Choice::First(_) => Decided::Nothing,
        Choice::Chosen(chosen) => {
            let Chosen {
                sealed,
                recorded,
                ahead,
            } = *chosen;
            let ahead = ahead.filter(|_| rollback == Rollback::Lazy);
            let opened = ahead.as_ref().unwrap_or(&sealed);
            Decided::Stored {
                chosen: sealed.point,
                digest: sealed.state_digest,
                recorded,
                state: state(opened, nv_size)?,
                ahead: ahead.map(|sealed| sealed.point),
            }
        }
    };
    Ok(Decision {
        label,
        epoch,
        former,
        state,
    })
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
