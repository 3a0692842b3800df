//! Reports and quotes: what was asked for, and what there is to give.

mod quote_body;
mod quotes;

use attestation::tpm::rh;

pub(crate) use quotes::{Asker, Outcome, Quotes};

/// The indices that the pieces of the authority's certificate may take.
pub(crate) const CERTIFICATE_INDICES: core::ops::Range<u32> =
    rh::NV_EK_CHAIN..rh::NV_EK_CHAIN + 0x10;

/// What the certificate of the authority carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endorsement {
    /// The TDREPORT, which only this platform can check.
    Report,
    /// The TD quote.
    Quote,
}

/// The state of all evidence.
pub(crate) struct Evidence {
    pub(crate) quotes: Quotes,
    /// Length of the CC event log when the authority's report was made.
    pub(crate) authority_log: usize,
    /// The certificate of the authority that can be read now.
    pub(crate) published: Option<Endorsement>,
    /// Length of the CC event log when the relying party's last report was made.
    pub(crate) report_log: Option<usize>,
}
