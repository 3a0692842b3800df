//! Logs of a launch, as others read them.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "logs of its own making"
)]

use attestation::digest::Digests;
use attestation::event_log::cc_record;
use attestation::launch::Launch;
use attestation::pcr::PcrBanks;
use clients::{Registers, eventlog_rs, tpm2_eventlog};
use zerocopy::IntoBytes;

const LAUNCH: Launch<'static> = Launch {
    version: "1.2.3",
    mrtd: &[1; 48],
    rtmr0: &[2; 48],
    kernel: Digests {
        sha1: Some([3; 20]),
        sha256: [4; 32],
        sha384: [5; 48],
        sha512: Some([6; 64]),
    },
    command_line: b"console=ttyS0",
    initrd: None,
};

#[test]
fn tpm2_eventlog_reads_our_tcg_log_as_we_do() {
    for names in [
        "sha256+sha384",
        "sha1+sha256+sha384",
        "sha1+sha256+sha384+sha512",
    ] {
        let banks = PcrBanks::from_names(names).unwrap();
        let log = LAUNCH.tcg_log(banks).into_bytes();
        let mut expected = Registers::new();
        for mut bank in banks.at_startup() {
            for (pcr, event) in LAUNCH.pcr_events() {
                let digest = event.digests.get(bank.algorithm()).unwrap();
                bank.extend(pcr.into(), &digest).unwrap();
            }
            for pcr in 0..9 {
                let value = hex::encode(bank.value(pcr).unwrap().bytes());
                expected.insert((bank.algorithm().name().to_owned(), pcr), value);
            }
        }
        assert_eq!(tpm2_eventlog::replay(&log).unwrap(), expected, "{names}");
        let events = eventlog_rs::events(&log).unwrap();
        assert_eq!(events, LAUNCH.pcr_events().len(), "{names}");
    }
}

#[test]
fn others_read_our_cc_log_as_we_do() {
    let mut log = attestation::event_log::SpecId::new(*b"td-shim")
        .as_bytes()
        .to_vec();
    let mut rtmrs = [[0; 48]; 4];
    for (rtmr, event) in LAUNCH.rtmr_events() {
        let digest = event.digests.sha384;
        log.extend(cc_record(rtmr, event.event_type, digest, &event.data).unwrap());
        let register = &mut rtmrs[usize::from(rtmr)];
        *register = attestation::digest::extend_sha384(register, &digest);
    }
    let expected: Registers = [(1, rtmrs[1]), (2, rtmrs[2])]
        .map(|(rtmr, value)| (("sha384".to_owned(), rtmr + 1), hex::encode(value)))
        .into();
    assert_eq!(tpm2_eventlog::replay_cc(&log).unwrap(), expected);
    assert_eq!(eventlog_rs::replay(&log).unwrap(), expected);
}
