//! What the collateral says of the platform that made a quote: its TCB status.

use crate::{
    certificate::{self, Certificate},
    collateral::Collateral,
    quote::TdQuote,
};
use dcap_qvl::{
    QeIdentity, QuoteClaims, QuoteCollateralV3, QuotePolicy, TcbInfo, intel, verify::QuoteVerifier,
};

/// Most entries of a list in a document of the PCS that is looked at: Intel's have up to a few dozens.
pub const LIST_LIMIT: usize = 1024;

/// Why a quote's TCB status is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TcbError {
    /// The collateral lacks a file.
    #[error("the collateral lacks {0}")]
    Missing(&'static str),
    /// The collateral, or the platform by it, is refused.
    #[error("{0}")]
    Refused(String),
}

impl TdQuote {
    /// Verifies the whole quote with collateral.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn verify_tcb(&self, collateral: &Collateral, now: u64) -> Result<QuoteClaims, TcbError> {
        let pck = self.pck().ok_or(TcbError::Missing("a PCK certificate"))?;
        let extension = intel::parse_pck_extension(pck)
            .map_err(|error| TcbError::Refused(format!("{error:#}")))?;
        let selected = select(collateral, pck, &extension.fmspc)?;
        QuoteVerifier::new(collateral.root.clone())
            .allow_debug(true)
            // The check td-bindings is for these.
            .allow_service_td(true)
            .verify_with_policy(self.bytes(), selected, now, &QuotePolicy::claims_only(now))
            .map_err(|error| TcbError::Refused(format!("{error:#}")))
    }
}

/// What of the collateral is about the platform of this PCK certificate.
fn select(
    collateral: &Collateral,
    pck: &[u8],
    fmspc: &[u8],
) -> Result<QuoteCollateralV3, TcbError> {
    let chain = collateral
        .tcb_signing_chain
        .clone()
        .ok_or(TcbError::Missing(
            "tcb-signing-chain.pem (header TCB-Info-Issuer-Chain)",
        ))?;
    let fmspc = hex::encode(fmspc);
    let parsed = |body: &str| serde_json::from_str::<TcbInfo>(body).ok();
    let (tcb_info, levels) = collateral
        .tcb_infos
        .iter()
        .filter_map(|info| Some((info, parsed(&info.body)?)))
        .find(|(_, parsed)| parsed.fmspc.eq_ignore_ascii_case(&fmspc))
        .ok_or(TcbError::Missing("tcb-info.json of this platform's FMSPC"))?;
    let qe_identity = collateral
        .qe_identity
        .as_ref()
        .ok_or(TcbError::Missing("qe-identity.json"))?;
    if longest_list(&levels, &qe_identity.body) > LIST_LIMIT {
        return Err(TcbError::Refused(format!(
            "a list of TCB info or QE identity has more than {LIST_LIMIT} entries"
        )));
    }
    let root_crl = collateral
        .root_crl
        .clone()
        .ok_or(TcbError::Missing("root-ca-crl.der"))?;
    let issuer = Certificate::parse(pck)
        .map_err(|error| TcbError::Refused(format!("the PCK certificate: {error}")))?
        .issuer_name();
    let pck_crl = collateral
        .pck_crls
        .iter()
        .find(|crl| certificate::crl_issuer(crl) == Some(issuer))
        .ok_or(TcbError::Missing(
            "pck-crl.der of the CA that issued the PCK certificate",
        ))?;
    Ok(QuoteCollateralV3 {
        pck_crl_issuer_chain: String::new(),
        root_ca_crl: root_crl,
        pck_crl: pck_crl.clone(),
        tcb_info_issuer_chain: chain.clone(),
        tcb_info: tcb_info.body.clone(),
        tcb_info_signature: tcb_info.signature.clone(),
        qe_identity_issuer_chain: chain,
        qe_identity: qe_identity.body.clone(),
        qe_identity_signature: qe_identity.signature.clone(),
        pck_certificate_chain: None,
    })
}

/// Entries of the longest list in these documents.
fn longest_list(info: &TcbInfo, qe_identity: &str) -> usize {
    let advisories = info.tcb_levels.iter().map(|level| level.advisory_ids.len());
    let modules = info.tdx_module_identities.iter().flat_map(|module| {
        let advisories = module.tcb_levels.iter();
        advisories
            .map(|level| level.advisory_ids.len())
            .chain([module.tcb_levels.len()])
    });
    // One that does not parse is refused where it is verified.
    let identity = serde_json::from_str::<QeIdentity>(qe_identity).ok();
    let enclave = identity.iter().flat_map(|identity| {
        let levels = identity.tcb_levels.iter();
        levels
            .map(|level| level.advisory_ids.len())
            .chain([identity.tcb_levels.len()])
    });
    advisories
        .chain(modules)
        .chain(enclave)
        .chain([info.tcb_levels.len(), info.tdx_module_identities.len()])
        .max()
        .unwrap_or_default()
}
