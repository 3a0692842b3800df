//! The keys that the state on the disk may be sealed with, and the one that it is sealed with from now on.
//!
//! The hardware's half is of this L1 and of a TCB. A state that was sealed before an update of the platform is opened with
//! the half of the TCB of then, which its slot names, and sealed with that of now at the next commit. A half of another L1
//! is not to be had: while L1 is updated the broker gives another secret in its place, to the L1 that gives the state away
//! and to the one that takes it.

use super::key::{self, Halves, Other};
use super::{HardwareTcb, Sealing, SealingError, UnlockError};
use alloc::vec::Vec;
use broker_protocol::release::{CarrySeal, Release};
use state_store::{Device, KeyRing, MachineId, OpenError, SealingKey, StateKey, Tcb, key_record};
use tdcall::leaf::KeyGetError;

/// What a state's key is made of from now on, beside the broker's half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sealed {
    /// Nothing.
    Broker,
    /// The hardware's half of this TCB.
    Hardware(HardwareTcb),
    /// What the broker gives in its place.
    Carried,
}

/// What the keys of a machine's state follow from.
pub(super) struct KeysOf<'a> {
    pub(super) machine: MachineId,
    pub(super) uses_hardware: bool,
    pub(super) released: Option<&'a Release>,
}

impl KeysOf<'_> {
    /// The keys for what is on the disk.
    pub(super) fn ring<T: Sealing, D: Device>(
        &self,
        td: &mut T,
        disk: &mut D,
    ) -> Result<(KeyRing, Sealed), UnlockError> {
        if !self.uses_hardware {
            return Ok((self.key(Other::None)?.into(), Sealed::Broker));
        }
        let now = td.tcb()?;
        let own = self.of_tcb(td, &now)?;
        let mut former = Vec::new();
        let sealed_to = key_record::sealed_to(disk, self.machine).map_err(OpenError::from)?;
        for tcb in sealed_to.into_iter().map(HardwareTcb::from) {
            if tcb != now {
                log::info!(
                    target: "state",
                    "the state is sealed to another TCB than the platform has now ({tcb}): the next commit seals it to {now}"
                );
                former.push(self.of_tcb(td, &tcb)?);
            }
        }
        let carry = self.released.and_then(|release| release.carry.as_ref());
        let (key, tcb, sealed) = match carry {
            None => (own, now.into(), Sealed::Hardware(now)),
            Some(carry) => {
                let carried = self.key(Other::Carried(&carry.key.0))?;
                match carry.seal {
                    CarrySeal::Own => {
                        log::info!(target: "state", "an update of L1: this is the one that takes the state");
                        former.push(carried);
                        (own, now.into(), Sealed::Hardware(now))
                    }
                    CarrySeal::Carry => {
                        log::warn!(
                            target: "state",
                            "an update of L1: the state is sealed with the broker's keys alone until the new one has it"
                        );
                        former.push(own);
                        (carried, Tcb::NONE, Sealed::Carried)
                    }
                }
            }
        };
        let current = SealingKey { key, tcb };
        Ok((KeyRing { current, former }, sealed))
    }

    /// The key with the hardware's half of this TCB.
    fn of_tcb<T: Sealing>(&self, td: &mut T, tcb: &HardwareTcb) -> Result<StateKey, UnlockError> {
        let half = td.sealing_key(tcb, &key::salt(&self.machine));
        let half = half.map_err(|error| match error {
            SealingError::Module(KeyGetError::Svn) => UnlockError::NewerTcb(*tcb),
            error => error.into(),
        })?;
        self.key(Other::Hardware(&half))
    }

    fn key(&self, other: Other<'_>) -> Result<StateKey, UnlockError> {
        let halves = Halves {
            broker: self.released.map(|release| &release.key.0),
            other,
        };
        key::state_key(&self.machine, &halves).ok_or(UnlockError::NoHalf)
    }
}
