//! TPM_ACCESS_x: how a locality asks for the TPM and sees who has it.

use super::bits::Access;
use crate::Locality;
use crate::ptp::localities::{Arbitration, Asked, Change};

/// ACCESS as `locality` reads it.
pub(super) fn read(arbitration: &Arbitration, locality: Locality, established: bool) -> Access {
    Access::new()
        .with_tpm_reg_valid_sts(true)
        .with_active_locality(arbitration.active() == Some(locality))
        .with_been_seized(arbitration.was_seized(locality))
        .with_pending_request(arbitration.is_wanted_by_others(locality))
        .with_request_use(arbitration.waits(locality))
        .with_tpm_establishment(!established)
}

/// `locality` writes to its ACCESS.
pub(super) fn write(
    arbitration: &mut Arbitration,
    locality: Locality,
    access: Access,
) -> Option<Change> {
    if access.been_seized() {
        arbitration.forget_seizure(locality);
    }
    let asked = Asked {
        relinquish: access.active_locality(),
        seize: access.seize(),
        request: access.request_use(),
    };
    arbitration.ask(locality, asked)
}
