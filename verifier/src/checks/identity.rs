//! That certificates, journal and claims speak of the same keys.

use super::{any, broken, certificates, same};
use crate::{
    check::{Checked, Finding},
    evidence::Evidence,
    policy::KnownEks,
    public_key::PublicKey,
    tpm_signature,
};
use attestation::{
    bundle::Certify,
    claims::{Claims, ek_names_digest},
    journal::Mode,
    tpm::{Attest, Attested, Curve, Key, Name, Public, template},
};

/// The public area that a template gives with a key's unique part.
fn with_key(mut template: Public, key: &PublicKey) -> Public {
    template.key = match key {
        PublicKey::Rsa { modulus, exponent } => Key::Rsa {
            bits: u16::try_from(modulus.len().saturating_mul(8)).unwrap_or(u16::MAX),
            exponent: match *exponent {
                Public::DEFAULT_EXPONENT => 0,
                other => other,
            },
            modulus: modulus.clone(),
        },
        PublicKey::P256 { point: [x, y] } => Key::Ecc {
            curve: Curve::P256,
            x: x.to_vec(),
            y: y.to_vec(),
        },
        PublicKey::P384 { point: [x, y] } => Key::Ecc {
            curve: Curve::P384,
            x: x.to_vec(),
            y: y.to_vec(),
        },
    };
    template
}

fn claims<'a>(evidence: &'a Evidence<'_>) -> Result<&'a Claims, Finding> {
    evidence
        .claims
        .as_ref()
        .map_err(broken("the claims do not parse"))
}

pub(super) fn ek_names(evidence: &Evidence<'_>) -> Checked {
    let start = certificates::start(evidence)?;
    let [rsa, p256, p384] = certificates::ek_certificates(evidence)?;
    let templates = [
        (rsa, template::ek_rsa_2048()),
        (p256, template::ek_p256()),
        (p384, template::ek_p384()),
    ];
    for (((whose, certificate), template), name) in templates.into_iter().zip(&start.eks) {
        let certified = with_key(template, certificate.key()).name();
        same(
            &format!("the {whose} certificate is of another key than the journal names"),
            name.as_bytes(),
            certified.as_bytes(),
        )?;
    }
    same(
        "the claims name other EKs than the journal",
        &ek_names_digest(&start.eks)[..],
        &claims(evidence)?.eks[..],
    )?;
    if let (Some(public), [name, ..]) = (&evidence.bundle.ek_public, &start.eks) {
        let public = Public::parse_sized(&public.0)
            .map_err(broken("the bundle's ek_public is not a public area"))?;
        same(
            "the bundle's ek_public is another key than the journal's RSA EK",
            name.as_bytes(),
            public.name().as_bytes(),
        )?;
    }
    Ok(Finding::passed(
        "certificates, journal and claims name the same EKs",
        shown(&start.eks),
    ))
}

fn shown(names: &[Name]) -> String {
    let names: Vec<_> = names.iter().map(Name::to_string).collect();
    names.join(" ")
}

pub(super) fn ek_policy(evidence: &Evidence<'_>) -> Checked {
    let start = certificates::start(evidence)?;
    let eks = shown(&start.eks);
    match &evidence.policy.vtpm.ek {
        KnownEks::Any => Ok(Finding::accepted(
            "which vTPM it is was not compared: the policy accepts any of its kind",
            any("vtpm.ek"),
            eks,
        )),
        KnownEks::Ephemeral if start.mode == Mode::Ephemeral && start.state.is_none() => {
            Ok(Finding::passed(
                "the EKs were made at this boot, as the policy asks: nobody could know them before",
                eks,
            ))
        }
        KnownEks::Ephemeral => Err(Finding::failed(
            "the vTPM has EKs of an earlier boot, and the policy asks for new ones (vtpm.ek)",
            "mode ephemeral, started from no earlier state",
            eks,
        )),
        KnownEks::OneOf(known) if start.eks.iter().any(|name| known.contains(name)) => {
            Ok(Finding::passed("the policy knows one of the EKs", eks))
        }
        KnownEks::OneOf(known) => Err(Finding::failed(
            "the policy knows none of the EKs: it is another vTPM, however good (vtpm.ek)",
            shown(known),
            eks,
        )),
    }
}

/// The AK of L1: the bundle's, or with an own AK the one that certified it.
fn ak_of_l1(evidence: &Evidence<'_>) -> Result<Public, Finding> {
    let bytes = match &evidence.bundle.certify {
        Some(certify) => &certify.ak_public,
        None => &evidence.bundle.ak_public,
    };
    Public::parse_sized(&bytes.0).map_err(broken("the AK's public area does not parse"))
}

/// The AK that signed the TPM quote.
pub(super) fn quoting_ak(evidence: &Evidence<'_>) -> Result<Public, Finding> {
    Public::parse_sized(&evidence.bundle.ak_public.0)
        .map_err(broken("the AK's public area does not parse"))
}

pub(super) fn ak_name(evidence: &Evidence<'_>) -> Checked {
    let start = certificates::start(evidence)?;
    let ak = ak_of_l1(evidence)?;
    same(
        "the AK is not the one that the journal names: it is a key of another TPM",
        start.ak.as_bytes(),
        ak.name().as_bytes(),
    )?;
    let key = PublicKey::from_tpm(&ak)
        .ok_or_else(|| broken("the AK is no usable key")("neither RSA nor P-256 nor P-384"))?;
    let certificate = certificates::ak_certificate(evidence)?;
    if *certificate.key() != key {
        return Err(Finding::failed(
            "the AK certificate is of another key",
            key.to_string(),
            certificate.key().to_string(),
        ));
    }
    let claims = claims(evidence)?;
    let claimed = PublicKey::Rsa {
        modulus: claims.ak_modulus.clone(),
        exponent: claims.ak_exponent,
    };
    if claimed != key {
        return Err(Finding::failed(
            "the claims (HCLAkPub) are of another AK",
            key.to_string(),
            claimed.to_string(),
        ));
    }
    Ok(Finding::passed(
        "certificate, journal and claims name the same AK",
        ak.name().to_string(),
    ))
}

pub(super) fn ak_certified(evidence: &Evidence<'_>) -> Checked {
    let Some(Certify {
        attest, signature, ..
    }) = &evidence.bundle.certify
    else {
        return Ok(Finding::skipped(
            "no AK of the guest's own",
            "L1's AK signed the quote",
        ));
    };
    let ak = ak_of_l1(evidence)?;
    tpm_signature::verify(&attest.0, &signature.0, &ak).map_err(broken(
        "L1's AK did not sign the certification of the guest's AK",
    ))?;
    let attest = Attest::parse(&attest.0)
        .map_err(broken("the certification of the guest's AK does not parse"))?;
    let Attested::Certify { name, .. } = &attest.attested else {
        return Err(broken("L1's AK signed something, but no certification")(
            "a quote",
        ));
    };
    let own = quoting_ak(evidence)?.name();
    same(
        "L1's AK certified another key than the one that signed the quote",
        name.as_bytes(),
        own.as_bytes(),
    )?;
    Ok(Finding::passed(
        "L1's AK certified that the guest's AK is in the same TPM",
        own.to_string(),
    ))
}
