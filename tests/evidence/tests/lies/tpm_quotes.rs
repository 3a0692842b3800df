//! Lies about the TPM that answered, and what it quoted.

use attestation::bundle::{Binary, Certify, Quote};
use attestation::digest::Algorithm;
use attestation::tpm::{
    Attest, ObjectAttributes, PcrSelect, Public, Scheme, Signature, alg, commands, rh,
};
use evidence::guest::{self, Device};
use evidence::{Boot, Evidence, HostTpm, Machine};
use verifier::{Bundle, Id};

use crate::subjects::{HONEST, OWN_AK, TWIN, ak_template};
use crate::{Lie, assert_seen, judge};

#[test]
fn structure_and_signature() {
    assert_seen(
        &HONEST,
        &[
            Lie {
                name: "a bit of the digest",
                breaks: Id::TpmQuoteSignature,
                tell: |lie| *lie.bundle.quote.attest.0.last_mut().expect("bytes") ^= 1,
            },
            Lie {
                name: "a bit of the signature",
                breaks: Id::TpmQuoteSignature,
                tell: |lie| *lie.bundle.quote.signature.0.last_mut().expect("bytes") ^= 1,
            },
            Lie {
                name: "this relying party's nonce in another's quote",
                breaks: Id::TpmQuoteSignature,
                tell: |lie| {
                    let mut attest = Attest::parse(&lie.bundle.quote.attest.0).expect("a quote");
                    attest.extra_data = vec![0xEE; 32];
                    lie.bundle.quote.attest = Binary(attest.to_bytes());
                },
            },
            Lie {
                name: "the signature in another scheme",
                breaks: Id::TpmQuoteSignature,
                tell: |lie| {
                    let bytes = &mut lie.bundle.quote.signature.0;
                    bytes[..2].copy_from_slice(&alg::RSAPSS.to_be_bytes());
                    Signature::parse(bytes).expect("still a signature");
                },
            },
            Lie {
                name: "something behind the quote",
                breaks: Id::TpmQuoteSignature,
                tell: |lie| lie.bundle.quote.attest.0.push(0),
            },
            Lie {
                name: "something behind the signature",
                breaks: Id::TpmQuoteSignature,
                tell: |lie| lie.bundle.quote.signature.0.push(0),
            },
            Lie {
                name: "something behind the AK",
                breaks: Id::AkName,
                tell: |lie| lie.bundle.ak_public.0.push(0),
            },
            Lie {
                name: "the quote of another vTPM, with its AK",
                breaks: Id::AkName,
                tell: |lie| {
                    lie.bundle.quote = TWIN.bundle.quote.clone();
                    lie.bundle.ak_public = TWIN.bundle.ak_public.clone();
                },
            },
            Lie {
                name: "another attribute of the AK",
                breaks: Id::AkName,
                tell: |lie| {
                    let mut public = Public::parse_sized(&lie.bundle.ak_public.0).expect("a key");
                    public.attributes = public.attributes.union(ObjectAttributes::DECRYPT);
                    lie.bundle.ak_public = Binary(public.to_sized_bytes());
                },
            },
        ],
    );
}

#[test]
fn the_ek_of_the_guest() {
    let honest = Boot::default().evidence_after(Machine::persist_ek);
    assert!(honest.bundle.ek_public.is_some());
    assert_seen(
        &honest,
        &[
            Lie {
                name: "the EK said to be the AK",
                breaks: Id::AkName,
                tell: |lie| {
                    lie.bundle.ak_public = lie.bundle.ek_public.clone().expect("an EK");
                },
            },
            Lie {
                name: "the AK said to be the EK",
                breaks: Id::EkNames,
                tell: |lie| lie.bundle.ek_public = Some(lie.bundle.ak_public.clone()),
            },
        ],
    );
}

#[test]
fn a_key_of_the_guests_own() {
    assert_seen(
        &OWN_AK,
        &[
            Lie {
                name: "not certified",
                breaks: Id::AkName,
                tell: |lie| lie.bundle.certify = None,
            },
            Lie {
                name: "a bit of the certification",
                breaks: Id::AkCertified,
                tell: |lie| *certify(lie).attest.0.last_mut().expect("bytes") ^= 1,
            },
            Lie {
                name: "a bit of its signature",
                breaks: Id::AkCertified,
                tell: |lie| *certify(lie).signature.0.last_mut().expect("bytes") ^= 1,
            },
            Lie {
                name: "certified by itself",
                breaks: Id::AkName,
                tell: |lie| certify(lie).ak_public = lie.bundle.ak_public.clone(),
            },
            Lie {
                name: "certified by the key of another vTPM",
                breaks: Id::AkName,
                tell: |lie| certify(lie).ak_public = TWIN.bundle.ak_public.clone(),
            },
            Lie {
                name: "another key than the certified one",
                breaks: Id::AkCertified,
                tell: |lie| lie.bundle.ak_public = TWIN.bundle.ak_public.clone(),
            },
            Lie {
                name: "a quote for a certification",
                breaks: Id::AkCertified,
                tell: |lie| {
                    // Of the same vTPM: both boots have one seed.
                    let Quote { attest, signature } = HONEST.bundle.quote.clone();
                    *certify(lie) = Certify {
                        attest,
                        signature,
                        ak_public: HONEST.bundle.ak_public.clone(),
                    };
                },
            },
            Lie {
                name: "a certification for a quote",
                breaks: Id::TpmQuoteSignature,
                tell: |lie| {
                    let Certify {
                        attest, signature, ..
                    } = certify(lie).clone();
                    lie.bundle.quote = Quote { attest, signature };
                },
            },
            Lie {
                name: "the quote of L1's AK under its name",
                breaks: Id::TpmQuoteSignature,
                tell: |lie| lie.bundle.quote = HONEST.bundle.quote.clone(),
            },
        ],
    );
}

fn certify(evidence: &mut Evidence) -> &mut Certify {
    evidence.bundle.certify.as_mut().expect("an own AK")
}

/// The host puts a software TPM of its own in the vTPM's place, with the same PCRs, for the same nonce.
#[test]
fn a_software_tpm_on_the_host() {
    let honest = HONEST.clone();
    let mut host = HostTpm::start(9);
    host.replay(&honest.bundle.tcg_event_log.0);
    host.ok(&commands::pcr_extend(
        10,
        &attestation::digest::Digests::of(b"/init").all(),
    ));
    assert_eq!(guest::pcrs(&mut host), honest.bundle.pcrs);
    let (attest, signature) = guest::signed(&host.ok(&guest::quote(rh::AK, &honest.nonce)));
    let quote = Quote { attest, signature };
    let ak = Binary(guest::public(&mut host, rh::AK).expect("its AK"));
    let (attest, signature) = guest::signed(&host.ok(&commands::certify(rh::AK, rh::AK)));
    let certified_by = |ak_public: &Binary| {
        Some(Certify {
            attest: attest.clone(),
            signature: signature.clone(),
            ak_public: ak_public.clone(),
        })
    };

    let mut evidence = honest.clone();
    evidence.bundle.quote = quote;
    let mut wrong = Vec::new();
    wrong.extend(judge("its quote", Id::TpmQuoteSignature, &evidence));
    evidence.bundle.ak_public = ak.clone();
    wrong.extend(judge("with its AK", Id::AkName, &evidence));
    evidence.bundle.certify = certified_by(&ak);
    wrong.extend(judge("certified by itself", Id::AkName, &evidence));
    evidence.bundle.certify = certified_by(&honest.bundle.ak_public);
    wrong.extend(judge("under L1's name", Id::AkCertified, &evidence));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A key of the vTPM that signs whatever it is given, certified by L1's AK as any key is: it signs a quote that no TPM made.
#[test]
fn a_quote_that_the_guest_wrote_itself() {
    let boot = Boot::default();
    let mut machine = boot.start();
    let template = ak_template();
    let unrestricted = template.attributes.0 & !ObjectAttributes::RESTRICTED.0;
    let template = Public {
        attributes: ObjectAttributes(unrestricted),
        ..template
    };
    let key = machine.handle(&commands::create_primary(rh::OWNER, &template));
    let nonce: Vec<u8> = (1..=32).collect();
    let mut bundle = machine.collect_with(&nonce, Some(key));
    // What it is about to sign is the true quote: even that proves nothing with such a key.
    let digest = Algorithm::Sha256.digest(&bundle.quote.attest.0);
    bundle.quote.signature = Binary(machine.ok(&commands::sign(key, digest.bytes())));
    drop(machine);
    let evidence = boot.judged(bundle, nonce);
    assert_eq!(judge("", Id::TpmQuoteSignature, &evidence), None);
    let report = evidence.verify();
    let failure = report.first_failure().expect("it fails");
    assert!(failure.found.contains("restricted"), "{failure:?}");
}

/// L1's AK quotes fewer PCRs, or those of a weaker bank.
#[test]
fn a_quote_of_other_pcrs() {
    let boot = Boot::default();
    let mut machine = boot.start();
    let nonce: Vec<u8> = (1..=32).collect();
    let bundle = machine.collect(&nonce);
    let mut cases: Vec<(&str, Bundle)> = Vec::new();
    for (name, pcrs) in [
        ("one PCR", PcrSelect::of(Algorithm::Sha256, [0])),
        (
            "all but one",
            PcrSelect::of(Algorithm::Sha256, (0..24).filter(|pcr| *pcr != 10)),
        ),
        ("no PCR", PcrSelect::none(Algorithm::Sha256)),
        ("the SHA-1 bank", PcrSelect::all(Algorithm::Sha1)),
    ] {
        let quote = commands::quote(rh::AK, &nonce, Scheme::Null, pcrs);
        let (attest, signature) = guest::signed(&machine.ok(&quote));
        let mut bundle = bundle.clone();
        bundle.quote = Quote { attest, signature };
        cases.push((name, bundle));
    }
    drop(machine);
    let mut wrong = Vec::new();
    for (name, bundle) in cases {
        let evidence = boot.judged(bundle, nonce.clone());
        wrong.extend(judge(name, Id::TpmQuotePcrs, &evidence));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
