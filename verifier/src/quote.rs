//! TD quotes: signatures and certificate chain.
//!
//! Structures: Intel TDX DCAP Quoting Library API, "Version 4 Quote Format" and "Version 5". Parsing, and everything that
//! needs collateral ([`tcb`](crate::tcb)), is `dcap-qvl`'s; it verifies as a whole, and so the signatures and the chain
//! are looked at here once more by themselves, for a report that says which of them is wrong.

use crate::{
    certificate::{self, Certificate},
    collateral::Collateral,
    public_key::PublicKey,
    td_attributes,
    td_bindings::Bindings,
    td_body,
};
use dcap_qvl::quote::{AuthDataV3, EnclaveReport, Quote};
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use std::time::Duration;
use tdx_defs::quote::{
    BodyDescriptor, ECDSA_P256, QuoteHeader, TEE_TDX, TdQuoteBody, VERSION_4, VERSION_5,
    certification,
};
use zerocopy::FromBytes;

/// Largest quote that is looked at.
pub const QUOTE_LIMIT: usize = 128 << 10;

/// Intel's chains have one intermediate; the root may be given as well.
const INTERMEDIATES: usize = 4;

/// Why bytes are not a quote that this verifier knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuoteError {
    /// Larger than [`QUOTE_LIMIT`].
    #[error("the quote is larger than {QUOTE_LIMIT} bytes")]
    TooLarge,
    /// The structure ends early, or has lengths that do not fit.
    #[error("the quote is malformed: {0}")]
    Malformed(String),
    /// Bytes after the quote that are not zero.
    #[error("something other than padding follows the quote")]
    Trailing,
    /// Not a TD's, of another version, key type or vendor.
    #[error("{what} is {found}, not {expected}")]
    Unsupported {
        /// Which member.
        what: &'static str,
        /// What this verifier knows.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// The PCK certificate chain is not in the quote, or is not PEM certificates.
    #[error("the quote does not carry a PCK certificate chain of 2 to {} certificates", INTERMEDIATES + 1)]
    Chain,
}

/// A TD quote, parsed.
#[derive(Clone, Debug)]
pub struct TdQuote {
    bytes: Vec<u8>,
    signed_length: usize,
    version: u16,
    body: TdQuoteBody,
    bindings: Bindings,
    auth: AuthDataV3,
    chain: Vec<Vec<u8>>,
}

fn unsupported<T>(
    what: &'static str,
    expected: &'static str,
    found: impl Into<String>,
) -> Result<T, QuoteError> {
    Err(QuoteError::Unsupported {
        what,
        expected,
        found: found.into(),
    })
}

/// That a quote is of a TD, and of a version and a body that are known: looked at before the rest, to be named.
fn known_form(bytes: &[u8]) -> Result<(), QuoteError> {
    let cut_off = |_| QuoteError::Malformed("it ends in its header".into());
    let (header, rest) = QuoteHeader::ref_from_prefix(bytes).map_err(cut_off)?;
    let tee_type = u32::from_le_bytes(header.tee_type);
    if tee_type != TEE_TDX {
        return unsupported("TEE type", "0x81 (TDX)", format!("{tee_type:#x}"));
    }
    match u16::from_le_bytes(header.version) {
        VERSION_4 => Ok(()),
        VERSION_5 => match BodyDescriptor::read_from_prefix(rest) {
            Ok((
                BodyDescriptor::TDX_1_0 | BodyDescriptor::TDX_1_5 | BodyDescriptor::TDX_1_5_EX,
                _,
            )) => Ok(()),
            Ok((BodyDescriptor { body_type, size }, _)) => {
                let (kind, size) = (u16::from_le_bytes(body_type), u32::from_le_bytes(size));
                let found = format!("{kind}, of {size} bytes");
                unsupported("body type", "2, 3 or 4 (TDX 1.0, 1.5, 1.5 extended)", found)
            }
            Err(_) => Err(QuoteError::Malformed("it ends in its header".into())),
        },
        version => unsupported("version", "4 or 5", version.to_string()),
    }
}

impl TdQuote {
    /// Parses a quote of version 4 or 5 of a TD, with its PCK certificate chain.
    ///
    /// # Errors
    /// See [`QuoteError`].
    pub fn parse(bytes: &[u8]) -> Result<TdQuote, QuoteError> {
        if bytes.len() > QUOTE_LIMIT {
            return Err(QuoteError::TooLarge);
        }
        known_form(bytes)?;
        let mut rest = bytes;
        let quote = <Quote as scale::Decode>::decode(&mut rest)
            .map_err(|error| QuoteError::Malformed(error.to_string()))?;
        if rest.iter().any(|byte| *byte != 0) {
            return Err(QuoteError::Trailing);
        }
        let header = &quote.header;
        if header.attestation_key_type != ECDSA_P256 {
            let found = header.attestation_key_type.to_string();
            return unsupported("attestation key type", "2 (ECDSA P-256)", found);
        }
        if header.qe_vendor_id != dcap_qvl::INTEL_QE_VENDOR_ID {
            let found = hex::encode(header.qe_vendor_id);
            return unsupported(
                "QE vendor",
                "939a7233f79c4ca9940a0db3957f0607 (Intel)",
                found,
            );
        }
        if quote.inner_cert_type() != certification::PCK_CHAIN {
            let found = quote.inner_cert_type().to_string();
            return unsupported("certification data type", "5 (PCK chain)", found);
        }
        let Some(body) = quote.report.as_td10() else {
            return unsupported("body", "a TD's", "an enclave's");
        };
        let pem = str::from_utf8(quote.inner_cert_data()).map_err(|_| QuoteError::Chain)?;
        let chain = certificate::from_pem(pem);
        if !(2..=INTERMEDIATES + 1).contains(&chain.len()) {
            return Err(QuoteError::Chain);
        }
        Ok(TdQuote {
            bytes: bytes.to_vec(),
            signed_length: quote.signed_length(),
            version: header.version,
            body: td_body::of_quote(body),
            bindings: Bindings::of_quote(&quote.report),
            auth: quote.auth_data.into_v3(),
            chain,
        })
    }

    /// Version of the quote's format.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// What the quote says of the TD.
    pub fn body(&self) -> &TdQuoteBody {
        &self.body
    }

    /// What else the quote says of the TD, where its version has it.
    pub fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// Follows the signatures from the PCK certificate to the TD's body.
    ///
    /// # Errors
    /// The first one that does not hold, as a sentence.
    pub fn verify_signatures(&self) -> Result<(), &'static str> {
        let pck = self
            .chain
            .first()
            .and_then(|der| Certificate::parse(der).ok())
            .ok_or("the PCK certificate in the quote is malformed")?;
        let auth = &self.auth;
        let (r, s) = auth.qe_report_signature.split_at(32);
        if !pck
            .key()
            .verifies_ecdsa(&Sha256::digest(auth.qe_report), r, s)
        {
            return Err("the quoting enclave's report is not signed by the PCK certificate's key");
        }
        let report = <EnclaveReport as scale::Decode>::decode(&mut auth.qe_report.as_slice())
            .map_err(|_| "the quoting enclave's report is malformed")?;
        let bound = Sha256::new()
            .chain_update(auth.ecdsa_attestation_key)
            .chain_update(&auth.qe_auth_data.data)
            .finalize();
        if report.report_data.get(..32) != Some(bound.as_slice()) {
            return Err("the quoting enclave's report is not over this attestation key");
        }
        let point = [&[4][..], &auth.ecdsa_attestation_key].concat();
        let key =
            PublicKey::from_sec1(&point).ok_or("the attestation key is not a point of P-256")?;
        let signed = self.bytes.get(..self.signed_length).unwrap_or_default();
        let (r, s) = auth.ecdsa_signature.split_at(32);
        if !key.verifies_ecdsa(&Sha256::digest(signed), r, s) {
            return Err("header and body of the quote are not signed by the attestation key");
        }
        Ok(())
    }

    /// Follows the certificates from the PCK certificate to the root, with revocation where `collateral` has the CRLs.
    ///
    /// # Errors
    /// What is wrong, as `webpki` says it.
    pub fn verify_chain(&self, collateral: &Collateral, now: u64) -> Result<(), String> {
        let root = CertificateDer::from_slice(&collateral.root);
        let anchor = webpki::anchor_from_trusted_cert(&root)
            .map_err(|error| format!("the trusted root is not a certificate: {error:?}"))?;
        let [leaf, rest @ ..] = &self.chain[..] else {
            return Err("there is no PCK certificate".into());
        };
        let leaf = CertificateDer::from_slice(leaf);
        let rest: Vec<_> = rest
            .iter()
            .map(|der| CertificateDer::from_slice(der))
            .collect();
        let leaf = webpki::EndEntityCert::try_from(&leaf)
            .map_err(|error| format!("the PCK certificate is malformed: {error:?}"))?;

        let crls = match (&collateral.root_crl, &collateral.pck_crls[..]) {
            (Some(root_crl), [_, ..]) => std::iter::once(root_crl)
                .chain(&collateral.pck_crls)
                .map(|der| Ok(webpki::OwnedCertRevocationList::from_der(der)?.into()))
                .collect::<Result<Vec<webpki::CertRevocationList<'_>>, webpki::Error>>()
                .map_err(|error| format!("a CRL of the collateral is malformed: {error:?}"))?,
            _ => Vec::new(),
        };
        let crls: Vec<_> = crls.iter().collect();
        let revocation = webpki::RevocationOptionsBuilder::new(&crls)
            .ok()
            .map(|options| {
                options
                    .with_depth(webpki::RevocationCheckDepth::Chain)
                    .with_status_policy(webpki::UnknownStatusPolicy::Deny)
                    // Whether they are current is for the check of the collateral to say.
                    .with_expiration_policy(webpki::ExpirationPolicy::Ignore)
                    .build()
            });
        leaf.verify_for_usage(
            &[webpki::rustcrypto::ECDSA_P256_SHA256],
            &[anchor],
            &rest,
            UnixTime::since_unix_epoch(Duration::from_secs(now)),
            webpki::KeyUsage::server_auth(),
            revocation,
            None,
        )
        .map(drop)
        .map_err(|error| format!("{error:?}"))
    }

    /// Whether `dcap-qvl` refuses the TD for its ATTRIBUTES alone, whatever its TCB: a bit that must be zero, migration, no
    /// SEPT_VE_DISABLE, or SERVTD_EXT in a quote without MRSERVICETD. The checks of the TD refuse all of these.
    pub fn has_refused_attributes(&self) -> bool {
        let attributes = td_body::attributes(&self.body);
        let later = attributes & td_attributes::SERVTD_EXT != 0;
        !td_attributes::problems(attributes).is_empty()
            || later && self.bindings.service_td.is_none()
    }

    /// As it was parsed.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The PCK certificate, DER.
    pub(crate) fn pck(&self) -> Option<&[u8]> {
        self.chain.first().map(Vec::as_slice)
    }
}
