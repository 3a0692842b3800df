//! Reports, quotes and the certificate of the authority: what was asked for, and what there is to give.

mod certificate;
mod quote_body;
mod quotes;
mod report;
mod window;

use alloc::boxed::Box;

use attestation::claims::ca_report_data;
use attestation::report as format;
use attestation::window::{
    NV_REPORT, NV_SELECTOR, NV_USER_DATA, NV_WINDOW, SELECTOR_SIZE, USER_DATA_SIZE, WINDOW_SIZE,
};

use self::certificate::Endorsement;
pub(crate) use self::certificate::INDICES as CERTIFICATE_INDICES;
use self::quotes::{Asker, Quotes};
use crate::identity::Identity;
use crate::log::MeasurementLog;
use crate::provision::{NvAttributes, Provisioner};
use crate::{CommandError, Engine, Error, TrustDomain};

/// The NV indices through which the guest gets evidence, and what they are filled with.
#[derive(Default)]
pub(crate) struct EvidenceWindow {
    quotes: Quotes,
    /// Length of the CC event log when the authority's report was made.
    authority_log: usize,
    /// The certificate of the authority that can be read now.
    published: Option<Endorsement>,
    /// The smallest certificate of which the log says that the indices have no room for it.
    told_too_large: Option<Endorsement>,
    /// Length of the CC event log when the relying party's last report was made.
    report_log: Option<usize>,
}

impl EvidenceWindow {
    /// Provides the indices and makes the report for the authority's certificate. The quote for it is asked for and
    /// not waited for.
    pub(crate) fn open<E: Engine>(
        &mut self,
        identity: &Identity,
        log: &MeasurementLog,
        tpm: &mut Provisioner<E>,
        trust_domain: &mut impl TrustDomain,
    ) -> Result<(), Error> {
        provide_indices(tpm)?;
        let data = ca_report_data(identity.authority.public_key());
        let report: Box<[u8; 1024]> = trust_domain.report(&data)?;
        self.quotes.ask(Asker::Authority, report, trust_domain);
        self.authority_log = log.bytes().len();
        Ok(())
    }
}

fn provide_indices<E: Engine>(tpm: &mut Provisioner<E>) -> Result<(), CommandError> {
    for (index, attributes, size) in [
        (NV_REPORT, NvAttributes::PUBLIC, format::NV_SIZE),
        (NV_USER_DATA, NvAttributes::MAILBOX, USER_DATA_SIZE),
        (NV_SELECTOR, NvAttributes::MAILBOX, SELECTOR_SIZE),
        (NV_WINDOW, NvAttributes::PUBLIC, WINDOW_SIZE),
    ] {
        let size = u16::try_from(size).unwrap_or(u16::MAX);
        tpm.nv_provide(index, attributes, size)?;
    }
    Ok(())
}
