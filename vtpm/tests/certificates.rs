//! Certificates: who signs what, what stands in them, and that other software accepts them.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

mod support;

use std::sync::Mutex;

use attestation::claims::ca_report_data;
use attestation::digest::sha384;
use attestation::event_log::{Log, SpecId, cc_record};
use attestation::journal::Record;
use attestation::tpm::{rh, template};
use const_oid::ObjectIdentifier;
use der::asn1::OctetString;
use der::{Decode, Encode};
use p384::ecdsa::signature::Verifier;
use p384::ecdsa::{DerSignature, VerifyingKey};
use spki::DecodePublicKey;
use support::trust_domain::{Host, quote_of};
use support::{Session, Setup, command};
use tdx_defs::report::TdReport;
use vtpm::QuoteError;
use vtpm::identity::{CC_EVENT_LOG, TD_QUOTE};
use x509_cert::Certificate;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName,
    SubjectDirectoryAttributes, SubjectKeyIdentifier,
};
use x509_cert::name::Name;
use zerocopy::IntoBytes;

const EKS: [u32; 3] = [rh::NV_EK_RSA_2048, rh::NV_EK_P256, rh::NV_EK_P384];

fn read(session: &mut Session, index: u32) -> Certificate {
    Certificate::from_der(&session.nv_read(index)).expect("a certificate and nothing else")
}

/// The CA's certificate from all indices of its chain.
fn authority_der(session: &mut Session) -> Vec<u8> {
    let pieces = command::nv_indices(session)
        .into_iter()
        .filter(|index| index >> 8 == rh::NV_EK_CHAIN >> 8);
    let mut certificate = Vec::new();
    for (number, index) in pieces.enumerate() {
        assert_eq!(index, rh::NV_EK_CHAIN + number as u32, "no gap");
        let piece = session.nv_read(index);
        assert!(piece.len() <= 2048);
        certificate.extend(piece);
    }
    certificate
}

fn authority(session: &mut Session) -> Certificate {
    let der = authority_der(session);
    Certificate::from_der(&der).expect("one certificate")
}

fn extension(certificate: &Certificate, oid: ObjectIdentifier) -> Vec<u8> {
    let extensions = certificate.tbs_certificate().extensions().unwrap();
    let found = extensions.iter().find(|extension| extension.extn_id == oid);
    let found = found.expect("the extension is there");
    assert!(!found.critical);
    OctetString::from_der(found.extn_value.as_bytes())
        .unwrap()
        .into_bytes()
        .into()
}

fn public_key(certificate: &Certificate) -> Vec<u8> {
    certificate
        .tbs_certificate()
        .subject_public_key_info()
        .to_der()
        .unwrap()
}

#[track_caller]
fn assert_signed_by(certificate: &Certificate, issuer: &Certificate) {
    let key = VerifyingKey::from_public_key_der(&public_key(issuer)).unwrap();
    let signature = DerSignature::try_from(certificate.signature().raw_bytes()).unwrap();
    let signed = certificate.tbs_certificate().to_der().unwrap();
    key.verify(&signed, &signature).expect("the signature");
    assert_eq!(
        certificate.tbs_certificate().issuer(),
        issuer.tbs_certificate().subject()
    );
    let get = |certificate: &Certificate| {
        certificate
            .tbs_certificate()
            .get_extension::<SubjectKeyIdentifier>()
            .unwrap()
            .unwrap()
            .1
    };
    let (_, of_issuer) = certificate
        .tbs_certificate()
        .get_extension::<AuthorityKeyIdentifier>()
        .unwrap()
        .unwrap();
    assert_eq!(of_issuer.key_identifier, Some(get(issuer).0));
}

/// A name with part of the key's digest.
#[track_caller]
fn assert_names(name: &Name, what: &str) {
    let name = name.to_string();
    let digest = name.strip_prefix(&format!("CN=TDP vTPM {what} "));
    let digest = digest.expect("a name of ours");
    assert!(digest.len() == 16 && u64::from_str_radix(digest, 16).is_ok());
}

#[test]
fn ek_certificates_follow_the_credential_profile() {
    let mut session = Setup::default().start();
    let authority = authority(&mut session);
    for (index, agrees) in EKS.into_iter().zip([false, true, true]) {
        let certificate = read(&mut session, index);
        assert_signed_by(&certificate, &authority);
        let tbs = certificate.tbs_certificate();
        assert_names(tbs.subject(), "EK");

        let (critical, constraints): (_, BasicConstraints) = tbs.get_extension().unwrap().unwrap();
        assert!(critical && !constraints.ca);
        let (critical, usage): (_, KeyUsage) = tbs.get_extension().unwrap().unwrap();
        assert!(critical);
        assert_eq!(
            (usage.key_encipherment(), usage.key_agreement()),
            (!agrees, agrees)
        );
        assert!(!usage.digital_signature() && !usage.key_cert_sign());
        let (_, extended): (_, ExtendedKeyUsage) = tbs.get_extension().unwrap().unwrap();
        assert_eq!(extended.0, [ObjectIdentifier::new_unwrap("2.23.133.8.1")]);

        let (critical, names): (_, SubjectAltName) = tbs.get_extension().unwrap().unwrap();
        assert!(!critical, "there is a subject");
        let [GeneralName::DirectoryName(name)] = &names.0[..] else {
            panic!("{names:?}");
        };
        let parts: Vec<_> = name
            .iter()
            .map(|part| {
                let value = std::str::from_utf8(part.value.value()).unwrap();
                (part.oid.to_string(), value.to_owned())
            })
            .collect();
        let part = |oid: &str, value: &str| (oid.to_owned(), value.to_owned());
        // TPM_PT_FIRMWARE_VERSION_1 and TPM_PT_REVISION.
        let (firmware, revision) = match tpm2_ref_sys::ENGINE {
            engine if engine.starts_with("libtpms 0.9.2-") => ("id:20191023", 164),
            _ => ("id:20240125", 183),
        };
        assert_eq!(
            parts,
            [
                part("2.23.133.2.1", "id:49424D00"),
                part("2.23.133.2.2", "SW   TPM"),
                part("2.23.133.2.3", firmware),
            ]
        );
        let (_, attributes): (_, SubjectDirectoryAttributes) =
            tbs.get_extension().unwrap().unwrap();
        let [specification] = &attributes.0[..] else {
            panic!("{attributes:?}");
        };
        assert_eq!(specification.oid.to_string(), "2.23.133.2.16");
        // SEQUENCE { UTF8String "2.0", INTEGER 0, INTEGER revision }
        let expected = [
            0x30, 12, 0x0c, 3, b'2', b'.', b'0', 2, 1, 0, 2, 2, 0, revision,
        ];
        assert_eq!(
            specification.values.get(0).unwrap().to_der().unwrap(),
            expected
        );
    }
}

#[test]
fn certified_keys_are_those_of_the_journal() {
    let mut session = Setup::default().start();
    // What the TPM makes of the templates, as any client asks for it.
    let templates = [
        template::ek_rsa_2048(),
        template::ek_p256(),
        template::ek_p384(),
    ];
    for ((index, template), name) in EKS
        .into_iter()
        .zip(templates)
        .zip(session.tpm.ek_names().unwrap().clone())
    {
        let create = command::create_primary(rh::ENDORSEMENT, &template);
        let response = session.execute(&create);
        let response = attestation::tpm::Response::parse_with_handle(&response).unwrap();
        let mut fields = response.parameters;
        let public = attestation::tpm::Public::parse(fields.sized().unwrap()).unwrap();
        assert_eq!(public.name(), name);
        let certified = public_key(&read(&mut session, index));
        let key = match &public.key {
            attestation::tpm::Key::Rsa { modulus, .. } => modulus.clone(),
            attestation::tpm::Key::Ecc { x, y, .. } => [x.as_slice(), y].concat(),
        };
        assert!(
            certified.windows(key.len()).any(|part| part == key),
            "the certificate's key is the TPM's"
        );
        session.ok(&command::flush_context(response.handle.unwrap()));
    }
}

#[test]
fn the_ak_certificate_is_for_attestation() {
    let mut session = Setup::default().start();
    let authority = authority(&mut session);
    let certificate = read(&mut session, rh::NV_AK_CERTIFICATE);
    assert_signed_by(&certificate, &authority);
    let tbs = certificate.tbs_certificate();
    let (_, usage): (_, KeyUsage) = tbs.get_extension().unwrap().unwrap();
    assert!(usage.digital_signature() && !usage.key_encipherment());
    let (_, extended): (_, ExtendedKeyUsage) = tbs.get_extension().unwrap().unwrap();
    assert_eq!(extended.0, [ObjectIdentifier::new_unwrap("2.23.133.8.3")]);
    assert_names(tbs.subject(), "AK");
    let (critical, _): (_, SubjectAltName) = tbs.get_extension().unwrap().unwrap();
    assert!(!critical);
}

#[test]
fn the_authority_is_bound_to_the_td_and_to_the_journal() {
    let mut session = Setup::default().start();
    let certificate = authority(&mut session);
    assert_signed_by(&certificate, &certificate);
    let key = public_key(&certificate);
    let Some(Record::Start(start)) = session.journal().into_iter().next() else {
        panic!("no start");
    };
    assert_eq!(start.ca, sha384(&key));

    let quote = extension(&certificate, TD_QUOTE);
    let log = extension(&certificate, CC_EVENT_LOG);
    assert_eq!(quote[48 + 520..48 + 584], ca_report_data(&key));
    // The quote's RTMRs are explained by the log beside it.
    let log = Log::parse(&log).unwrap();
    let rtmrs = attestation::event_log::replay_rtmrs(&log.events).unwrap();
    assert_eq!(quote[48 + 328..48 + 520], *rtmrs.as_flattened());
}

#[test]
fn a_quote_that_comes_late_takes_the_place_of_the_report() {
    let setup = Setup::default();
    setup.td.script().host = Host::Silent;
    let mut session = setup.start();
    // The clients that list the indices and then read them get a whole certificate each time.
    let first = authority(&mut session);
    let report = extension(&first, TD_QUOTE);
    assert_eq!(report.len(), 1024);
    let report: [u8; 1024] = report.try_into().unwrap();
    let parsed: &TdReport = zerocopy::transmute_ref!(&report);
    assert_eq!(
        parsed.report_mac.report_data,
        ca_report_data(&public_key(&first))
    );
    assert_eq!(authority(&mut session), first);

    // The answer arrives while somebody is reading.
    session.nv_read(rh::NV_EK_CHAIN);
    session.td.script().host = Host::Prompt;
    let rest = command::nv_read(rh::OWNER, rh::NV_EK_CHAIN, 0, 100);
    session.ok(&rest);
    let der = first.to_der().unwrap();
    assert_eq!(session.ok(&rest)[2..], der[..100]);

    let second = authority(&mut session);
    assert_eq!(extension(&second, TD_QUOTE), quote_of(&report));
    assert_eq!(public_key(&second), public_key(&first));
    assert_ne!(
        second.tbs_certificate().serial_number(),
        first.tbs_certificate().serial_number()
    );
    assert_signed_by(&read(&mut session, rh::NV_EK_P256), &second);
}

#[test]
fn a_quote_that_failed_is_asked_for_again_with_the_next_report() {
    let setup = Setup::default();
    setup.td.script().host = Host::Refuses(QuoteError::NoService);
    let mut session = setup.start();
    assert_eq!(extension(&authority(&mut session), TD_QUOTE).len(), 1024);
    session.td.script().host = Host::Prompt;
    assert_eq!(extension(&authority(&mut session), TD_QUOTE).len(), 1024);
    let user_data = attestation::window::NV_USER_DATA;
    session.ok(&command::nv_write(rh::OWNER, user_data, 0, &[1; 64]));
    // The relying party's is served first.
    for _ in 0..2 {
        authority(&mut session);
    }
    assert!(extension(&authority(&mut session), TD_QUOTE).len() > 1024);
}

#[test]
fn a_quote_that_is_too_long_is_left_out() {
    let setup = Setup::default();
    setup.td.script().host = Host::Silent;
    let mut session = setup.start();
    let report = session.td.script().asked[0];
    let mut quote = quote_of(&report);
    quote.resize(40_000, 0);
    session.td.script().host = Host::Lies(quote);
    for _ in 0..2 {
        let certificate = authority(&mut session);
        assert_eq!(extension(&certificate, TD_QUOTE), report);
    }
}

/// Lines that the vTPM has logged about certificates.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Warnings;

impl log::Log for Warnings {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.level() == log::Level::Warn {
            WARNINGS.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Firmware with very many events: the chain is not there, the log of L1 says why, once, and
/// everything else works.
#[test]
fn a_certificate_that_its_indices_have_no_room_for_is_told_of_once() {
    log::set_logger(&Warnings).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let mut firmware = SpecId::new(*b"td-shim").as_bytes().to_vec();
    for number in 0..800_u32 {
        let digest = sha384(&number.to_le_bytes());
        firmware.extend(cc_record(1, 4, digest, &number.to_le_bytes()).unwrap());
    }
    let setup = Setup {
        firmware_log: Some(firmware),
        ..Setup::default()
    };
    let mut session = setup.start();
    for _ in 0..3 {
        assert!(authority_der(&mut session).is_empty(), "no part of one");
    }
    for index in EKS {
        read(&mut session, index);
    }
    let warnings = WARNINGS.lock().unwrap();
    let about: Vec<_> = warnings
        .iter()
        .filter(|line| line.contains("NV indices"))
        .collect();
    assert_eq!(about.len(), 2, "{about:?}");
    assert!(
        about[0].contains("with its TD quote, and its NV indices have room for 32768"),
        "{about:?}"
    );
    assert!(about[1].contains("with its TDREPORT"), "{about:?}");
}

/// What a guest could try to write with, or take away.
#[test]
fn nobody_but_l1_writes_or_removes_certificates() {
    let mut session = Setup::default().start();
    let authority = authority_der(&mut session);
    assert!(authority.len() > 2048);
    let last = rh::NV_EK_CHAIN + (authority.len() / 2048) as u32;
    for index in [
        rh::NV_EK_RSA_2048,
        rh::NV_EK_P256,
        rh::NV_EK_P384,
        rh::NV_EK_CHAIN,
        last,
        rh::NV_AK_CERTIFICATE,
    ] {
        let content = session.nv_read(index);
        // PLATFORMCREATE, WRITTEN, NO_DA, AUTHREAD, OWNERREAD, PPREAD, WRITEDEFINE, WRITELOCKED, PPWRITE.
        assert_eq!(
            command::nv_public(&mut session, index).attributes,
            0x6207_2801
        );
        for by in [rh::OWNER, rh::PLATFORM, index] {
            assert_ne!(session.code(&command::nv_write(by, index, 0, &[0; 8])), 0);
        }
        for by in [rh::OWNER, rh::PLATFORM] {
            assert_ne!(session.code(&command::nv_undefine_space(by, index)), 0);
        }
        for by in [rh::OWNER, index] {
            session.ok(&command::nv_read(by, index, 0, 8));
        }
        session.ok(&command::clear());
        assert_eq!(session.nv_read(index), content);
    }
}

/// Other implementations' opinion.
#[test]
fn openssl_and_go_accept_the_chain() {
    let mut session = Setup::default().start();
    let authority = authority_der(&mut session);
    let certificates = EKS
        .into_iter()
        .chain([rh::NV_AK_CERTIFICATE])
        .map(|index| session.nv_read(index))
        .collect::<Vec<_>>();
    clients::openssl::verify(&authority, &certificates).unwrap();
    clients::go::verify(&authority, &certificates).unwrap();
}
