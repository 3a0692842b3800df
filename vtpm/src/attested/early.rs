//! What is made before it is needed: the keys of the identity, and the identity, while nobody waits for the TPM.

use super::Attested;
use super::failure::Service;
use crate::identity::{Left, log_time};
use crate::state::NotKept;
use crate::{CommandError, Engine, Failure, TrustDomain, Work};

impl<E: Engine, T: TrustDomain> Attested<E, T> {
    /// Whether there is something of that.
    pub(super) fn early_work(&self) -> Work {
        let waits = self.identity.is_none() && self.makes_early;
        match waits && self.service == Service::Running {
            true => Work::Own,
            false => Work::None,
        }
    }

    /// Makes the keys, unless that is done. Nothing of them is seen: the next who comes goes on with it where this gives up.
    pub(super) fn make_keys(&mut self) -> Result<(), CommandError> {
        if self.identity.is_some() {
            return Ok(());
        }
        let begin = self.trust_domain.now();
        let (keys, tpm) = (&mut self.keys, &mut self.tpm);
        self.cancel.heeded(|| {
            while keys.make_next(tpm)? == Left::Some {}
            keys.make_ak(tpm)
        })?;
        log_time("keys", "make its keys", begin, &self.trust_domain);
        Ok(())
    }

    /// Makes a key before it is needed, and when all are made what belongs to them. Nobody can tell: what shows a key, or
    /// could stand in the way of one, has all of it made first ([`prepare`](Self::prepare)).
    pub(super) fn make_early(&mut self) {
        let (keys, tpm) = (&mut self.keys, &mut self.tpm);
        let made = self.cancel.heeded(|| match keys.make_next(tpm)? {
            Left::Some => Ok(Left::Some),
            Left::None => keys.make_ak(tpm).map(|()| Left::None),
        });
        match made {
            Ok(Left::Some) => return,
            Ok(Left::None) => {}
            // A command of the guest's came: later.
            Err(error) if error.is_canceled() => return,
            Err(error) => {
                log::warn!("a key of the TPM was not made before it is needed: {error}");
                self.makes_early = false;
                return;
            }
        }
        let all_kept = self.all_kept();
        if let Err(failure) = self.identified().map(drop) {
            self.fail(failure);
            return;
        }
        // As with the command that would have had it made.
        if all_kept && let Err(error) = self.keep() {
            match error {
                NotKept::Never(why) => self.fail(Failure::State(why)),
                NotKept::Unavailable(why) => log::warn!("the TPM's state was not kept: {why}"),
            }
        }
    }
}
