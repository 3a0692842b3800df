//! The certificate of the authority, which changes when its quote comes.

use alloc::vec::Vec;

use attestation::tpm::rh;

use super::EvidenceWindow;
use super::quotes::{Asker, Outcome};
use crate::identity::CertificateAuthority;
use crate::log::MeasurementLog;
use crate::provision::Provisioner;
use crate::request::Touches;
use crate::{CommandError, Engine, TrustDomain};

/// The indices that the certificate's pieces may take.
pub(crate) const INDICES: core::ops::Range<u32> = rh::NV_EK_CHAIN..rh::NV_EK_CHAIN + 0x10;

/// Bytes of a piece: MAX_NV_INDEX_SIZE of the reference code.
const PIECE: usize = 2048;

/// What the certificate carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endorsement {
    /// The TDREPORT, which only this platform can check.
    Report,
    /// The TD quote.
    Quote,
}

impl EvidenceWindow {
    /// Whether a command that touches this is to find the best certificate that there is.
    pub(crate) fn wants_certificate(&self, touches: Touches) -> bool {
        touches.contains(Touches::CERTIFICATE_FIRST)
            || touches.contains(Touches::CERTIFICATE_PIECE) && self.published.is_none()
    }

    /// Puts the certificate into its indices, unless what is there is the best that there is. When it
    /// does not succeed it will be tried again.
    pub(crate) fn publish_certificate<E: Engine>(
        &mut self,
        authority: &CertificateAuthority,
        log: &MeasurementLog,
        tpm: &mut Provisioner<E>,
        trust_domain: &mut impl TrustDomain,
    ) {
        self.quotes.poll(trust_domain);
        let Some((endorsement, certificate)) = self.best_certificate(authority, log) else {
            return;
        };
        self.published = None;
        if put_pieces(&certificate, tpm).is_ok() {
            self.published = Some(endorsement);
        }
    }

    /// The certificate with the quote, or else with the report; `None` if that is published already.
    /// A host may answer with a quote that is too long for the indices.
    fn best_certificate(
        &self,
        authority: &CertificateAuthority,
        log: &MeasurementLog,
    ) -> Option<(Endorsement, Vec<u8>)> {
        let quote = match self.quotes.outcome(Asker::Authority) {
            Some(Outcome::Quote(quote)) => Some((Endorsement::Quote, quote.as_slice())),
            _ => None,
        };
        let report = self.quotes.report(Asker::Authority);
        let report = report.map(|report| (Endorsement::Report, report.as_slice()));
        let log = log.bytes();
        let log = log.get(..self.authority_log).unwrap_or(log);
        for (endorsement, evidence) in [quote, report].into_iter().flatten() {
            if self.published == Some(endorsement) {
                return None;
            }
            let certificate = authority.certificate(evidence, log).ok()?;
            if certificate.len() <= PIECE * INDICES.len() {
                return Some((endorsement, certificate));
            }
        }
        None
    }
}

fn put_pieces<E: Engine>(certificate: &[u8], tpm: &mut Provisioner<E>) -> Result<(), CommandError> {
    let mut indices = INDICES;
    for (piece, index) in certificate.chunks(PIECE).zip(&mut indices) {
        tpm.nv_put_for_good(index, piece)?;
    }
    // What is left of a longer one.
    for index in indices {
        if !tpm.nv_remove(index)? {
            break;
        }
    }
    Ok(())
}
