//! Shares of the verifications: one machine's host cannot keep the broker busy for the others.
//!
//! A host that has its machine's init-data can begin sessions without end, and each may have evidence looked at that no
//! platform signed or that no policy takes. An honest machine shows evidence once a start.

use broker_protocol::MachineId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Verifications of one machine's evidence at a time, those that wait for a processor among them: two starts.
const MOST: u32 = 2;

/// How many verifications of each machine are under way.
#[derive(Default)]
pub(super) struct Shares(Mutex<BTreeMap<[u8; 32], u32>>);

/// One verification; over when dropped.
pub(super) struct Share {
    shares: Arc<Shares>,
    machine: MachineId,
}

impl Shares {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<[u8; 32], u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more verification of this machine's evidence, if it has not too many.
    pub(super) fn take(self: &Arc<Self>, machine: MachineId) -> Option<Share> {
        let mut counts = self.counts();
        let count = counts.entry(machine.0).or_default();
        if *count >= MOST {
            return None;
        }
        *count += 1;
        Some(Share {
            shares: Arc::clone(self),
            machine,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.shares.counts();
        if let Some(count) = counts.get_mut(&self.machine.0) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.machine.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_two_and_takes_none_of_anothers() {
        let shares = Arc::new(Shares::default());
        let [one, two] = [1, 2].map(|id| MachineId([id; 32]));
        let (first, second) = (shares.take(one).unwrap(), shares.take(one).unwrap());
        assert!(shares.take(one).is_none());
        let other = shares.take(two).unwrap();
        drop(first);
        let third = shares.take(one).unwrap();
        assert!(shares.take(one).is_none());
        drop((second, third, other));
        assert!(shares.counts().is_empty());
    }
}
