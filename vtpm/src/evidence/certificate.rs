//! The certificate of the authority, which changes when its quote comes.

use alloc::vec::Vec;
use core::fmt;

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

/// Bytes of a certificate at most.
const LARGEST: usize = PIECE * (INDICES.end - INDICES.start) as usize;

/// What the certificate carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Endorsement {
    /// The TD quote.
    Quote,
    /// The TDREPORT, which is smaller, and which only this platform can check.
    Report,
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
        &mut self,
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
            let size = certificate.len();
            if size <= LARGEST {
                return Some((endorsement, certificate));
            }
            // Once for each, and not for the larger one after the smaller.
            if self.told_too_large < Some(endorsement) {
                log::warn!(
                    "the CA's certificate has {size} bytes with its {endorsement}, and its NV indices \
                     have room for {LARGEST}: the event log, of {} bytes, is too long",
                    log.len()
                );
                self.told_too_large = Some(endorsement);
            }
        }
        None
    }
}

impl fmt::Display for Endorsement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Endorsement::Report => "TDREPORT",
            Endorsement::Quote => "TD quote",
        })
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
