//! Which locality owns the TPM (PTP 1.05, "TPM_ACCESS_x").

use crate::Locality;

use super::fifo::bits::Access;

/// One locality's side of it.
#[derive(Clone, Copy, Debug, Default)]
struct Claim {
    request_use: bool,
    been_seized: bool,
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

    /// ACCESS as `locality` reads it.
    pub(super) fn access(&self, locality: Locality, established: bool) -> Access {
        let pending = Locality::ALL
            .into_iter()
            .any(|other| other != locality && self.claim(other).request_use);
        let claim = self.claim(locality);
        Access::new()
            .with_tpm_reg_valid_sts(true)
            .with_active_locality(self.active == Some(locality))
            .with_been_seized(claim.been_seized)
            .with_pending_request(pending)
            .with_request_use(claim.request_use)
            .with_tpm_establishment(!established)
    }

    /// `locality` writes to its ACCESS. Each bit acts; a seizure makes the bits that would give up
    /// or ask for the TPM count for nothing, even when it fails.
    pub(super) fn write(&mut self, locality: Locality, access: Access) -> Option<Change> {
        let mut change = None;
        if access.active_locality() && !access.seize() {
            change = self.relinquish(locality);
        }
        if access.been_seized() {
            self.claim_mut(locality, |claim| claim.been_seized = false);
        }
        if access.seize() {
            change = self.seize(locality);
        } else if access.request_use() {
            change = self.request(locality).or(change);
        }
        change
    }

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

    /// The highest of those who wait is next.
    fn relinquish(&mut self, locality: Locality) -> Option<Change> {
        if self.active != Some(locality) {
            self.claim_mut(locality, |claim| claim.request_use = false);
            return None;
        }
        let next = Locality::ALL
            .into_iter()
            .rev()
            .find(|waiting| self.claim(*waiting).request_use);
        Some(self.give(next, false))
    }

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
