//! Made-up evidence: the story of a TD, told as a bundle. What it says is consistent; the tests then lie.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "what tests share, which clippy.toml does not take for tests"
)]
// Each test uses a part of it.
#![allow(dead_code)]

mod authority;

pub(crate) use authority::Authority;

use attestation::{
    bundle::{Binary, Bundle, FORMAT, Pcrs, Quote, VERSION},
    claims::{Claims, ca_report_data, ek_names_digest, pcr_banks_digest, report_data},
    digest::{Algorithm, Digests, extend_sha384, sha384},
    event_log::{
        EV_EVENT_TAG, EV_PLATFORM_CONFIG_FLAGS, EV_SEPARATOR, SpecId, TD_HOB_EVENT_NAME, cc_record,
    },
    journal::{Mode, PcrMirror, Record, Start, StartupType},
    launch::Launch,
    pcr::{Bank, banks_at_startup},
    report::Report,
    tpm::{
        Attest, Attested, ClockInfo, Curve, Key, PcrSelect, PcrSelection, Public, Signature,
        template,
    },
};
use rsa::{
    RsaPrivateKey, RsaPublicKey,
    pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePublicKey},
    signature::{SignatureEncoding, Signer},
    traits::PublicKeyParts,
};
use sha2::{Digest as _, Sha256, Sha384};
use std::sync::LazyLock;
use tdx_defs::report::{ReportMac, ReportType, TdInfo, TdReport, TeeTcbInfo};
use verifier::{Collateral, Policy};
use x509_cert::{der::oid::ObjectIdentifier, ext::pkix::KeyUsages};
use zerocopy::IntoBytes;

/// 2026-01-01, in Unix seconds: when the tests verify.
pub(crate) const NOW: u64 = 1_767_225_600;
pub(crate) const EK_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.1");
pub(crate) const AK_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.3");

static AK: LazyLock<RsaPrivateKey> =
    LazyLock::new(|| RsaPrivateKey::from_pkcs8_pem(include_str!("../keys/ak.pem")).unwrap());
static EK: LazyLock<RsaPublicKey> = LazyLock::new(|| {
    RsaPublicKey::from_public_key_pem(include_str!("../keys/ek.pub.pem")).unwrap()
});

/// What happens in the TD.
#[derive(Clone)]
pub(crate) struct Story {
    pub(crate) nonce: Vec<u8>,
    pub(crate) attributes: u64,
    pub(crate) mrtd: [u8; 48],
    pub(crate) mrowner: [u8; 48],
    pub(crate) hob: Vec<u8>,
    pub(crate) kernel: Vec<u8>,
    pub(crate) command_line: Vec<u8>,
    pub(crate) initrd: Option<Vec<u8>>,
    pub(crate) engine: String,
    pub(crate) mode: Mode,
    pub(crate) mirror: PcrMirror,
    /// PCR extends by the guest.
    pub(crate) extends: Vec<(u8, Vec<u8>)>,
    /// Other records, after those.
    pub(crate) life: Vec<Record>,
    /// Scalar of the CA's key.
    pub(crate) ca: u8,
    /// An event of L1's that does not exist, after the initrd.
    pub(crate) stray: Option<(u8, u32, Vec<u8>)>,
}

impl Default for Story {
    fn default() -> Story {
        Story {
            nonce: (1..=32).collect(),
            attributes: 1 << 28,
            mrtd: [0xaa; 48],
            mrowner: [0; 48],
            hob: b"a TD HOB list".to_vec(),
            kernel: b"a kernel".to_vec(),
            command_line: b"console=ttyS0 quiet".to_vec(),
            initrd: Some(b"an initrd".to_vec()),
            engine: "engine 1.0".into(),
            mode: Mode::Ephemeral,
            mirror: PcrMirror::Full,
            extends: vec![(10, b"by IMA".to_vec())],
            life: vec![Record::NvCommit { state: [7; 48] }],
            ca: 1,
            stray: None,
        }
    }
}

/// The registers of the TD and the CC event log, in step.
#[derive(Clone)]
struct Measured {
    rtmr: [[u8; 48]; 4],
    log: Vec<u8>,
    records: u32,
}

impl Measured {
    fn extend(&mut self, rtmr: u8, event_type: u32, digest: [u8; 48], data: &[u8]) {
        let register = &mut self.rtmr[usize::from(rtmr)];
        *register = extend_sha384(register, &digest);
        self.log
            .extend(cc_record(rtmr, event_type, digest, data).unwrap());
    }

    fn record(&mut self, record: &Record) {
        let data = record.to_event();
        self.extend(3, EV_EVENT_TAG, sha384(&data), &data);
        self.records += 1;
    }
}

/// A root that everybody has the key of, with its collateral.
pub(crate) fn collateral() -> Collateral {
    Collateral::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../sim/quoting/pki").as_ref()).unwrap()
}

impl Story {
    /// A policy that accepts this story and no other.
    pub(crate) fn policy(&self) -> Policy {
        Policy::parse(&self.policy_text(), ".".as_ref()).unwrap()
    }

    /// The same as a file's content.
    pub(crate) fn policy_text(&self) -> String {
        let mirror = self.mirror.name();
        let initrd = match &self.initrd {
            Some(initrd) => format!("[\"{}\"]", hex::encode(sha384(initrd))),
            None => "\"none\"".into(),
        };
        format!(
            "[td]\nmrtd = [\"{}\"]\nmrowner = [\"{}\"]\n\
             [firmware]\ntd_hob = \"{}\"\n\
             [launch]\nkernel = \"{}\"\ncommand_line = [\"{}\"]\ninitrd = {initrd}\n\
             [vtpm]\nengines = [\"{}\"]\nmodes = [\"ephemeral\"]\nmirror = [\"{mirror}\"]\nmax_resets = 1\n\
             [pcr]\nbeyond_log = [10]\n[pcr.sha256]\n16 = [\"{}\"]\n",
            hex::encode(self.mrtd),
            hex::encode(self.mrowner),
            hex::encode(sha384(&self.hob)),
            hex::encode(sha384(&self.kernel)),
            str::from_utf8(&self.command_line).unwrap(),
            self.engine,
            hex::encode([0; 32]),
        )
    }

    fn report(&self, measured: &Measured, report_data: [u8; 64]) -> [u8; 1024] {
        let td_info = TdInfo {
            attributes: self.attributes.to_le_bytes(),
            xfam: 0xe7u64.to_le_bytes(),
            mrtd: self.mrtd,
            mrconfigid: [0; 48],
            mrowner: self.mrowner,
            mrownerconfig: [0; 48],
            rtmr: measured.rtmr,
            servtd_hash: [0; 48],
            reserved: [0; 64],
        };
        let tee_tcb_info = TeeTcbInfo {
            valid: 0x301ffu64.to_le_bytes(),
            tee_tcb_svn: [5, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            mrseam: [3; 48],
            mrsignerseam: [0; 48],
            attributes: [0; 8],
            tee_tcb_svn2: [0; 16],
            reserved: [0; 95],
        };
        let report = TdReport {
            report_mac: ReportMac {
                report_type: ReportType {
                    kind: ReportType::TDX,
                    subtype: 0,
                    version: 0,
                    reserved: 0,
                },
                reserved_4: [0; 12],
                cpusvn: [0; 16],
                tee_tcb_info_hash: Sha384::digest(tee_tcb_info.as_bytes()).into(),
                tee_info_hash: Sha384::digest(td_info.as_bytes()).into(),
                report_data,
                reserved_192: [0; 32],
                mac: [0; 32],
            },
            tee_tcb_info,
            reserved: [0; 17],
            td_info,
        };
        report.as_bytes().try_into().unwrap()
    }

    fn ca_key(&self) -> p384::ecdsa::SigningKey {
        let mut scalar = [0; 48];
        scalar[47] = self.ca;
        p384::ecdsa::SigningKey::from_slice(&scalar).unwrap()
    }

    /// Tells it.
    pub(crate) fn tell(&self) -> Bundle {
        let mut td = Measured {
            rtmr: [[0; 48]; 4],
            log: SpecId::new(*b"td-shim").as_bytes().to_vec(),
            records: 0,
        };
        let hob_event = [
            &TD_HOB_EVENT_NAME[..],
            &(self.hob.len() as u32).to_le_bytes(),
            &self.hob,
        ]
        .concat();
        td.extend(0, EV_PLATFORM_CONFIG_FLAGS, sha384(&self.hob), &hob_event);
        for rtmr in [0, 1] {
            td.extend(rtmr, EV_SEPARATOR, sha384(&[0; 4]), &[0; 4]);
        }
        let rtmr0 = td.rtmr[0];
        let launch = Launch {
            version: "0.1.0",
            mrtd: &self.mrtd,
            rtmr0: &rtmr0,
            kernel: Digests::of(&self.kernel),
            command_line: &self.command_line,
            initrd: self.initrd.as_deref().map(Digests::of),
        };
        for (rtmr, event) in launch.rtmr_events() {
            td.extend(rtmr, event.event_type, event.digests.sha384, &event.data);
        }
        if let Some((rtmr, event_type, data)) = &self.stray {
            td.extend(*rtmr, *event_type, sha384(data), data);
        }

        let ca = Authority(self.ca_key());
        let [rsa, p256, p384, ak] = keys();
        let eks = [rsa.name(), p256.name(), p384.name()];
        td.record(&Record::Start(Start {
            engine: self.engine.clone(),
            interface: "PTP FIFO".into(),
            mode: self.mode,
            mirror: self.mirror,
            state: None,
            eks: eks.clone(),
            ak: ak.name(),
            ca: sha384(&ca.spki()),
        }));
        td.record(&Record::Startup(StartupType::Clear));
        let ca_report = self.report(&td, ca_report_data(&ca.spki()));
        let ca_certificate = ca.own(&quoting::quote(&ca_report).unwrap(), &td.log);

        let mut banks = banks_at_startup();
        let launched = launch
            .pcr_events()
            .into_iter()
            .map(|(pcr, event)| (pcr, event.digests));
        let later = self
            .extends
            .iter()
            .map(|(pcr, data)| (*pcr, Digests::of(data)));
        let mut changes = 0;
        for (pcr, digests) in launched.chain(later) {
            for bank in &mut banks {
                let digest = digests.get(bank.algorithm());
                bank.extend(u32::from(pcr), &digest).unwrap();
            }
            changes += 1;
            if self.mirror == PcrMirror::Full {
                td.record(&Record::PcrExtend {
                    pcr,
                    digests: digests.all().to_vec(),
                });
            }
        }
        for record in &self.life {
            td.record(record);
        }
        if self.mirror == PcrMirror::Summary {
            td.record(&Record::PcrSummary {
                changes,
                banks: pcr_banks_digest(&banks),
            });
        }

        let mut user_data = [0; 64];
        user_data[..self.nonce.len()].copy_from_slice(&self.nonce);
        let claims = Claims {
            ak_modulus: AK.n_bytes().to_vec(),
            ak_exponent: 65537,
            user_data,
            eks: ek_names_digest(&eks),
            pcrs: pcr_banks_digest(&banks),
            journal: td.rtmr[3],
            records: td.records,
        }
        .to_json();
        let td_report = self.report(&td, report_data(&claims));
        let report = Report {
            td_report: &td_report,
            claims: &claims,
        };
        let spki = |public: &Public| match &public.key {
            Key::Ecc { curve, x, y } => ec_spki(*curve, x, y),
            Key::Rsa { modulus, .. } if *modulus == AK.n_bytes()[..] => {
                AK.to_public_key().to_public_key_der().unwrap().into_vec()
            }
            Key::Rsa { .. } => EK.to_public_key_der().unwrap().into_vec(),
        };
        let ek_certificate = |public: &Public, usage: KeyUsages| {
            Binary(ca.certify(&spki(public), usage, EK_PURPOSE))
        };
        let attest = attest(&self.nonce, &banks).to_bytes();
        Bundle {
            format: FORMAT.into(),
            version: VERSION,
            nonce: hex::encode(&self.nonce),
            report: Binary(report.to_bytes().unwrap()),
            td_quote: Some(Binary(quoting::quote(&td_report).unwrap())),
            td_quote_status: 0,
            cc_event_log: Binary(td.log),
            tcg_event_log: Binary(launch.tcg_log().into_bytes()),
            ca_certificate: Binary(ca_certificate),
            ek_certificates: [
                ek_certificate(&rsa, KeyUsages::KeyEncipherment),
                ek_certificate(&p256, KeyUsages::KeyAgreement),
                ek_certificate(&p384, KeyUsages::KeyAgreement),
            ],
            ak_certificate: Binary(ca.certify(&spki(&ak), KeyUsages::DigitalSignature, AK_PURPOSE)),
            ek_public: Some(Binary(rsa.to_sized_bytes())),
            ak_public: Binary(ak.to_sized_bytes()),
            quote: Quote {
                signature: Binary(sign(&attest)),
                attest: Binary(attest),
            },
            certify: None,
            pcrs: pcrs(&banks),
        }
    }

    /// What the verifier says of a bundle, by this story's policy.
    pub(crate) fn verify(&self, bundle: &Bundle) -> verifier::Report {
        verifier::verify(bundle, &self.policy(), &collateral(), NOW, &self.nonce)
    }
}

/// A TPM quote over all PCRs.
pub(crate) fn attest(nonce: &[u8], banks: &[Bank]) -> Attest {
    let sha256 = banks
        .iter()
        .find(|bank| bank.algorithm() == Algorithm::Sha256)
        .unwrap();
    let values: Vec<u8> = sha256
        .values()
        .iter()
        .flat_map(|value| value.bytes().to_vec())
        .collect();
    Attest {
        qualified_signer: keys()[3].name(),
        extra_data: nonce.to_vec(),
        clock: ClockInfo {
            clock: 1,
            reset_count: 1,
            restart_count: 0,
            safe: true,
        },
        firmware_version: 1,
        attested: Attested::Quote {
            selection: PcrSelection(vec![PcrSelect::all(Algorithm::Sha256)]),
            digest: Sha256::digest(values).to_vec(),
        },
    }
}

/// The AK's TPMT_SIGNATURE.
pub(crate) fn sign(attest: &[u8]) -> Vec<u8> {
    let key = rsa::pkcs1v15::SigningKey::<Sha256>::new(AK.clone());
    Signature::RsaSsa {
        hash: Algorithm::Sha256,
        signature: key.sign(attest).to_vec(),
    }
    .to_bytes()
}

pub(crate) fn pcrs(banks: &[Bank]) -> Pcrs {
    let values = |algorithm| {
        let bank = banks.iter().find(|bank| bank.algorithm() == algorithm);
        let values = bank.into_iter().flat_map(Bank::values);
        values.map(ToString::to_string).collect()
    };
    Pcrs {
        sha1: values(Algorithm::Sha1),
        sha256: values(Algorithm::Sha256),
        sha384: values(Algorithm::Sha384),
        sha512: values(Algorithm::Sha512),
    }
}

/// EKs and AK.
pub(crate) fn keys() -> [Public; 4] {
    let p256 = p256::SecretKey::from_slice(&[1; 32]).unwrap().public_key();
    let p384 = p384::SecretKey::from_slice(&[1; 48]).unwrap().public_key();
    let (p256, p384) = (p256.to_sec1_bytes(), p384.to_sec1_bytes());
    let rsa = |modulus: Vec<u8>| Key::Rsa {
        bits: 2048,
        exponent: 0,
        modulus,
    };
    let ecc = |curve, point: &[u8]| {
        let (x, y) = point[1..].split_at(point.len() / 2);
        Key::Ecc {
            curve,
            x: x.to_vec(),
            y: y.to_vec(),
        }
    };
    [
        (template::ek_rsa_2048(), rsa(EK.n_bytes().to_vec())),
        (template::ek_p256(), ecc(Curve::P256, &p256)),
        (template::ek_p384(), ecc(Curve::P384, &p384)),
        (template::ak_rsa_2048(), rsa(AK.n_bytes().to_vec())),
    ]
    .map(|(template, key)| Public { key, ..template })
}

fn ec_spki(curve: Curve, x: &[u8], y: &[u8]) -> Vec<u8> {
    let point = [&[4], x, y].concat();
    let der = match curve {
        Curve::P256 => p256::PublicKey::from_sec1_bytes(&point)
            .unwrap()
            .to_public_key_der(),
        _ => p384::PublicKey::from_sec1_bytes(&point)
            .unwrap()
            .to_public_key_der(),
    };
    der.unwrap().into_vec()
}
