//! The certificate of the authority, which changes when its quote comes.

use alloc::vec::Vec;

use super::Attested;
use crate::evidence::{Asker, CERTIFICATE_INDICES as INDICES, Endorsement, Outcome};
use crate::request::Touches;
use crate::{Engine, TrustDomain};

/// Bytes of a piece: MAX_NV_INDEX_SIZE of the reference code.
const PIECE: usize = 2048;

impl<E: Engine, T: TrustDomain> Attested<E, T> {
    /// Before a command that touches this: what it may be about to read is made.
    pub(super) fn prepare(&mut self, touches: Touches) {
        if touches.contains(Touches::CERTIFICATE_FIRST)
            || touches.contains(Touches::CERTIFICATE_PIECE) && self.evidence.published.is_none()
        {
            self.publish_authority();
            self.forget_commits();
        }
    }

    /// Puts the certificate into its indices, unless what is there is the best that there is. When it
    /// does not succeed it will be tried again.
    fn publish_authority(&mut self) {
        self.evidence.quotes.poll(&mut self.recorder.trust_domain);
        let Some((endorsement, certificate)) = self.best_certificate() else {
            return;
        };
        self.evidence.published = None;
        let mut indices = INDICES;
        for (piece, index) in certificate.chunks(PIECE).zip(&mut indices) {
            if self.provisioner.nv_put_for_good(index, piece).is_err() {
                return;
            }
        }
        // What is left of a longer one.
        for index in indices {
            match self.provisioner.nv_remove(index) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => return,
            }
        }
        self.evidence.published = Some(endorsement);
    }

    /// The certificate with the quote, or else with the report; `None` if that is published already.
    /// A host may answer with a quote that is too long for the indices.
    fn best_certificate(&self) -> Option<(Endorsement, Vec<u8>)> {
        let authority = &self.identity.as_ref()?.authority;
        let quotes = &self.evidence.quotes;
        let quote = match quotes.outcome(Asker::Authority) {
            Some(Outcome::Quote(quote)) => Some((Endorsement::Quote, quote.as_slice())),
            _ => None,
        };
        let report = quotes.report(Asker::Authority);
        let report = report.map(|report| (Endorsement::Report, report.as_slice()));
        let log = self.recorder.log().bytes();
        let log = log.get(..self.evidence.authority_log).unwrap_or(log);
        for (endorsement, evidence) in [quote, report].into_iter().flatten() {
            if self.evidence.published == Some(endorsement) {
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
