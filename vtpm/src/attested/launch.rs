//! The measured launch of L2, and what a reset repeats of it.

use attestation::launch::Measurement;
use attestation::pcr::PcrBanks;

use crate::journal::Journal;
use crate::provision::{AUTHORIZATION, Provisioner};
use crate::{CommandError, Engine, Error, TrustDomain};

/// TPM2_Startup(CLEAR) with these banks, and a platform hierarchy that is nobody's but L1's.
///
/// Banks are the platform's to choose (TPM2_PCR_Allocate), and a choice takes effect with the next _TPM_Init.
pub(super) fn power_up<E: Engine>(
    tpm: &mut Provisioner<E>,
    trust_domain: &mut impl TrustDomain,
    banks: PcrBanks,
) -> Result<(), Error> {
    tpm.startup()?;
    if tpm.allocated_banks()? != Some(banks) {
        tpm.allocate_banks(banks)?;
        tpm.reset().map_err(CommandError::from)?;
        tpm.startup()?;
        if tpm.allocated_banks()? != Some(banks) {
            return Err(Error::Banks);
        }
    }
    let mut authorization = [0; AUTHORIZATION];
    trust_domain.random(&mut authorization)?;
    tpm.close(authorization)?;
    Ok(())
}

/// After TPM2_Startup(CLEAR): extends PCRs with what was launched.
pub(super) fn measure<E: Engine>(
    launch: &[(u8, Measurement)],
    journal: &mut Journal,
    tpm: &mut Provisioner<E>,
    trust_domain: &mut impl TrustDomain,
) -> Result<(), Error> {
    for (pcr, measurement) in launch {
        let digests = measurement.digests.of_banks(journal.banks().iter());
        let digests = digests.ok_or(Error::Banks)?;
        tpm.extend(*pcr, &digests)?;
        journal.measured(*pcr, &digests, trust_domain)?;
    }
    Ok(())
}
