//! Bundles, their logs, and the policies that they are held to.

use crate::{HONEST, linear};
use attestation::{
    bundle::Bundle,
    digest::{Digests, sha384},
    event_log::{
        EV_EFI_PLATFORM_FIRMWARE_BLOB2, EV_IPL, Log, SpecId, TcgLog, cc_record, replay_pcrs,
        replay_rtmrs,
    },
    tpm::Name,
};
use evidence::{Boot, Evidence};
use verifier::{
    About, Account, Id,
    account::File,
    policy::{Allowed, KnownEks},
};
use zerocopy::IntoBytes;
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
