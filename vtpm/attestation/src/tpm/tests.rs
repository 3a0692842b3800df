//! Structures as the specification lays them out, and back.

use super::*;
use crate::digest::Algorithm;
use proptest::collection::vec as vec_of;
use proptest::prelude::*;
use std::format;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

fn bytes(hexadecimal: &[&str]) -> Vec<u8> {
    hex::decode(hexadecimal.concat()).unwrap()
}

/// TPMT_PUBLIC field by field from the EK Credential Profile's tables "EK Template L-1", "L-2" and
/// "H-3".
#[test]
fn eks_have_the_profiles_templates() {
    let policy_a = hex::encode(template::POLICY_A_SHA256);
    let policy_b = hex::encode(template::POLICY_B_SHA384);
    let zeros = |count| "00".repeat(count);
    let cases = [
        (
            template::ek_rsa_2048(),
            bytes(&[
                "0001",
                "000b",
                "000300b2",
                "0020",
                &policy_a,
                "0006",
                "0080",
                "0043",
                "0010",
                "0800",
                "00000000",
                "0100",
                &zeros(256),
            ]),
        ),
        (
            template::ek_p256(),
            bytes(&[
                "0023",
                "000b",
                "000300b2",
                "0020",
                &policy_a,
                "0006",
                "0080",
                "0043",
                "0010",
                "0003",
                "0010",
                "0020",
                &zeros(32),
                "0020",
                &zeros(32),
            ]),
        ),
        (
            template::ek_p384(),
            bytes(&[
                "0023", "000c", "000300f2", "0030", &policy_b, "0006", "0100", "0043", "0010",
                "0004", "0010", "0000", "0000",
            ]),
        ),
        (
            template::ak_rsa_2048(),
            bytes(&[
                "0001", "000b", "00050472", "0000", "0010", "0014", "000b", "0800", "00000000",
                "0000",
            ]),
        ),
    ];
    for (template, expected) in cases {
        assert_eq!(template.to_bytes(), expected);
        assert_eq!(Public::parse(&expected), Ok(template));
    }
}

/// TPM2_PolicySecret of the endorsement hierarchy, from nothing: TPM 2.0 Library, part 3.
fn policy_a(algorithm: Algorithm) -> Vec<u8> {
    let zero = vec![0; algorithm.size()];
    let secret = [
        zero.as_slice(),
        &0x151u32.to_be_bytes(),
        &rh::ENDORSEMENT.to_be_bytes(),
    ];
    let command = algorithm.digest(&secret.concat());
    // Then the policy reference, which is empty.
    algorithm.digest(command.bytes()).bytes().to_vec()
}

/// The profile's PolicyC: TPM2_PolicyAuthorizeNV with the policy index of the algorithm.
fn policy_c(algorithm: Algorithm, index: u32) -> Vec<u8> {
    // TPMS_NV_PUBLIC of the profile's "Policy Index": TPMA_NV 0x220F1008 (owner and policy
    // authorization, written), room for a TPMT_HA.
    let size = 2 + u16::try_from(algorithm.size()).unwrap();
    let mut public = index.to_be_bytes().to_vec();
    public.extend(algorithm.id().to_be_bytes());
    public.extend(0x220F_1008u32.to_be_bytes());
    public.extend(u16::try_from(algorithm.size()).unwrap().to_be_bytes());
    public.extend(policy_a(algorithm));
    public.extend(size.to_be_bytes());
    let name = Name::of(algorithm, &public);
    let zero = vec![0; algorithm.size()];
    let authorize = [zero.as_slice(), &0x192u32.to_be_bytes(), name.as_bytes()];
    algorithm.digest(&authorize.concat()).bytes().to_vec()
}

#[test]
fn the_templates_policies_follow_from_their_commands() {
    assert_eq!(policy_a(Algorithm::Sha256), template::POLICY_A_SHA256);
    let algorithm = Algorithm::Sha384;
    let either = [policy_a(algorithm), policy_c(algorithm, 0x01C0_7F02)].concat();
    let zero = [0; 48];
    // TPM2_PolicyOR.
    let policy_b = [zero.as_slice(), &0x171u32.to_be_bytes(), &either].concat();
    let policy_b = algorithm.digest(&policy_b);
    assert_eq!(policy_b.bytes(), template::POLICY_B_SHA384);
}

#[test]
fn a_name_is_the_name_algorithm_and_its_digest() {
    let public = template::ek_p384();
    let digest = Algorithm::Sha384.digest(&public.to_bytes());
    let name = public.name();
    assert_eq!(name.to_string(), format!("000c{digest}"));
    assert_eq!(name.size(), 50);
    assert_eq!(Name::new(name.as_bytes()), Some(name.clone()));
    assert_eq!(Name::new(&name.as_bytes()[..49]), None);
    assert_eq!(Name::new(&[0, 0x10]), None);
    assert_eq!(Name::new(&[]), None);
}

#[test]
fn attributes_contain_others_only_if_all_are_set() {
    let bits = [
        ObjectAttributes::FIXED_TPM,
        ObjectAttributes::RESTRICTED,
        ObjectAttributes::SIGN,
    ];
    let set = |mask: u32| {
        let chosen = bits.iter().enumerate().filter(|(n, _)| mask >> n & 1 != 0);
        chosen.fold(ObjectAttributes(0), |all, (_, bit)| all | *bit)
    };
    for one in 0..8 {
        for other in 0..8 {
            assert_eq!(set(one) | set(other), set(one | other));
            let expected = one & other == other;
            assert_eq!(set(one).contains(set(other)), expected, "{one} {other}");
        }
    }
}

#[test]
fn a_public_area_of_another_kind_is_refused() {
    let good = template::ek_rsa_2048().to_bytes();
    let cases = [
        (0, 0x08, WireError::KeyType(0x0801)),
        (3, 0x12, WireError::HashAlgorithm(0x0012)),
        (43, 0x13, WireError::Symmetric(0x0013)),
        (47, 0x44, WireError::Symmetric(0x0044)),
        (49, 0x19, WireError::Scheme(0x0019)),
    ];
    for (place, value, error) in cases {
        let mut bytes = good.clone();
        bytes[place] = value;
        assert_eq!(Public::parse(&bytes), Err(error), "{place}");
    }
    let mut ecc = template::ek_p256().to_bytes();
    ecc[51] = 2;
    assert_eq!(Public::parse(&ecc), Err(WireError::Curve(2)));
    let longer = [good.as_slice(), &[0]].concat();
    assert_eq!(Public::parse(&longer), Err(WireError::TooLong(1)));
    for length in 0..good.len() {
        assert_eq!(Public::parse(&good[..length]), Err(WireError::CutOff));
    }
    let sized = template::ek_p256().to_sized_bytes();
    assert_eq!(Public::parse_sized(&sized), Ok(template::ek_p256()));
}

fn quote() -> Attest {
    Attest {
        qualified_signer: Name::of(Algorithm::Sha256, b"signer"),
        extra_data: vec![0x11; 4],
        clock: ClockInfo {
            clock: 1,
            reset_count: 2,
            restart_count: 3,
            safe: true,
        },
        firmware_version: 0x2024_0125_0012_0000,
        attested: Attested::Quote {
            selection: PcrSelection(vec![PcrSelect::all(Algorithm::Sha256)]),
            digest: vec![0xDD; 32],
        },
    }
}

#[test]
fn a_quote_has_the_layout_of_tpms_attest() {
    let signer = Name::of(Algorithm::Sha256, b"signer").to_string();
    let expected = bytes(&[
        "ff544347",
        "8018",
        "0022",
        &signer,
        "0004",
        "11111111",
        "0000000000000001",
        "00000002",
        "00000003",
        "01",
        "2024012500120000",
        "00000001",
        "000b03ffffff",
        "0020",
        &"dd".repeat(32),
    ]);
    assert_eq!(quote().to_bytes(), expected);
    assert_eq!(Attest::parse(&expected), Ok(quote()));
    for length in 0..expected.len() {
        assert_eq!(Attest::parse(&expected[..length]), Err(WireError::CutOff));
    }
    let safe = 4 + 2 + 36 + 6 + 16;
    let cases = [
        (0, 0, WireError::Magic(0x0054_4347)),
        (5, 0x1A, WireError::AttestType(0x801A)),
        (7, 0x21, WireError::Name),
        (safe, 2, WireError::YesNo(2)),
        (expected.len() - 38, 4, WireError::PcrSelection),
    ];
    for (place, value, error) in cases {
        let mut bytes = expected.clone();
        bytes[place] = value;
        assert_eq!(Attest::parse(&bytes), Err(error), "{place}");
    }
}

#[test]
fn a_selection_of_one_bank_twice_is_refused() {
    let twice = PcrSelection(vec![PcrSelect::all(Algorithm::Sha1); 2]).to_bytes();
    let read = PcrSelection::read(&mut Fields::new(&twice));
    assert_eq!(read, Err(WireError::PcrSelection));
}

#[test]
fn pcrs_are_selected_by_bit() {
    let select = PcrSelect::of(Algorithm::Sha256, [0, 9, 23, 24, 255]);
    assert_eq!(select.pcrs, [0x01, 0x02, 0x80]);
    assert_eq!(select.indices().collect::<Vec<_>>(), [0, 9, 23]);
    assert_eq!(PcrSelect::all(Algorithm::Sha1).indices().count(), 24);
}

#[test]
fn a_signature_has_the_layout_of_tpmt_signature() {
    let rsa = Signature::RsaSsa {
        hash: Algorithm::Sha256,
        signature: vec![0xAB; 2],
    };
    assert_eq!(rsa.to_bytes(), bytes(&["0014", "000b", "0002", "abab"]));
    let ecdsa = Signature::Ecdsa {
        hash: Algorithm::Sha384,
        r: vec![1],
        s: vec![2, 3],
    };
    let expected = bytes(&["0018", "000c", "0001", "01", "0002", "0203"]);
    assert_eq!(ecdsa.to_bytes(), expected);
    assert_eq!(Signature::parse(&expected), Ok(ecdsa));
    let hmac = bytes(&["0005", "000b", "0000"]);
    assert_eq!(Signature::parse(&hmac), Err(WireError::Scheme(5)));
}

/// Commands from TPM 2.0 Library, part 3: TPM2_Startup, and TPM2_PCR_Extend of PCR 16.
#[test]
fn commands_have_the_specifications_layout() {
    let startup = Command::new(cc::STARTUP).u16(0).to_bytes();
    assert_eq!(startup, bytes(&["8001", "0000000c", "00000144", "0000"]));
    let extend = Command::new(cc::PCR_EXTEND)
        .authorized(16, b"")
        .u32(1)
        .u16(Algorithm::Sha1.id())
        .bytes(&[0xEE; 20])
        .to_bytes();
    let expected = bytes(&[
        "8002",
        "00000035",
        "00000182",
        "00000010",
        "00000009",
        "40000009",
        "0000",
        "00",
        "0000",
        "00000001",
        "0004",
        &"ee".repeat(20),
    ]);
    assert_eq!(extend, expected);
    let two = Command::new(cc::NV_WRITE)
        .authorized(rh::PLATFORM, b"pw")
        .handle(0x0140_0001)
        .sized(&[1, 2])
        .u16(0)
        .to_bytes();
    let expected = bytes(&[
        "8002", "00000027", "00000137", "4000000c", "01400001", "0000000b", "40000009", "0000",
        "00", "0002", "7077", "0002", "0102", "0000",
    ]);
    assert_eq!(two, expected);
}

/// What the named commands add to the builder: TPM2_Create, TPM2_Unseal and TPM2_Quote.
#[test]
fn named_commands_have_the_specifications_layout() {
    let create = commands::create(0x8000_0000, b"seal", &[0xAA; 3]);
    let expected = bytes(&[
        "8002", "00000030", "00000153", "80000000", "00000009", "40000009", "0000", "00", "0000",
        "0008", "0000", "0004", "7365616c", "0003", "aaaaaa", "0000", "00000000",
    ]);
    assert_eq!(create, expected);
    let unseal = commands::unseal((0x8000_0000, Authorization::policy(0x0300_0000)));
    let expected = bytes(&[
        "8002", "0000001b", "0000015e", "80000000", "00000009", "03000000", "0000", "01", "0000",
    ]);
    assert_eq!(unseal, expected);
    let pcrs = PcrSelect::of(Algorithm::Sha256, 0..8);
    let quote = commands::quote(1, b"n", Scheme::Ecdsa(Algorithm::Sha384), pcrs);
    let expected = bytes(&[
        "8002",
        "0000002c",
        "00000158",
        "00000001",
        "00000009",
        "40000009",
        "0000",
        "00",
        "0000",
        "0001",
        "6e",
        "0018",
        "000c",
        "00000001",
        "000b03ff0000",
    ]);
    assert_eq!(quote, expected);
}

#[test]
fn an_nv_public_area_has_the_layout_of_tpms_nv_public() {
    let public = NvPublic::new(0x0180_0001, 0x0204_0004, 32);
    let expected = bytes(&["01800001", "000b", "02040004", "0000", "0020"]);
    assert_eq!(public.to_bytes(), expected);
    assert_eq!(NvPublic::parse(&expected), Ok(public));
    for length in 0..expected.len() {
        assert_eq!(NvPublic::parse(&expected[..length]), Err(WireError::CutOff));
    }
    let longer = [expected.as_slice(), &[0]].concat();
    assert_eq!(NvPublic::parse(&longer), Err(WireError::TooLong(1)));
}

#[test]
fn responses_are_read_by_their_tag() {
    let plain = bytes(&["8001", "0000000e", "00000000", "00000007"]);
    let mut response = Response::parse(&plain).unwrap();
    assert_eq!(response.parameters.u32(), Ok(7));
    assert_eq!(response.parameters.end(), Ok(()));
    let sessions = bytes(&[
        "8002", "00000019", "00000000", "80000001", "00000002", "abcd", "0000", "01", "0000",
    ]);
    let response = Response::parse_with_handle(&sessions).unwrap();
    assert_eq!(response.handle, Some(0x8000_0001));
    assert_eq!(response.parameters.rest(), [0xAB, 0xCD]);
    let failed = bytes(&["8001", "0000000a", "00000101"]);
    let code = ResponseError::Code(rc::FAILURE);
    assert_eq!(Response::parse(&failed).unwrap_err(), code);
    let cut_off = &sessions[..sessions.len() - 1];
    let malformed = ResponseError::Malformed;
    assert_eq!(Response::parse(cut_off).unwrap_err(), malformed);
    let mut tag = plain;
    tag[0] = 0;
    assert_eq!(Response::parse(&tag).unwrap_err(), malformed);
}

fn algorithms() -> impl Strategy<Value = Algorithm> {
    proptest::sample::select(Algorithm::ALL.to_vec())
}

fn names() -> impl Strategy<Value = Name> {
    (algorithms(), any::<u8>()).prop_map(|(algorithm, byte)| Name::of(algorithm, &[byte]))
}

fn publics() -> impl Strategy<Value = Public> {
    let symmetric = prop_oneof![
        Just(Symmetric::Null),
        any::<u16>().prop_map(Symmetric::AesCfb)
    ];
    let scheme = algorithms().prop_flat_map(|hash| {
        proptest::sample::select(vec![
            Scheme::Null,
            Scheme::RsaSsa(hash),
            Scheme::RsaPss(hash),
            Scheme::RsaEs,
            Scheme::Oaep(hash),
            Scheme::Ecdsa(hash),
        ])
    });
    let part = || vec_of(any::<u8>(), 0..70);
    let curves = vec![Curve::P256, Curve::P384, Curve::P521];
    let key = prop_oneof![
        (any::<u16>(), any::<u32>(), part()).prop_map(|(bits, exponent, modulus)| Key::Rsa {
            bits,
            exponent,
            modulus
        }),
        (proptest::sample::select(curves), part(), part()).prop_map(|(curve, x, y)| Key::Ecc {
            curve,
            x,
            y
        }),
    ];
    (algorithms(), any::<u32>(), part(), symmetric, scheme, key).prop_map(
        |(name_algorithm, attributes, auth_policy, symmetric, scheme, key)| Public {
            name_algorithm,
            attributes: ObjectAttributes(attributes),
            auth_policy,
            symmetric,
            scheme,
            key,
        },
    )
}

fn attests() -> impl Strategy<Value = Attest> {
    let part = || vec_of(any::<u8>(), 0..70);
    let banks = proptest::sample::subsequence(Algorithm::ALL.to_vec(), 0..=4);
    let selection = (banks, any::<[u8; 3]>()).prop_map(|(banks, pcrs)| {
        PcrSelection(
            banks
                .into_iter()
                .map(|bank| PcrSelect { bank, pcrs })
                .collect(),
        )
    });
    let attested = prop_oneof![
        (selection, part()).prop_map(|(selection, digest)| Attested::Quote { selection, digest }),
        (names(), names()).prop_map(|(name, qualified_name)| Attested::Certify {
            name,
            qualified_name
        }),
    ];
    let clock = (any::<u64>(), any::<u32>(), any::<u32>(), any::<bool>()).prop_map(
        |(clock, reset_count, restart_count, safe)| ClockInfo {
            clock,
            reset_count,
            restart_count,
            safe,
        },
    );
    (names(), part(), clock, any::<u64>(), attested).prop_map(
        |(qualified_signer, extra_data, clock, firmware_version, attested)| Attest {
            qualified_signer,
            extra_data,
            clock,
            firmware_version,
            attested,
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(public in publics(), attest in attests(), hash in algorithms(), r in vec_of(any::<u8>(), 0..300)) {
        prop_assert_eq!(Public::parse_sized(&public.to_sized_bytes()), Ok(public));
        prop_assert_eq!(Attest::parse(&attest.to_bytes()), Ok(attest));
        let signatures = [
            Signature::RsaSsa { hash, signature: r.clone() },
            Signature::RsaPss { hash, signature: r.clone() },
            Signature::Ecdsa { hash, s: r.clone(), r },
        ];
        for signature in signatures {
            prop_assert_eq!(Signature::parse(&signature.to_bytes()), Ok(signature));
        }
    }

    #[test]
    fn what_is_read_is_written_as_it_was(
        public in publics(),
        attest in attests(),
        place in any::<proptest::sample::Index>(),
        value in any::<u8>(),
        noise in vec_of(any::<u8>(), 0..200),
    ) {
        let mut public = public.to_bytes();
        let mut attest = attest.to_bytes();
        for bytes in [&mut public, &mut attest] {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        for bytes in [public, attest, noise] {
            if let Ok(public) = Public::parse(&bytes) {
                prop_assert_eq!(public.to_bytes(), bytes.as_slice());
            }
            if let Ok(attest) = Attest::parse(&bytes) {
                prop_assert_eq!(attest.to_bytes(), bytes.as_slice());
            }
            if let Ok(signature) = Signature::parse(&bytes) {
                prop_assert_eq!(signature.to_bytes(), bytes.as_slice());
            }
            let _ = Response::parse_with_handle(&bytes);
        }
    }
}
