//! The TPM quote.

use super::{broken, identity::quoting_ak, same};
use crate::{
    check::{Checked, Finding},
    evidence::Evidence,
    tpm_signature,
};
use attestation::{
    digest::Algorithm,
    tpm::{Attest, Attested, PcrSelect, PcrSelection},
};

fn attest(evidence: &Evidence<'_>) -> Result<(Attest, PcrSelection, Vec<u8>), Finding> {
    let attest = Attest::parse(&evidence.bundle.quote.attest.0)
        .map_err(broken("the TPM quote does not parse"))?;
    match &attest.attested {
        Attested::Quote { selection, digest } => {
            let (selection, digest) = (selection.clone(), digest.clone());
            Ok((attest, selection, digest))
        }
        Attested::Certify { .. } => Err(broken("this is no TPM quote")("a certification")),
    }
}

pub(super) fn signature(evidence: &Evidence<'_>) -> Checked {
    let ak = quoting_ak(evidence)?;
    let quote = &evidence.bundle.quote;
    attest(evidence)?;
    tpm_signature::verify(&quote.attest.0, &quote.signature.0, &ak)
        .map_err(broken("the TPM quote is not signed by the AK"))?;
    Ok(Finding::passed(
        "the AK, a restricted signing key, signed the TPM quote",
        ak.name().to_string(),
    ))
}

pub(super) fn nonce(evidence: &Evidence<'_>) -> Checked {
    let (attest, ..) = attest(evidence)?;
    same(
        "the TPM quote was not made for this nonce: it is of another request, or old",
        evidence.nonce,
        &attest.extra_data,
    )?;
    Ok(Finding::passed(
        "the TPM quote was made for this nonce",
        hex::encode(evidence.nonce),
    ))
}

pub(super) fn pcrs(evidence: &Evidence<'_>) -> Checked {
    let (_, selection, digest) = attest(evidence)?;
    let all = PcrSelection(vec![PcrSelect::all(Algorithm::Sha256)]);
    same(
        "the TPM quote is not over all 24 PCRs of the SHA-256 bank",
        &all.to_bytes()[..],
        &selection.to_bytes()[..],
    )?;
    let banks = evidence
        .banks
        .as_ref()
        .map_err(broken("the PCR values do not parse"))?;
    let bank = banks
        .iter()
        .find(|bank| bank.algorithm() == Algorithm::Sha256)
        .ok_or_else(|| {
            broken("there is nothing to compare the TPM quote with")("no SHA-256 bank")
        })?;
    let values: Vec<u8> = bank
        .values()
        .iter()
        .flat_map(|value| value.bytes().iter().copied())
        .collect();
    // The digest is in the hash algorithm of the signing scheme (TPM 2.0 Library, part 3, "TPM2_Quote").
    let hash = attestation::tpm::Signature::parse(&evidence.bundle.quote.signature.0)
        .map_err(broken("the TPM quote's signature does not parse"))?
        .hash();
    same(
        "the TPM quote is over other PCR values than the bundle's",
        &digest[..],
        hash.digest(&values).bytes(),
    )?;
    Ok(Finding::passed(
        "the TPM quote is over the PCR values of the SHA-256 bank",
        hex::encode(digest),
    ))
}
