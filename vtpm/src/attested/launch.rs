//! The measured launch of L2, and what a reset repeats of it.

use alloc::vec::Vec;
use attestation::digest::Digest;
use attestation::journal::{PcrMirror, Record, StartupType};
use attestation::tpm::{rh, template};

use super::Attested;
use crate::provision::{AUTHORIZATION, Provisioner};
use crate::{Engine, Error, Failure, TrustDomain};

/// TPM2_Startup(CLEAR), and a platform hierarchy that is nobody's but L1's.
pub(super) fn power_up<E: Engine, T: TrustDomain>(
    provisioner: &mut Provisioner<E>,
    trust_domain: &mut T,
) -> Result<(), Error> {
    provisioner.startup()?;
    let mut authorization = [0; AUTHORIZATION];
    trust_domain.random(&mut authorization)?;
    provisioner.close(authorization)?;
    Ok(())
}

impl<E: Engine, T: TrustDomain> Attested<E, T> {
    /// After _TPM_Init.
    pub(super) fn restart(&mut self) -> Result<(), Failure> {
        self.recorder.record(&Record::Reset)?;
        self.start_again()
            .map_err(|error| error.into_failure(Failure::Restart))?;
        // The owner may have evicted it; firmware brings it back.
        self.lose_ak();
        self.restore_ak();
        self.forget_commits();
        Ok(())
    }

    fn start_again(&mut self) -> Result<(), Error> {
        power_up(&mut self.provisioner, &mut self.recorder.trust_domain)?;
        self.recorder.record(&Record::Startup(StartupType::Clear))?;
        self.measure_launch()
    }

    /// After TPM2_Startup(CLEAR): extends PCRs with what was launched.
    pub(super) fn measure_launch(&mut self) -> Result<(), Error> {
        for (pcr, measurement) in &self.launch {
            let digests: Vec<Digest> = self
                .banks
                .iter()
                .map(|bank| measurement.digests.get(*bank))
                .collect();
            self.provisioner.extend(*pcr, &digests)?;
            self.recorder.pcrs_changed();
            if self.recorder.mirror() == PcrMirror::Full {
                self.recorder.pcr_extended(*pcr, &digests)?;
            }
        }
        Ok(())
    }

    /// Puts the AK back to its handle if the guest has taken it away. Needs a free transient slot
    /// and empty authorizations of owner and endorsement, which TPM2_Clear leaves; where it has not
    /// got them it is tried again with the next report.
    pub(super) fn restore_ak(&mut self) {
        let Some(identity) = self.identity.as_mut().filter(|identity| identity.ak_lost) else {
            return;
        };
        if self.provisioner.read_public(rh::AK).is_ok() {
            identity.ak_lost = false;
            return;
        }
        let Ok(key) = self
            .provisioner
            .create_endorsement(&template::ak_rsa_2048())
        else {
            return;
        };
        if key.public == identity.ak && self.provisioner.persist(&key, rh::AK).is_ok() {
            identity.ak_lost = false;
        }
        let _ = self.provisioner.flush(key);
        self.forget_commits();
    }

    /// The AK may be gone from its handle.
    pub(super) fn lose_ak(&mut self) {
        if let Some(identity) = &mut self.identity {
            identity.ak_lost = true;
        }
    }
}
