//! The certificate of the authority, which changes when its quote comes.

use alloc::vec::Vec;

use attestation::tpm::{cc, rh};

use super::Attested;
use super::command::{CAP_HANDLES, Command};
use crate::evidence::{Asker, Endorsement, Outcome};
use crate::{Engine, TrustDomain};

/// The indices that the certificate's pieces may take.
const INDICES: core::ops::Range<u32> = rh::NV_EK_CHAIN..rh::NV_EK_CHAIN + 0x10;

/// Bytes of a piece: MAX_NV_INDEX_SIZE of the reference code.
const PIECE: usize = 2048;

/// TPM_HT_NV_INDEX.
const HT_NV_INDEX: u32 = 0x01;

impl<E: Engine, T: TrustDomain> Attested<E, T> {
    /// Before a command: what it may be about to read is made.
    pub(super) fn prepare(&mut self, command: Command<'_>) {
        let wanted = match mention(command) {
            Mention::None => return,
            Mention::Piece => self.evidence.published.is_none(),
            Mention::Beginning => true,
        };
        if wanted {
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

/// How a command touches the certificate's indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mention {
    None,
    /// It asks what indices there are, or for the first one: whoever does has read no piece yet, so
    /// that a new certificate can take the place of the former.
    Beginning,
    /// It may be in the midst of reading.
    Piece,
}

fn mention(command: Command<'_>) -> Mention {
    let parameter = |place| command.handle(place);
    match command.code() {
        Some(cc::GET_CAPABILITY)
            if parameter(0) == Some(CAP_HANDLES)
                && parameter(1).is_some_and(|first| first >> 24 == HT_NV_INDEX) =>
        {
            Mention::Beginning
        }
        Some(cc::NV_READ_PUBLIC) if command.handle(0) == Some(rh::NV_EK_CHAIN) => {
            Mention::Beginning
        }
        // No command has more than three handles. What looks like one and is not does no harm.
        _ if (0..3).any(|place| command.handle(place).is_some_and(|h| INDICES.contains(&h))) => {
            Mention::Piece
        }
        _ => Mention::None,
    }
}
