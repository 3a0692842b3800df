//! What a relying party is told of how the state was unlocked.

use super::HardwareTcb;
use super::ring::Sealed;
use alloc::string::String;
use attestation::digest::Algorithm;
use attestation::journal::{self, KeyHalves, Unlock};
use init_data::{KeySource, PersistentState, Rollback};
use state_store::Opened;

/// What unlocked the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What the journal has of it.
    pub journal: Unlock,
    /// The broker's policy that this TD passed, as the broker names it.
    pub policy: Option<String>,
    /// The TCB that the hardware's half is of from the next commit on, if it has a part in the key.
    pub tcb: Option<HardwareTcb>,
}

impl Facts {
    pub(super) fn new<D: state_store::Device, L: state_store::Ledger>(
        state: &PersistentState,
        policy: Option<String>,
        sealed: Sealed,
        opened: &Opened<D, L>,
    ) -> Self {
        let (Opened::Stored { store, .. }
        | Opened::Unacknowledged { store, .. }
        | Opened::Fresh(store)) = opened;
        let point = match opened {
            Opened::Stored { point, .. } | Opened::Unacknowledged { point, .. } => point.counter,
            Opened::Fresh(_) => 0,
        };
        let broker = state.key.broker().map(|broker| {
            let mut hash = [0; 32];
            let digest = Algorithm::Sha256.digest(&broker.key);
            for (to, from) in hash.iter_mut().zip(digest.bytes()) {
                *to = *from;
            }
            hash
        });
        let journal = Unlock {
            machine: state.machine.0,
            broker,
            key: match (&state.key, sealed) {
                (KeySource::Broker(_), _) => KeyHalves::Broker,
                (KeySource::Hardware, _) => KeyHalves::Hardware,
                (KeySource::Both(_), Sealed::Carried) => KeyHalves::Carried,
                (KeySource::Both(_), _) => KeyHalves::Both,
            },
            rollback: match state.rollback {
                Rollback::Ledger => journal::Rollback::Ledger,
                Rollback::Lazy => journal::Rollback::Lazy,
                Rollback::None => journal::Rollback::None,
            },
            epoch: store.epoch(),
            counter: point,
        };
        Self {
            journal,
            policy,
            tcb: match sealed {
                Sealed::Hardware(tcb) => Some(tcb),
                Sealed::Broker | Sealed::Carried => None,
            },
        }
    }
}
