//! Which locality owns the TPM (PTP 1.05, section "Locality"), whatever register it asked by.

use crate::Locality;

/// One locality's side of it.
#[derive(Clone, Copy, Debug, Default)]
struct Claim {
    request_use: bool,
    been_seized: bool,
}

/// What a locality asks for in one access. Each of them acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) relinquish: bool,
    pub(super) seize: bool,
    pub(super) request: bool,
}

/// Who owned the TPM before a change and who owns it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) from: Option<Locality>,
    pub(super) to: Option<Locality>,
    /// The former owner did not give it up.
    pub(super) seized: bool,
}

/// The owner of the TPM and those who want to be.
#[derive(Debug, Default)]
pub(super) struct Arbitration {
    active: Option<Locality>,
    claims: [Claim; 5],
}

impl Arbitration {
    pub(super) const fn active(&self) -> Option<Locality> {
        self.active
    }

    /// Whether `locality` has asked for the TPM and not got it yet.
    pub(super) fn waits(&self, locality: Locality) -> bool {
        self.claim(locality).request_use
    }

    /// Whether another than `locality` has asked for the TPM and not got it yet.
    pub(super) fn is_wanted_by_others(&self, locality: Locality) -> bool {
        let mut others = Locality::ALL.into_iter().filter(|other| *other != locality);
        others.any(|other| self.waits(other))
    }

    /// Whether the TPM was taken from `locality`.
    pub(super) fn was_seized(&self, locality: Locality) -> bool {
        self.claim(locality).been_seized
    }

    /// `locality` knows that the TPM was taken from it.
    pub(super) fn forget_seizure(&mut self, locality: Locality) {
        self.claim_mut(locality, |claim| claim.been_seized = false);
    }

    /// `locality` asks. A seizure makes the others count for nothing, even when it fails.
    pub(super) fn ask(&mut self, locality: Locality, asked: Asked) -> Option<Change> {
        if asked.seize {
            return self.seize(locality);
        }
        let given_up = match asked.relinquish {
            true => self.relinquish(locality),
            false => None,
        };
        let granted = match asked.request {
            true => self.request(locality),
            false => None,
        };
        match (given_up, granted) {
            // It gave the TPM up, and has it again: as in two accesses.
            (Some(Change { from, .. }), Some(granted)) => Some(Change { from, ..granted }),
            (given_up, granted) => granted.or(given_up),
        }
    }

    /// `locality` asks for the TPM: it gets it if it is free, and waits otherwise.
    fn request(&mut self, locality: Locality) -> Option<Change> {
        match self.active {
            None => Some(self.give(Some(locality), false)),
            Some(active) if active == locality => None,
            Some(_) => {
                self.claim_mut(locality, |claim| claim.request_use = true);
                None
            }
        }
    }

    /// `locality` gives the TPM up, or no longer waits for it. The highest of those who wait is next.
    fn relinquish(&mut self, locality: Locality) -> Option<Change> {
        if self.active != Some(locality) {
            self.claim_mut(locality, |claim| claim.request_use = false);
            return None;
        }
        let next = Locality::ALL
            .into_iter()
            .rev()
            .find(|waiting| self.waits(*waiting));
        Some(self.give(next, false))
    }

    /// `locality` takes the TPM, if a lower one has it or none.
    fn seize(&mut self, locality: Locality) -> Option<Change> {
        match self.active {
            None => Some(self.give(Some(locality), false)),
            Some(active) if locality > active => {
                self.claim_mut(active, |claim| claim.been_seized = true);
                Some(self.give(Some(locality), true))
            }
            Some(_) => None,
        }
    }

    /// Gives the TPM to `locality` whoever has it, or to nobody.
    fn give(&mut self, locality: Option<Locality>, seized: bool) -> Change {
        let change = Change {
            from: self.active,
            to: locality,
            seized,
        };
        self.active = locality;
        if let Some(locality) = locality {
            self.claim_mut(locality, |claim| claim.request_use = false);
        }
        change
    }

    fn claim(&self, locality: Locality) -> Claim {
        self.claims
            .get(usize::from(locality.number()))
            .copied()
            .unwrap_or_default()
    }

    fn claim_mut(&mut self, locality: Locality, change: impl FnOnce(&mut Claim)) {
        if let Some(claim) = self.claims.get_mut(usize::from(locality.number())) {
            change(claim);
        }
    }
}
