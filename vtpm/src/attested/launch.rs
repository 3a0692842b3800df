//! The measured launch of L2, and what a reset repeats of it.

use alloc::vec::Vec;

use attestation::digest::Digest;
use attestation::launch::Measurement;

use crate::journal::Journal;
use crate::provision::{AUTHORIZATION, Provisioner};
use crate::{Engine, Error, TrustDomain};

/// TPM2_Startup(CLEAR), and a platform hierarchy that is nobody's but L1's.
pub(super) fn power_up<E: Engine>(
    tpm: &mut Provisioner<E>,
    trust_domain: &mut impl TrustDomain,
) -> Result<(), Error> {
    tpm.startup()?;
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
        let banks = journal.banks().iter();
        let digests: Vec<Digest> = banks.map(|bank| measurement.digests.get(*bank)).collect();
        tpm.extend(*pcr, &digests)?;
        journal.measured(*pcr, &digests, trust_domain)?;
    }
    Ok(())
}
