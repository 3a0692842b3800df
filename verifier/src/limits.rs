//! How large the members of a bundle may be: looked at before anything else is.

use attestation::{bundle::Bundle, report::NV_SIZE, window::USER_DATA_SIZE};

/// Largest event log: L1's have room for 1 MiB.
const LOG: usize = 4 << 20;
/// Largest quote and CA certificate; they have limits of their own as well.
const MEMBER: usize = 2 << 20;
/// Largest certificate of a key, public area, attestation structure or signature: those of a TPM are below 4 KiB.
const STRUCTURE: usize = 16 << 10;

/// A member that is larger than this verifier reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Oversize {
    /// Which.
    pub(crate) member: &'static str,
    /// Its bytes; of a text, its characters.
    pub(crate) size: usize,
    /// The most that is read.
    pub(crate) limit: usize,
}

/// The first member that is too large.
pub(crate) fn oversize(bundle: &Bundle) -> Option<Oversize> {
    let [rsa, p256, p384] = &bundle.ek_certificates;
    let size = |bytes: &Option<attestation::bundle::Binary>| {
        bytes.as_ref().map_or(0, |bytes| bytes.0.len())
    };
    let certify = bundle.certify.as_ref();
    let members = [
        ("nonce", bundle.nonce.len(), 2 * USER_DATA_SIZE),
        ("report", bundle.report.0.len(), NV_SIZE),
        ("td_quote", size(&bundle.td_quote), MEMBER),
        ("cc_event_log", bundle.cc_event_log.0.len(), LOG),
        ("tcg_event_log", bundle.tcg_event_log.0.len(), LOG),
        ("ca_certificate", bundle.ca_certificate.0.len(), MEMBER),
        ("ek_certificates", rsa.0.len(), STRUCTURE),
        ("ek_certificates", p256.0.len(), STRUCTURE),
        ("ek_certificates", p384.0.len(), STRUCTURE),
        ("ak_certificate", bundle.ak_certificate.0.len(), STRUCTURE),
        ("ek_public", size(&bundle.ek_public), STRUCTURE),
        ("ak_public", bundle.ak_public.0.len(), STRUCTURE),
        ("quote.attest", bundle.quote.attest.0.len(), STRUCTURE),
        ("quote.signature", bundle.quote.signature.0.len(), STRUCTURE),
        (
            "certify.attest",
            certify.map_or(0, |certify| certify.attest.0.len()),
            STRUCTURE,
        ),
        (
            "certify.signature",
            certify.map_or(0, |certify| certify.signature.0.len()),
            STRUCTURE,
        ),
        (
            "certify.ak_public",
            certify.map_or(0, |certify| certify.ak_public.0.len()),
            STRUCTURE,
        ),
    ];
    members
        .into_iter()
        .find(|(_, size, limit)| size > limit)
        .map(|(member, size, limit)| Oversize {
            member,
            size,
            limit,
        })
}
