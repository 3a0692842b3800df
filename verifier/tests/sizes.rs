//! Hostile sizes: for every list in every format that the verifier reads, four times the list takes far less than sixteen
//! times as long. What is refused for its size is refused at once.
//!
//! Time is that which the thread had a processor for, and the least of several runs: other work on the machine does not
//! count. A list that was compared with itself would take sixteen times as long.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

use attestation::{
    bundle::Bundle,
    claims::Claims,
    digest::{Algorithm, Digest, Digests, sha384},
    event_log::{
        EV_EFI_PLATFORM_FIRMWARE_BLOB2, EV_IPL, Log, SpecId, TcgLog, cc_record, replay_pcrs,
        replay_rtmrs,
    },
    journal::Record,
    report::Report,
    tpm::{Attest, Fields, Name, PcrSelect, PcrSelection, Public, Signature},
};
use evidence::{Boot, Evidence};
use p256::ecdsa::{SigningKey, signature::Signer};
use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};
use verifier::{
    About, Account, Id,
    account::File,
    certificate::{Certificate, CertificateError, Contents, crl_issuer, from_pem},
    collateral::Signed,
    policy::{Allowed, KnownEks},
    quote::TdQuote,
};
use zerocopy::IntoBytes;

static HONEST: LazyLock<Evidence> = LazyLock::new(|| Boot::default().evidence());

/// How long this thread has had a processor.
fn processor_time() -> Option<Duration> {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = statistics.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// The least that `work` takes in three runs.
fn time(mut work: impl FnMut()) -> Duration {
    let run = |work: &mut dyn FnMut()| {
        let (clock, before) = (Instant::now(), processor_time());
        work();
        match before.zip(processor_time()) {
            Some((before, after)) if after > before => after - before,
            _ => clock.elapsed(),
        }
    };
    (0..3).map(|_| run(&mut work)).min().unwrap()
}

/// What a run may differ by for reasons of its own.
const NOISE: Duration = Duration::from_millis(10);

/// That `read` takes time linear in the list that `make` gives so many entries.
#[track_caller]
fn linear<T>(what: &str, entries: usize, make: impl Fn(usize) -> T, read: impl Fn(&T)) {
    let [one, four] = [entries, 4 * entries].map(|entries| {
        let input = make(entries);
        time(|| read(&input))
    });
    assert!(
        four < 10 * one + NOISE,
        "{what}: {entries} entries take {one:?}, four times as many {four:?}"
    );
}

/// A value in DER, with its header.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let header = match content.len() {
        0..0x80 => vec![tag, length[3]],
        _ => [&[tag, 0x84][..], &length].concat(),
    };
    [minimal(header), content.to_vec()].concat()
}

/// DER's lengths have no zeros in front.
fn minimal(header: Vec<u8>) -> Vec<u8> {
    let [tag, 0x84, length @ ..] = &header[..] else {
        return header;
    };
    let zeros = length.iter().take_while(|byte| **byte == 0).count();
    [&[*tag, 0x84 - zeros as u8][..], &length[zeros..]].concat()
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// An object identifier of its own for each number: 1.2 and two arcs.
fn identifier(number: usize) -> Vec<u8> {
    let arcs = [number >> 14 & 0x7F, number >> 7 & 0x7F, number & 0x7F];
    let [high, middle, low] = arcs.map(|arc| arc as u8);
    der(6, &[0x2A, 0x81, 0x80 | high, 0x80 | middle, low])
}

fn extensions(count: usize) -> Vec<u8> {
    let one = |number| der(SEQUENCE, &[identifier(number), der(4, b"x")].concat());
    der(SEQUENCE, &(0..count).flat_map(one).collect::<Vec<_>>())
}

/// A name with so many attributes in one set, in the order that takes sorting longest.
fn name(attributes: usize) -> Vec<u8> {
    let one = |number| {
        let value = der(0x0C, format!("{:08}", attributes - number).as_bytes());
        der(SEQUENCE, &[identifier(number), value].concat())
    };
    let set = der(SET, &(0..attributes).flat_map(one).collect::<Vec<_>>());
    der(SEQUENCE, &set)
}

/// A certificate that signs itself.
fn certificate(name: &[u8], spki_padding: usize, extensions: &[u8]) -> Vec<u8> {
    let key = SigningKey::from_slice(&[5; 32]).unwrap();
    // id-ecPublicKey, prime256v1; ecdsa-with-SHA256.
    let algorithm = [
        der(6, &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 2, 1]),
        der(6, &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7]),
    ];
    let signature_algorithm = der(SEQUENCE, &der(6, &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2]));
    let point = key.verifying_key().to_sec1_point(false);
    let point = [&[0][..], point.as_bytes(), &vec![0; spki_padding]].concat();
    let spki = [der(SEQUENCE, &algorithm.concat()), der(3, &point)].concat();
    let validity = [b"700101000000Z", b"491231235959Z"].map(|time| der(0x17, time));
    let signed = der(
        SEQUENCE,
        &[
            der(0xA0, &der(2, &[2])),
            der(2, &[1]),
            signature_algorithm.clone(),
            name.to_vec(),
            der(SEQUENCE, &validity.concat()),
            name.to_vec(),
            der(SEQUENCE, &spki),
            der(0xA3, extensions),
        ]
        .concat(),
    );
    let signature: p256::ecdsa::DerSignature = key.sign(&signed);
    let signature = der(3, &[&[0][..], signature.as_bytes()].concat());
    der(SEQUENCE, &[signed, signature_algorithm, signature].concat())
}

#[test]
fn extensions_of_a_certificate() {
    let few = certificate(&name(1), 0, &extensions(3));
    let few = Certificate::parse(&few).unwrap();
    assert!(few.open(&few).is_ok());
    linear(
        "extensions, signed",
        30_000,
        |count| certificate(&name(1), 0, &extensions(count)),
        |der| {
            let certificate = Certificate::parse(der).unwrap();
            let opened = certificate.open(&certificate);
            assert_eq!(opened.unwrap_err(), CertificateError::TooManyExtensions);
        },
    );
    // The one that took 68 s.
    let mut evidence = HONEST.clone();
    evidence.bundle.ca_certificate.0 = certificate(&name(1), 0, &extensions(110_000));
    let failures: Vec<Id> = evidence.verify().failures().collect();
    assert!(failures.contains(&Id::CaCertificate), "{failures:?}");
}

#[test]
fn names_keys_and_purposes_of_a_certificate() {
    linear(
        "attributes of a name",
        5_000,
        |count| certificate(&name(count), 0, &extensions(1)),
        |der| assert!(Certificate::parse(der).is_err()),
    );
    linear(
        "bytes of a key",
        100_000,
        |count| certificate(&name(1), count, &extensions(1)),
        |der| assert!(Certificate::parse(der).is_err()),
    );
    let san = der(6, &[0x55, 0x1D, 0x11]);
    let extended_key_usage = der(6, &[0x55, 0x1D, 0x25]);
    let with = |id: &[u8], content: Vec<u8>| {
        let extension = der(SEQUENCE, &[id, &der(4, &content)].concat());
        der(SEQUENCE, &extension)
    };
    linear(
        "alternative names",
        20_000,
        |count| with(&san, der(SEQUENCE, &der(0x82, b"a").repeat(count))),
        |der| {
            let contents = Contents::parse(der).unwrap();
            assert!(contents.alternative_directory_name().is_err());
        },
    );
    linear(
        "attributes of an alternative name",
        5_000,
        |count| with(&san, der(SEQUENCE, &der(0xA4, &name(count)))),
        |der| {
            let contents = Contents::parse(der).unwrap();
            assert!(contents.alternative_directory_name().is_err());
        },
    );
    linear(
        "purposes",
        20_000,
        |count| {
            let purposes: Vec<u8> = (0..count).flat_map(identifier).collect();
            with(&extended_key_usage, der(SEQUENCE, &purposes))
        },
        |der| {
            let contents = Contents::parse(der).unwrap();
            assert!(contents.has_purpose("1.2.3".parse().unwrap()).is_err());
        },
    );
}

#[test]
fn certificates_of_a_chain_and_entries_of_a_crl() {
    let pem = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
    linear(
        "certificates of a PEM text",
        10_000,
        |count| pem.repeat(count),
        |text| drop(from_pem(text)),
    );
    linear(
        "what is no certificate in a PEM text",
        20_000,
        |count| "-----BEGIN CERTIFICATE----\n".repeat(count),
        |text| drop(from_pem(text)),
    );
    let authority = name(1);
    linear(
        "entries of a CRL",
        20_000,
        |count| {
            let entry = [der(2, &[1]), der(0x17, b"700101000000Z")].concat();
            let signed = [
                der(2, &[1]),
                der(SEQUENCE, &identifier(1)),
                authority.clone(),
                der(0x17, b"700101000000Z"),
                der(SEQUENCE, &der(SEQUENCE, &entry).repeat(count)),
            ];
            der(SEQUENCE, &der(SEQUENCE, &signed.concat()))
        },
        |crl| assert_eq!(crl_issuer(crl), Some(authority.as_slice())),
    );
}

#[test]
fn members_of_a_bundle() {
    let json = HONEST.bundle.to_json().unwrap();
    let verify = |json: &String| {
        let report = HONEST.verify_file(json.as_bytes());
        assert!(!report.is_trusted());
    };
    linear(
        "values of a PCR bank",
        20_000,
        |count| {
            let values = "\"00\",".repeat(count);
            json.replacen("\"sha1\": [", &format!("\"sha1\": [{values}"), 1)
        },
        verify,
    );
    linear(
        "members that are not known",
        20_000,
        |count| {
            let members: String = (0..count)
                .map(|number| format!("\"m{number}\":0,"))
                .collect();
            json.replacen('{', &format!("{{{members}"), 1)
        },
        verify,
    );
    linear(
        "EK certificates",
        20_000,
        |count| {
            let members = "\"\",".repeat(count);
            let list = "\"ek_certificates\": [";
            json.replacen(list, &format!("{list}{members}"), 1)
        },
        verify,
    );
    linear(
        "bytes of the nonce",
        500_000,
        |count| {
            json.replacen(
                "\"nonce\": \"",
                &format!("\"nonce\": \"{}", "0".repeat(count)),
                1,
            )
        },
        verify,
    );
    for edit in [
        |bundle: &mut Bundle, size| bundle.report.0.resize(size, 0),
        |bundle: &mut Bundle, size| bundle.cc_event_log.0.resize(4 * size, 0),
        |bundle: &mut Bundle, size| bundle.ak_public.0.resize(size, 0),
        |bundle: &mut Bundle, size| bundle.quote.attest.0.resize(size, 0),
        |bundle: &mut Bundle, size| bundle.ak_certificate.0.resize(size, 0),
    ] {
        let mut evidence = HONEST.clone();
        edit(&mut evidence.bundle, 3 << 20);
        let failures: Vec<Id> = evidence.verify().failures().collect();
        assert_eq!(failures, [Id::BundleFormat]);
    }
}

/// A CC event log with so many events that L1 or td-shim could have measured.
fn cc_log(events: usize, event_type: u32, data: &[u8]) -> Vec<u8> {
    let mut log = SpecId::new([0; 7]).as_bytes().to_vec();
    let record = cc_record(0, event_type, sha384(data), data).unwrap();
    log.extend(record.repeat(events));
    log
}

#[test]
fn events_of_the_logs() {
    linear(
        "events of a CC event log",
        5_000,
        |count| cc_log(count, EV_IPL, b"kernel"),
        |log| {
            let log = Log::parse(log).unwrap();
            replay_rtmrs(&log.events).unwrap();
        },
    );
    linear(
        "the same in a bundle, explained as text, as JSON and as a page",
        5_000,
        |count| {
            let mut evidence = HONEST.clone();
            evidence.bundle.cc_event_log.0 = cc_log(count, EV_IPL, b"kernel");
            evidence
        },
        |evidence| {
            let report = evidence.verify();
            assert!(!report.is_trusted());
            verifier::explain(&evidence.bundle);
            let file = || File::new("file", b"");
            let about = About {
                verifier: "1",
                time: String::new(),
                nonce: String::new(),
                evidence: file(),
                policy: file(),
                root_sha256: String::new(),
            };
            let account = Account::new(report, about, Some(&evidence.bundle));
            serde_json::to_string(&account).unwrap();
            verifier::page(&account);
        },
    );
    linear(
        "events of a TCG event log",
        2_000,
        |count| {
            let mut log = TcgLog::new(attestation::pcr::PcrBanks::ALL);
            for _ in 0..count {
                log.append(4, EV_IPL, &Digests::of(b"kernel"), b"kernel");
            }
            log.into_bytes()
        },
        |log| drop(replay_pcrs(&Log::parse(log).unwrap()).unwrap()),
    );
    linear(
        "algorithms of a log",
        100_000,
        |count| {
            let mut log = TcgLog::new(attestation::pcr::PcrBanks::ALL).into_bytes();
            // Behind register, type, digest and size: signature, class and versions; then the count.
            let algorithms = 32 + 24;
            let size = 16 + 4 + 4 + 4 + 4 * count as u32 + 1;
            log[28..32].copy_from_slice(&size.to_le_bytes());
            log[algorithms..algorithms + 4].copy_from_slice(&(count as u32).to_le_bytes());
            log.truncate(algorithms + 4);
            log.extend([0x0B, 0, 32, 0].repeat(count));
            log.push(0);
            log
        },
        |log| assert!(Log::parse(log).is_err()),
    );
    linear(
        "digests of an event",
        50_000,
        |count| {
            let mut log = TcgLog::new(attestation::pcr::PcrBanks::ALL).into_bytes();
            log.extend(4u32.to_le_bytes());
            log.extend(EV_IPL.to_le_bytes());
            log.extend((count as u32).to_le_bytes());
            log.extend([&[4, 0][..], &[0; 20]].concat().repeat(count));
            log
        },
        |log| assert!(Log::parse(log).is_err()),
    );
}

/// Nothing of these is refused: an honest firmware that measures much, and a policy that lists much.
#[test]
fn a_long_log_and_a_long_policy_in_a_bundle_that_is_trusted() {
    linear(
        "events that the firmware measured, by a policy of as many",
        40,
        |count| {
            let data = |number: usize| format!("\x0btd_payload\0{number}").into_bytes();
            let event = |number| (1, EV_EFI_PLATFORM_FIRMWARE_BLOB2, data(number));
            let boot = Boot {
                secure_boot_events: (0..count).map(event).collect(),
                ..Boot::default()
            };
            let mut evidence = boot.evidence();
            let number = |number: usize| sha384(&number.to_le_bytes());
            let policy = &mut evidence.policy;
            policy.firmware.other = (0..count).map(|number| sha384(&data(number))).collect();
            policy.firmware.other.extend((0..1000 * count).map(number));
            for list in [
                &mut policy.td.mrtd,
                &mut policy.firmware.td_hob,
                &mut policy.launch.kernel,
                &mut policy.launch.command_line,
                &mut policy.launch.initrd,
            ] {
                let Allowed::OneOf(values) = list else {
                    panic!("the policy names everything");
                };
                values.splice(0..0, (0..1000 * count).map(number));
            }
            let own = first_ek(&evidence).expect("the report names the EKs");
            // The last of the list, and another size of name before it.
            let other = Name::new(&[&[0, 4][..], &[0; 20]].concat()).expect("of SHA-1");
            let mut names = vec![other; 1000 * count];
            names.push(own);
            evidence.policy.vtpm.ek = KnownEks::OneOf(names);
            evidence
        },
        |evidence| assert_eq!(evidence.verify().first_failure(), None),
    );
}

/// The name of the vTPM's first EK.
fn first_ek(evidence: &Evidence) -> Option<Name> {
    let report = evidence.verify();
    let found = &report.check(Id::EkNames)?.found;
    Name::new(&hex::decode(found.split(' ').next()?).ok()?)
}

#[test]
fn items_of_a_record_of_the_journal() {
    let digests = vec![Digest::zero(Algorithm::Sha256); 16];
    let most = Record::PcrExtend { pcr: 1, digests }.to_cbor();
    assert!(Record::from_cbor(&most).is_ok());
    // CBOR: array(4) of 9, 1, 1 and an array with a count of 32 bits.
    let pcr_extend = |count: usize| {
        let mut cbor = vec![0x84, 9, 1, 1, 0x9A];
        cbor.extend((count as u32).to_be_bytes());
        let digest = [&[0x82, 0x0B, 0x58, 32][..], &[0; 32]].concat();
        cbor.extend(digest.repeat(count));
        cbor
    };
    linear("digests of a record", 20_000, pcr_extend, |cbor| {
        assert!(Record::from_cbor(cbor).is_err());
    });
    linear(
        "items of a record",
        200_000,
        |count| {
            let mut cbor = vec![0x9A];
            cbor.extend((count as u32).to_be_bytes());
            cbor.extend([3, 1]);
            cbor.extend(vec![0; count]);
            cbor
        },
        |cbor| assert!(Record::from_cbor(cbor).is_err()),
    );
    linear(
        "arrays in arrays, and maps",
        200_000,
        |count| [vec![0x81; count], vec![0xA1; count]].concat(),
        |cbor| assert!(Record::from_cbor(cbor).is_err()),
    );
    linear(
        "bytes of a parameter",
        500_000,
        |count| {
            Record::Hierarchy {
                command: 1,
                handle: 2,
                parameters: vec![0; count],
            }
            .to_cbor()
        },
        |cbor| drop(Record::from_cbor(cbor).unwrap()),
    );
    linear(
        "characters of a name of an engine",
        500_000,
        |count| {
            let mut cbor = vec![0x8A, 1, 1, 0x7A];
            cbor.extend((count as u32).to_be_bytes());
            cbor.extend(vec![b'a'; count]);
            cbor
        },
        |cbor| assert!(Record::from_cbor(cbor).is_err()),
    );
}

#[test]
fn structures_of_the_tpm_and_claims() {
    linear(
        "banks of a PCR selection",
        100_000,
        |count| {
            let selection = PcrSelection::from(PcrSelect::all(Algorithm::Sha256)).to_bytes();
            let one = &selection[4..];
            [&(count as u32).to_be_bytes()[..], &one.repeat(count)].concat()
        },
        |bytes| assert!(PcrSelection::read(&mut Fields::new(bytes)).is_err()),
    );
    let bundle = &HONEST.bundle;
    for (what, structure) in [
        ("an attestation structure", &bundle.quote.attest.0),
        ("a signature", &bundle.quote.signature.0),
        ("a public area", &bundle.ak_public.0),
    ] {
        linear(
            what,
            500_000,
            |count| [&structure[..], &vec![0; count]].concat(),
            |bytes| {
                assert!(Attest::parse(bytes).is_err());
                assert!(Signature::parse(bytes).is_err());
                assert!(Public::parse_sized(bytes).is_err());
            },
        );
    }
    let claims = Report::parse(&bundle.report.0).unwrap().claims;
    let claims = Claims::from_json(claims).unwrap();
    linear(
        "bytes of the modulus in the claims",
        200_000,
        |count| {
            let mut claims = claims.clone();
            claims.ak_modulus = vec![0xFF; count];
            claims.to_json()
        },
        |json| drop(Claims::from_json(json).unwrap()),
    );
}

#[test]
fn certification_data_of_a_quote() {
    let quote = &HONEST.bundle.td_quote.as_ref().unwrap().0;
    assert!(TdQuote::parse(quote).is_ok());
    // Header, body, length, signature, key, type and length of the certification; the enclave's report and its signature.
    let authentication = 48 + 584 + 4 + 64 + 64 + 6 + 384 + 64;
    linear(
        "authentication data",
        10_000,
        |count| {
            let mut quote = quote.clone();
            let size = (count as u16).to_le_bytes();
            quote[authentication..authentication + 2].copy_from_slice(&size);
            quote.extend(vec![0; count]);
            quote
        },
        |quote| assert!(TdQuote::parse(quote).is_err()),
    );
    linear(
        "certificates",
        1_000,
        |count| {
            let mut quote = quote.clone();
            let at = quote
                .windows(11)
                .position(|text| text == b"-----BEGIN ")
                .unwrap();
            let pem = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
            let chain = pem.repeat(count);
            for (place, inside) in [
                (at - 4, 0),
                (authentication - 64 - 384 - 4, at - (authentication - 448)),
            ] {
                let size = (chain.len() + inside) as u32;
                quote[place..place + 4].copy_from_slice(&size.to_le_bytes());
            }
            quote.truncate(at);
            quote.extend(chain.as_bytes());
            quote
        },
        |quote| assert!(TdQuote::parse(quote).is_err()),
    );
    linear(
        "bytes behind the quote",
        500_000,
        |count| [&quote[..], &vec![0; count]].concat(),
        |quote| drop(TdQuote::parse(quote)),
    );
}

#[test]
fn hobs_of_a_list() {
    let hob = |kind: u16| [&kind.to_le_bytes()[..], &[8, 0, 0, 0, 0, 0]].concat();
    linear(
        "HOBs",
        50_000,
        // The hand-off table, then the smallest HOBs that there are.
        |count| [hob(1), hob(0xFFFE).repeat(count)].concat(),
        |list| assert!(tdshim_config::hob_list::walk(list).count() > 50_000),
    );
}

#[test]
fn lists_of_the_collateral() {
    let advisories = |count: usize| -> String {
        let advisories: Vec<String> = (0..count)
            .map(|number| format!("\"INTEL-SA-{number:05}\""))
            .collect();
        advisories.join(",")
    };
    let with = |list: &str, entries: String| {
        let mut evidence = HONEST.clone();
        let info: &mut Signed = &mut evidence.collateral.tcb_infos[0];
        // Behind the lists of the TDX module's identities, which have the same name.
        let start = format!("\"{list}\":[");
        let at = info.body.rfind(&start).expect("the list is there") + start.len();
        info.body.insert_str(at, &entries);
        evidence
    };
    let level = {
        let body = &HONEST.collateral.tcb_infos[0].body;
        let start = body.rfind("\"tcbLevels\":[").unwrap() + "\"tcbLevels\":[".len();
        let mut depth = 0;
        let end = body[start..].find(|character| {
            depth += match character {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            depth == 0
        });
        body[start..=start + end.unwrap()].to_owned()
    };
    let refused = |evidence: &Evidence| {
        let failures: Vec<Id> = evidence.verify().failures().collect();
        assert_eq!(failures, [Id::QuoteTcb]);
    };
    linear(
        "TCB levels",
        1_000,
        |count| with("tcbLevels", format!("{level},").repeat(count)),
        refused,
    );
    linear(
        "advisories",
        5_000,
        |count| {
            let level = level.replacen(
                '{',
                &format!("{{\"advisoryIDs\":[{}],", advisories(count)),
                1,
            );
            with("tcbLevels", format!("{level},"))
        },
        refused,
    );
    let report = with("tcbLevels", format!("{level},").repeat(2_000)).verify();
    let failure = report.first_failure().unwrap();
    assert!(failure.found.contains("1024"), "{failure:?}");
}
